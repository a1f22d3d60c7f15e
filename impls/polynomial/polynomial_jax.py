"""A cubic in raw JAX."""

import jax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = tuple(Slot(f"polynomial/{name}", name) for name in "abcd")


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * x + c * x**2 + d * x**3  # (n, 1)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
