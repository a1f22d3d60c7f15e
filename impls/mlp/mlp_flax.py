"""The perceptron with several layers as a flax module."""

import jax
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from impls.mlp.spec import widths
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer


def layout(layers: int) -> Layout:
    kernels = [Slot(f"dense{n}/kernel", f"dense{n}/kernel") for n in range(1, layers + 1)]
    biases = [Slot(f"dense{n}/bias", f"dense{n}/bias") for n in range(1, layers + 1)]
    return (*kernels, *biases)


class Mlp(nn.Module):
    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        a = x
        for n, width in enumerate(self.widths[1:], 1):
            dense = nn.Dense(width, dtype=x.dtype, param_dtype=x.dtype, name=f"dense{n}")
            a = nn.relu(dense(a))  # (n, in) -> (n, out)
        return nn.log_softmax(a)  # (n, classes)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    return Mlp(widths(params)).apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(len(widths(case.initial())) - 1), forward)
