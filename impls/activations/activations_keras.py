"""Activation functions of ``keras.activations``, each in a layer of its own."""

from collections.abc import Callable

import keras
import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

FUNCTIONS = {"relu": keras.activations.relu, "sigmoid": keras.activations.sigmoid, "tanh": keras.activations.tanh}

LAYOUT = tuple(Slot(f"{name}/{role}", f"{name}/{role}") for name in FUNCTIONS for role in ("shift", "scale"))


class Pointwise(keras.layers.Layer):
    def __init__(self, name: str, function: Callable[[tf.Tensor], tf.Tensor], dtype: str) -> None:
        super().__init__(name=name, dtype=dtype)
        self.function = function

    def build(self, shape: tuple[int | None, int]) -> None:
        self.shift = self.add_weight(shape=shape[1:], initializer="zeros", name="shift")
        self.scale = self.add_weight(shape=shape[1:], initializer="ones", name="scale")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.scale * self.function(x + self.shift)


def forward(points: int, dtype: str) -> keras.Model:
    x = keras.Input((points,), dtype=dtype)
    columns = [Pointwise(name, f, dtype)(x) for name, f in FUNCTIONS.items()]
    return keras.Model(x, keras.ops.stack(columns, -1))  # (n, points) -> (n, points, 3)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    return KerasTrainer(case, dtype, device, forward(case.data().x.shape[1], dtype), LAYOUT)
