"""A cubic as a Keras layer, its derivatives taken by ``tf.GradientTape``."""

import keras
import tensorflow as tf

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = tuple(Slot(f"polynomial/{name}", name) for name in "abcd")


class Cubic(keras.Layer):
    def build(self, input_shape: tuple[int, ...]) -> None:
        self.a, self.b, self.c, self.d = (self.add_weight(shape=(1,), name=name) for name in "abcd")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.a + self.b * x + self.c * x**2 + self.d * x**3  # (n, 1)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    return KerasTrainer(case, dtype, device, Cubic(dtype=dtype), LAYOUT)
