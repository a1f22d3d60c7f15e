"""A small GPT as a Keras model.

Of float64 Keras's GELU has a constant in float32, so GELU is written out, and attention is, to have one kernel for
query, key and value.
"""

import math

import keras
import tensorflow as tf
from keras import ops

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

HEADS, EPSILON = 2, 1e-5


def layout(case: Case) -> tuple[Slot, ...]:
    return tuple(Slot(name, keras_name(name)) for name in case.initial())


def keras_name(name: str) -> str:
    layer, _, role = name.rpartition("/")
    of_norm = {"scale": "gamma", "bias": "beta"} if "norm" in layer else {}
    return f"{layer}/{of_norm.get(role, 'embeddings' if role == 'table' else role)}"


def norm(dtype: str, name: str) -> keras.Layer:
    return keras.layers.LayerNormalization(epsilon=EPSILON, dtype=dtype, name=name)


def gelu(x: tf.Tensor) -> tf.Tensor:
    return x * (1 + ops.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2


class Block(keras.Layer):
    def __init__(self, width: int, dtype: str, name: str) -> None:
        super().__init__(dtype=dtype, name=name)
        self.norm1, self.norm2 = norm(dtype, "norm1"), norm(dtype, "norm2")
        self.attention = keras.layers.Dense(3 * width, use_bias=False, dtype=dtype, name="attention")
        self.projection = keras.layers.Dense(width, dtype=dtype, name="projection")
        self.up = keras.layers.Dense(4 * width, dtype=dtype, name="up")
        self.down = keras.layers.Dense(width, dtype=dtype, name="down")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        steps, width = x.shape[1:]
        joined = self.attention(self.norm1(x))  # (batch, T, C) -> (batch, T, 3C)
        # (batch, T, 3C) -> three of (batch, heads, T, C / heads)
        heads = ops.reshape(joined, (-1, steps, 3, HEADS, width // HEADS))
        query, key, value = ops.unstack(ops.transpose(heads, (2, 0, 3, 1, 4)), 3)
        scores = ops.matmul(query, ops.swapaxes(key, 2, 3)) * (width // HEADS) ** -0.5
        seen = ops.tril(ops.ones((steps, steps), "bool"))
        weights = ops.softmax(ops.where(seen, scores, ops.cast(-math.inf, scores.dtype)))  # (batch, heads, T, T)
        mixed = ops.transpose(ops.matmul(weights, value), (0, 2, 1, 3))  # (batch, T, heads, C / heads)
        h = x + self.projection(ops.reshape(mixed, (-1, steps, width)))
        return h + self.down(gelu(self.up(self.norm2(h))))  # (batch, T, C) -> (batch, T, 4C) -> (batch, T, C)


class Gpt(keras.Model):
    def __init__(self, characters: int, places: int, width: int, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.token = keras.layers.Embedding(characters, width, dtype=dtype, name="token")
        self.position = keras.layers.Embedding(places, width, dtype=dtype, name="position")
        self.block1, self.block2 = Block(width, dtype, "block1"), Block(width, dtype, "block2")
        self.norm = norm(dtype, "norm")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        h = self.token(x) + self.position(ops.arange(x.shape[1]))  # (batch, T) -> (batch, T, C)
        h = self.norm(self.block2(self.block1(h)))
        return ops.matmul(h, ops.transpose(self.token.embeddings))  # (batch, T, C) -> (batch, T, characters)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    (characters, width), (places, _) = (case.initial()[f"{name}/table"].shape for name in ("token", "position"))
    model = Gpt(characters, places, width, dtype)
    return KerasTrainer(case, dtype, device, model, layout(case))
