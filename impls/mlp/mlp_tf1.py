"""The perceptron with several layers as a TF1 graph, its derivatives taken by ``tf.compat.v1.gradients``."""

import tensorflow as tf

from impls.mlp.spec import widths
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer


def layout(layers: int) -> Layout:
    kernels = [Slot(f"dense{n}/kernel", f"weights{n}") for n in range(1, layers + 1)]
    biases = [Slot(f"dense{n}/bias", f"bias{n}") for n in range(1, layers + 1)]
    return (*kernels, *biases)


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    a = x
    for n in range(1, len(params) // 2 + 1):
        a = tf.nn.relu(tf.matmul(a, params[f"weights{n}"]) + params[f"bias{n}"])  # (n, in) -> (n, out)
    return tf.nn.log_softmax(a)  # (n, classes)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, layout(len(widths(case.initial())) - 1))
