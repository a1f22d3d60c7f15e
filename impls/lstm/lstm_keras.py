"""A classifier of padded sequences as a Keras model: a cell of its own under ``layers.RNN``, which skips the padding.

``layers.LSTM`` has the same forward pass, but one bias where torch has two, whose sum moves twice as far under an
optimizer step. So the cell here keeps both, and the gates in torch's order.
"""

import keras
import tensorflow as tf
from keras import ops

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (
    Slot("embedding/table", "embedding/embeddings"),
    Slot("lstm/input_kernel", "lstm/cell/kernel"),
    Slot("lstm/recurrent_kernel", "lstm/cell/recurrent_kernel"),
    Slot("lstm/input_bias", "lstm/cell/bias"),
    Slot("lstm/recurrent_bias", "lstm/cell/recurrent_bias"),
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)


class Cell(keras.Layer):
    def __init__(self, size: int, dtype: str) -> None:
        super().__init__(dtype=dtype, name="cell")
        self.units, self.state_size, self.output_size = size, [size, size], size

    def build(self, shape: tuple[int, ...]) -> None:
        self.kernel = self.add_weight(shape=(shape[-1], 4 * self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, 4 * self.units), name="recurrent_kernel")
        self.bias = self.add_weight(shape=(4 * self.units,), name="bias")
        self.recurrent_bias = self.add_weight(shape=(4 * self.units,), name="recurrent_bias")

    def call(self, x: tf.Tensor, states: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        h, c = states
        inputs = ops.matmul(x, self.kernel) + self.bias  # (n, E) -> (n, 4H)
        sums = inputs + (ops.matmul(h, self.recurrent_kernel) + self.recurrent_bias)  # (n, H) -> (n, 4H)
        i, f, g, o = ops.split(sums, 4, -1)  # (n, 4H) -> 4 of (n, H)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        h = ops.sigmoid(o) * ops.tanh(c)
        return h, [h, c]


class Lstm(keras.Model):
    def __init__(self, words: int, width: int, hidden: int, classes: int, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.embedding = keras.layers.Embedding(words, width, mask_zero=True, dtype=dtype, name="embedding")
        self.lstm = keras.layers.RNN(Cell(hidden, dtype), dtype=dtype, name="lstm")
        self.dense = keras.layers.Dense(classes, dtype=dtype, name="dense")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        embedded = self.embedding(x)  # (n, T) -> (n, T, E)
        last = self.lstm(embedded, mask=self.embedding.compute_mask(x))  # (n, T, E) -> (n, H)
        return self.dense(last)  # (n, H) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    initial = case.initial()
    (words, width), (hidden, classes) = initial["embedding/table"].shape, initial["dense/kernel"].shape
    return KerasTrainer(case, dtype, device, Lstm(words, width, hidden, classes, dtype), LAYOUT)
