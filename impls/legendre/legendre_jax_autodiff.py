"""a + b P₃(c + d x) in raw JAX: P₃ under ``jax.grad``."""

import jax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = tuple(Slot(f"legendre/{name}", name) for name in "abcd")


def legendre3(z: jax.Array) -> jax.Array:
    return 0.5 * (5 * z**3 - 3 * z)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * legendre3(c + d * x)  # (n, 1)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
