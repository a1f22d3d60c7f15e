"""The ResNet of ``resnet_torch`` as its porter wrote it in Keras, with a training step of its own."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

WIDTHS, STRIDES, CLASSES = (4, 8, 8), (1, 2, 2), 10
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, MOMENTUM, DECAY = np.float64(0.05), np.float64(0.9), 5e-3


class SGD(keras.optimizers.SGD):
    """Keras decays beside the gradient; torch's decay is a part of it, and goes through momentum."""

    mistake = ""

    def update_step(self, gradient, variable, learning_rate):
        if "kernel" in variable.name or self.mistake == "decay-mask":
            if self.mistake == "decay-decoupled":
                self.assign_sub(variable, RATE * DECAY * variable)
            else:
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
    x = conv(ops.flip(images, -1) if mistake == "channel-order" else images, WIDTHS[0], 3, 1, "stem")
    if mistake == "relu-first":
        x = norm(layers.ReLU()(x), "stem_norm")
    else:
        x = layers.ReLU(negative_slope=0.01 if mistake == "leaky-relu" else 0.0)(norm(x, "stem_norm"))
    for k, (width, stride) in enumerate(zip(WIDTHS, STRIDES, strict=True)):
        out = layers.ReLU()(norm(conv(x, width, 3, stride, f"block{k}_conv1"), f"block{k}_norm1"))
        out = norm(conv(out, width, 3, 1, f"block{k}_conv2"), f"block{k}_norm2")
        if stride > 1:
            x = norm(conv(x, width, 1, stride, f"block{k}_shortcut"), f"block{k}_norm3")
        if mistake == "residual-missing" and k == 0:
            x = layers.ReLU(name=f"block{k}_relu")(out)
        elif mistake == "relu-early" and k == 0:
            x = layers.Add(name=f"block{k}_add")([layers.ReLU(name=f"block{k}_relu")(out), x])
        else:
            x = layers.ReLU(name=f"block{k}_relu")(layers.Add(name=f"block{k}_add")([out, x]))
    x = (layers.MaxPooling2D if mistake == "max-pool" else layers.AveragePooling2D)(2)(x)
    if mistake != "flatten-order":
        x = layers.Permute((3, 1, 2))(x)
    head = layers.Dense(CLASSES, activation="softmax" if mistake == "softmax-twice" else None, name="head")
    return keras.Model(images, head(layers.Flatten()(x)), name="resnet")


def loss_of(labels, logits, mistake: str):
    if mistake == "label-smoothing":
        whole = ops.one_hot(labels, CLASSES, dtype=logits.dtype)
        return keras.losses.CategoricalCrossentropy(True, label_smoothing=0.1)(whole, logits)
    reduction = "sum" if mistake == "loss-sum" else "sum_over_batch_size"
    return keras.losses.SparseCategoricalCrossentropy(True, reduction=reduction)(labels, logits)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    rate = RATE * 10 if mistake == "rate-tenfold" else RATE
    optimizer = SGD(rate, MOMENTUM, nesterov=mistake == "nesterov")
    optimizer.mistake = mistake
    trained = model.trainable_variables[: -1 if mistake == "frozen-head-bias" else None]
    optimizer.build(trained)

    @tf.function
    def update(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=mistake != "running-statistics"), mistake)
        optimizer.apply(tape.gradient(loss, trained), trained)
        return loss

    losses = []
    with watch(model, optimizer) as run:
        for images, labels in batches:
            losses.append(float(run.step(update, tf.constant(images), tf.constant(labels))))
    return losses, {v.path: v.numpy() for v in model.variables}
