"""A character model as a TF1 graph: a GRU in torch's form, ``tf.scan`` looping over the characters of a portion.

TF1's own cells cannot express it: ``rnn_cell.GRUCell`` applies the reset before the product, unlike torch, and is
gone with Keras 3; the fused ``GRUBlockCell`` is float32 only.
"""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = (
    Slot("embedding/table", "table"),
    Slot("gru/input_kernel", "input_kernel"),
    Slot("gru/recurrent_kernel", "recurrent_kernel"),
    Slot("gru/input_bias", "input_bias"),
    Slot("gru/recurrent_bias", "recurrent_bias"),
    Slot("gru/initial_state", "initial_state"),
    Slot("dense/kernel", "dense_kernel"),
    Slot("dense/bias", "dense_bias"),
)


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    embedded = tf.gather(params["table"], x)  # (T,) -> (T, H)
    inputs = tf.matmul(embedded, params["input_kernel"]) + params["input_bias"]  # (T, H) -> (T, 3H)

    def step(h: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        hidden = tf.matmul(h, params["recurrent_kernel"]) + params["recurrent_bias"]  # (1, H) -> (1, 3H)
        input_r, input_z, input_n = tf.split(row[None], 3, -1)
        hidden_r, hidden_z, hidden_n = tf.split(hidden, 3, -1)
        r, z = tf.sigmoid(input_r + hidden_r), tf.sigmoid(input_z + hidden_z)
        n = tf.tanh(input_n + r * hidden_n)
        return (1 - z) * n + z * h

    states = tf.scan(step, inputs, tf.zeros_like(params["initial_state"]))  # (T, 3H) -> (T, 1, H)
    return tf.matmul(states[:, 0], params["dense_kernel"]) + params["dense_bias"]  # (T, H) -> (T, characters)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
