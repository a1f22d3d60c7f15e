"""a + b P₃(c + d x) as a TF1 graph: P₃ under ``tf.compat.v1.gradients``."""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = tuple(Slot(f"legendre/{name}", name) for name in "abcd")


def legendre3(z: tf.Tensor) -> tf.Tensor:
    return 0.5 * (5 * z**3 - 3 * z)


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * legendre3(c + d * x)  # (n, 1)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
