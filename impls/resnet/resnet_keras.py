"""A small residual network as a Keras model. Zeros are laid around an image by a layer: Keras's own SAME would lay them
behind alone at stride 2.
"""

import keras
import tensorflow as tf

from impls.resnet.spec import EPSILON, MOMENTUM
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

ROLES = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "variance": "moving_variance"}


def layout(case: Case) -> Layout:
    def own(name: str) -> str:
        layer, role = name.rsplit("/", 1)
        return f"{layer}/{ROLES[role]}" if "norm" in layer else name

    return [Slot(name, own(name)) for name in case.initial()]


def conv(out: int, size: int, stride: int, dtype: str, name: str) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(out, size, stride, "valid", use_bias=False, dtype=dtype, name=name)


def norm(dtype: str, name: str) -> keras.layers.BatchNormalization:
    return keras.layers.BatchNormalization(epsilon=EPSILON, momentum=MOMENTUM, dtype=dtype, name=name)


class Block(keras.Layer):
    def __init__(self, out: int, stride: int, dtype: str, name: str) -> None:
        super().__init__(dtype=dtype, name=name)
        self.pad = keras.layers.ZeroPadding2D(1, dtype=dtype)
        self.conv1, self.norm1 = conv(out, 3, stride, dtype, "conv1"), norm(dtype, "norm1")
        self.conv2, self.norm2 = conv(out, 3, 1, dtype, "conv2"), norm(dtype, "norm2")
        self.stride = stride
        if stride > 1:
            self.projection = conv(out, 1, stride, dtype, "projection")
            self.projection_norm = norm(dtype, "projection_norm")

    def call(self, h: tf.Tensor, training: bool = False) -> tf.Tensor:
        a = keras.ops.relu(self.norm1(self.conv1(self.pad(h)), training=training))
        a = self.norm2(self.conv2(self.pad(a)), training=training)
        if self.stride > 1:
            h = self.projection_norm(self.projection(h), training=training)
        return keras.ops.relu(a + h)


class ResNet(keras.Model):
    def __init__(self, width: int, wider: int, classes: int, dtype: str) -> None:
        super().__init__(dtype=dtype)
        self.pad = keras.layers.ZeroPadding2D(1, dtype=dtype)
        self.conv, self.norm = conv(width, 3, 1, dtype, "conv"), norm(dtype, "norm")
        self.block1, self.block2 = Block(width, 1, dtype, "block1"), Block(wider, 2, dtype, "block2")
        self.dense = keras.layers.Dense(classes, dtype=dtype, name="dense")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        h = keras.ops.relu(self.norm(self.conv(self.pad(x)), training=training))  # (n, 8, 8, 1) -> (n, 8, 8, 6)
        h = self.block2(self.block1(h, training=training), training=training)  # (n, 8, 8, 6) -> (n, 4, 4, 12)
        return self.dense(keras.ops.mean(h, (1, 2)))  # (n, 4, 4, 12) -> (n, 12) -> (n, 10)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    initial = case.initial()
    width, (wider, classes) = len(initial["norm/scale"]), initial["dense/kernel"].shape
    return KerasTrainer(case, dtype, device, ResNet(width, wider, classes, dtype), layout(case))
