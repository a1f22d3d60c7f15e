"""Look into runs of JAX: trees of arrays, flax and optax."""
