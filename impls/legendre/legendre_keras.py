"""a + b P₃(c + d x) as a Keras layer: P₃ as a ``keras.ops.custom_gradient``."""

from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = tuple(Slot(f"legendre/{name}", name) for name in "abcd")


@ops.custom_gradient
def legendre3(z: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        return upstream * 1.5 * (5 * z**2 - 1)

    return 0.5 * (5 * z**3 - 3 * z), gradient


class Legendre(keras.Layer):
    def build(self, input_shape: tuple[int, ...]) -> None:
        self.a, self.b, self.c, self.d = (self.add_weight(shape=(1,), name=name) for name in "abcd")

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.a + self.b * legendre3(self.c + self.d * x)  # (n, 1)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    return KerasTrainer(case, dtype, device, Legendre(dtype=dtype), LAYOUT)
