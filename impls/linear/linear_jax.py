"""Linear regression in raw JAX."""

import jax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("dense/kernel", "kernel"),
    Slot("dense/bias", "bias"),
)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    return x @ params["kernel"] + params["bias"]  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
