"""The perceptron with one hidden layer in raw JAX."""

import jax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("dense1/kernel", "kernel1"),
    Slot("dense1/bias", "bias1"),
    Slot("dense2/kernel", "kernel2"),
    Slot("dense2/bias", "bias2"),
)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    a = jax.nn.relu(x @ params["kernel1"] + params["bias1"])  # (n, features) -> (n, hidden)
    return a @ params["kernel2"] + params["bias2"]  # (n, 1)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
