"""The perceptron with one hidden layer as a TF1 graph, its derivatives taken by ``tf.compat.v1.gradients``."""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = (
    Slot("dense1/kernel", "kernel1"),
    Slot("dense1/bias", "bias1"),
    Slot("dense2/kernel", "kernel2"),
    Slot("dense2/bias", "bias2"),
)


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    a = tf.nn.relu(tf.matmul(x, params["kernel1"]) + params["bias1"])  # (n, features) -> (n, hidden)
    return tf.matmul(a, params["kernel2"]) + params["bias2"]  # (n, 1)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
