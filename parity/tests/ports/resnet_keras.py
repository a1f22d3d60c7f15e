"""The ResNet of ``resnet_torch`` as its porter wrote it in Keras, with a training step of its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

WIDTHS, STRIDES, CLASSES = (4, 8, 8), (1, 2, 2), 10
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, MOMENTUM, DECAY = np.float64(0.05), np.float64(0.9), 5e-3


class SGD(keras.optimizers.SGD):
    """Keras decays beside the gradient; torch's decay is a part of it, and goes through momentum."""

    everything = False

    def update_step(self, gradient, variable, learning_rate):
        if "kernel" in variable.name or self.everything:
            gradient = gradient + DECAY * variable
        super().update_step(gradient, variable, learning_rate)


def build(mistake: str = "") -> keras.Model:
    epsilon, momentum = 1e-3 if mistake == "norm-epsilon" else 1e-5, 0.1 if mistake == "norm-momentum" else 0.9

    def norm(x, name):
        return layers.BatchNormalization(momentum=momentum, epsilon=epsilon, name=name)(x)

    def conv(x, width, size, stride, name):
        if size == 3 and (stride == 1 or mistake == "padding"):
            return layers.Conv2D(width, 3, stride, padding="same", use_bias=False, name=name)(x)
        if size == 3:
            x = layers.ZeroPadding2D(1)(x)
        return layers.Conv2D(width, size, stride, use_bias=False, name=name)(x)

    images = keras.Input((16, 16, 3))
    x = layers.ReLU()(norm(conv(images, WIDTHS[0], 3, 1, "stem"), "stem_norm"))
    for k, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        out = layers.ReLU()(norm(conv(x, width, 3, stride, f"block{k}_conv1"), f"block{k}_norm1"))
        out = norm(conv(out, width, 3, 1, f"block{k}_conv2"), f"block{k}_norm2")
        if stride > 1:
            x = norm(conv(x, width, 1, stride, f"block{k}_shortcut"), f"block{k}_norm3")
        x = layers.ReLU()(layers.Add()([out, x]))
    x = layers.AveragePooling2D(2)(x)
    if mistake != "flatten-order":
        x = layers.Permute((3, 1, 2))(x)
    return keras.Model(images, layers.Dense(CLASSES, name="head")(layers.Flatten()(x)), name="resnet")


loss_of = keras.losses.SparseCategoricalCrossentropy


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model, loss_fn = build(mistake), loss_of(from_logits=True)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    optimizer = SGD(RATE, MOMENTUM)
    optimizer.everything = mistake == "decay-mask"
    optimizer.build(model.trainable_variables)

    @tf.function
    def update(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_fn(labels, model(images, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for images, labels in batches:
            losses.append(float(run.step(update, tf.constant(images), tf.constant(labels))))
    return losses, {v.path: v.numpy() for v in model.variables}
