"""A cubic as a TF1 graph, its derivatives taken by ``tf.compat.v1.gradients``."""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = tuple(Slot(f"polynomial/{name}", name) for name in "abcd")


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * x + c * x**2 + d * x**3  # (n, 1)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
