"""A classifier of padded sequences as a TF1 graph: an LSTM in torch's form, ``tf.scan`` looping over the steps.

TF1's own cells cannot express it: ``rnn_cell.LSTMCell`` has one bias, and is gone with Keras 3.
"""

import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.tf1_trainer import Tensors, Tf1Trainer

LAYOUT = (
    Slot("embedding/table", "table"),
    Slot("lstm/input_kernel", "input_kernel"),
    Slot("lstm/recurrent_kernel", "recurrent_kernel"),
    Slot("lstm/input_bias", "input_bias"),
    Slot("lstm/recurrent_bias", "recurrent_bias"),
    Slot("dense/kernel", "dense_kernel"),
    Slot("dense/bias", "dense_bias"),
)

State = tuple[tf.Tensor, tf.Tensor]


def forward(params: Tensors, x: tf.Tensor) -> tf.Tensor:
    words = tf.transpose(x)  # (n, T) -> (T, n)
    embedded = tf.gather(params["table"], words)  # (T, n) -> (T, n, E)
    inputs = tf.matmul(embedded, params["input_kernel"]) + params["input_bias"]  # (T, n, E) -> (T, n, 4H)

    def step(state: State, now: State) -> State:
        (h, c), (row, counts) = state, now
        sums = row + (tf.matmul(h, params["recurrent_kernel"]) + params["recurrent_bias"])  # (n, H) -> (n, 4H)
        i, f, g, o = tf.split(sums, 4, -1)  # (n, 4H) -> 4 of (n, H)
        new = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        out = tf.sigmoid(o) * tf.tanh(new)
        return tf.where(counts, out, h), tf.where(counts, new, c)

    zeros = tf.zeros((tf.shape(x)[0], params["recurrent_kernel"].shape[0]), embedded.dtype)
    states, _ = tf.scan(step, (inputs, tf.not_equal(words, 0)[..., None]), (zeros, zeros))  # (T, n, 4H) -> (T, n, H)
    return tf.matmul(states[-1], params["dense_kernel"]) + params["dense_bias"]  # (n, H) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> Tf1Trainer:
    return Tf1Trainer(case, dtype, device, forward, LAYOUT)
