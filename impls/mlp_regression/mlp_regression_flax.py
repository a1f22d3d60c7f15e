"""The perceptron with one hidden layer as a flax module."""

import jax
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("dense1/kernel", "dense1/kernel"),
    Slot("dense1/bias", "dense1/bias"),
    Slot("dense2/kernel", "dense2/kernel"),
    Slot("dense2/bias", "dense2/bias"),
)


class Mlp(nn.Module):
    hidden: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        dtypes = {"dtype": x.dtype, "param_dtype": x.dtype}
        a = nn.relu(nn.Dense(self.hidden, **dtypes, name="dense1")(x))  # (n, features) -> (n, hidden)
        return nn.Dense(1, **dtypes, name="dense2")(a)  # (n, 1)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    hidden = len(params["dense1/bias"])
    return Mlp(hidden).apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
