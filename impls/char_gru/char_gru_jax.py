"""A character model in raw JAX: a GRU in torch's form, ``lax.scan`` over the characters of a portion."""

import jax
import jax.numpy as jnp
from jax import lax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("embedding/table", "table"),
    Slot("gru/input_kernel", "input_kernel"),
    Slot("gru/recurrent_kernel", "recurrent_kernel"),
    Slot("gru/input_bias", "input_bias"),
    Slot("gru/recurrent_bias", "recurrent_bias"),
    Slot("gru/initial_state", "initial_state"),
    Slot("dense/kernel", "dense_kernel"),
    Slot("dense/bias", "dense_bias"),
)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    embedded = params["table"][x]  # (T,) -> (T, H)
    inputs = embedded @ params["input_kernel"] + params["input_bias"]  # (T, H) -> (T, 3H)

    def step(h: jax.Array, row: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = h @ params["recurrent_kernel"] + params["recurrent_bias"]  # (H,) -> (3H,)
        input_r, input_z, input_n = jnp.split(row, 3)
        hidden_r, hidden_z, hidden_n = jnp.split(hidden, 3)
        r, z = jax.nn.sigmoid(input_r + hidden_r), jax.nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        h = (1 - z) * n + z * h
        return h, h

    _, states = lax.scan(step, jnp.zeros_like(embedded[0]), inputs)  # (T, 3H) -> (T, H)
    return states @ params["dense_kernel"] + params["dense_bias"]  # (T, H) -> (T, characters)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward, unused=("initial_state",))
