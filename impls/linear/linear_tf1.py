"""Linear regression as a TF1 graph, its derivatives taken by ``tf.compat.v1.gradients``."""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = (Slot("dense/kernel", "weights"), Slot("dense/bias", "bias"))


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, params["weights"]) + params["bias"]  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
