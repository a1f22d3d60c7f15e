"""The perceptron with several layers in raw JAX."""

import jax

from impls.mlp.spec import widths
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer


def layout(layers: int) -> Layout:
    kernels = [Slot(f"dense{n}/kernel", f"kernel{n}") for n in range(1, layers + 1)]
    biases = [Slot(f"dense{n}/bias", f"bias{n}") for n in range(1, layers + 1)]
    return (*kernels, *biases)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    a = x
    for n in range(1, len(params) // 2 + 1):
        a = jax.nn.relu(a @ params[f"kernel{n}"] + params[f"bias{n}"])  # (n, in) -> (n, out)
    return jax.nn.log_softmax(a)  # (n, classes)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, layout(len(widths(case.initial())) - 1), forward)
