"""Linear regression as a flax module."""

import jax
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)


class LinearRegression(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(1, dtype=x.dtype, param_dtype=x.dtype, name="dense")(x)  # (n, features) -> (n, 1)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    return LinearRegression().apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
