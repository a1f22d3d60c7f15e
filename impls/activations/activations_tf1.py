"""Activation functions of TensorFlow in a TF1 graph, differentiated by ``tf.compat.v1.gradients``."""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

FUNCTIONS = {"relu": tf.nn.relu, "sigmoid": tf.sigmoid, "tanh": tf.tanh}

LAYOUT = tuple(Slot(f"{name}/{role}", f"{name}/{role}") for name in FUNCTIONS for role in ("shift", "scale"))


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    columns = [params[f"{name}/scale"] * f(x + params[f"{name}/shift"]) for name, f in FUNCTIONS.items()]
    return tf.stack(columns, -1)  # (n, points) -> (n, points, 3)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
