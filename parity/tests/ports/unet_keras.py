"""The U-Net of ``unet_torch`` as its porter wrote it in Keras, compiled."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops

WIDTH, GROUPS = 4, 2
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, BETA_1, BETA_2 = np.float64(3e-3), np.float64(0.9), np.float64(0.999)


class Adam(keras.optimizers.Adam):
    """As torch's: epsilon comes after the correction of the bias, whose powers of the betas need double precision.

    In float32 1 - 0.999 has four digits, and Keras's first steps are 1e-5 of themselves off.
    """

    def update_step(self, gradient, variable, learning_rate):
        index, step = self._get_variable_index(variable), ops.cast(self.iterations + 1, "float64")
        m, v = self._momentums[index], self._velocities[index]
        self.assign_add(m, (gradient - m) * (1 - self.beta_1))
        self.assign_add(v, (gradient * gradient - v) * (1 - self.beta_2))
        rate = ops.cast(learning_rate, "float64") / (1 - self.beta_1**step)
        root = ops.sqrt(v) / ops.cast(ops.sqrt(1 - self.beta_2**step), variable.dtype)
        self.assign_sub(variable, ops.cast(rate, variable.dtype) * m / (root + self.epsilon))


class Turned(layers.Conv2DTranspose):
    """As a convolution, not its gradient, takes the kernel."""

    def call(self, x):
        return ops.conv_transpose(x, ops.flip(self.kernel, (0, 1)), self.strides, "valid") + self.bias


def build(mistake: str = "") -> keras.Model:
    def twice(x, width, stride, name):
        if stride == 1 or mistake == "padding":
            x = layers.Conv2D(width, 3, stride, padding="same", name=f"{name}_conv")(x)
        else:
            x = layers.Conv2D(width, 3, stride, name=f"{name}_conv")(layers.ZeroPadding2D(1)(x))
        epsilon, groups = 1e-3 if mistake == "norm-epsilon" else 1e-5, 1 if mistake == "groups" else GROUPS
        norm = layers.GroupNormalization(groups, epsilon=epsilon, name=f"{name}_norm")
        if mistake == "relu-first":
            return norm(layers.ReLU()(x)), None
        early = norm(x)
        return layers.ReLU(negative_slope=0.01 if mistake == "leaky-relu" else 0.0)(early), early

    def joined(x, skip):
        return layers.Concatenate()([skip, x] if mistake == "skip-order" else [x, skip])

    images, up = keras.Input((8, 8, 2)), Turned if mistake == "up-flipped" else layers.Conv2DTranspose
    first, _ = twice(images, WIDTH, 1, "enter")
    second, early = twice(first, 2 * WIDTH, 2, "down")
    x, _ = twice(second, 4 * WIDTH, 2, "lower")
    if mistake == "dropout":
        x = layers.Dropout(0.05, seed=0, name="dropout")(x)
    if mistake == "skip-stopped":
        first = ops.stop_gradient(first)
    x = up(2 * WIDTH, 2, 2, name="up1")(x)
    x, _ = twice(joined(x, early if mistake == "skip-early" else second), 2 * WIDTH, 1, "join1")
    x, _ = twice(joined(up(WIDTH, 2, 2, name="up2")(x), first), WIDTH, 1, "join2")
    last = layers.Conv2D(1, 1, activation="sigmoid" if mistake == "sigmoid-twice" else None, name="last")
    model = keras.Model(images, last(x), name="unet")

    def loss_of(maps, predicted):
        errors = ops.square(ops.sigmoid(predicted) - maps)
        errors = (1 + (errors if mistake == "stop-gradient" else ops.stop_gradient(errors))) * errors
        return ops.sum(errors) if mistake == "loss-sum" else ops.mean(errors)

    rate, beta_2 = RATE * 10 if mistake == "rate-tenfold" else RATE, 0.99 if mistake == "beta-2" else BETA_2
    decay, epsilon = 0.01 if mistake == "decay-added" else None, 1e-3 if mistake == "adam-epsilon" else 1e-8
    model.compile(Adam(rate, BETA_1, beta_2, epsilon=epsilon, weight_decay=decay), loss_of)
    return model


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    if mistake == "frozen-bias":
        model.get_layer("last").bias.trainable = False
    losses = []
    with watch(model) as run:
        for images, maps in batches:
            losses.append(float(run.step(model.train_on_batch, images, maps)))
    return losses, {v.path: v.numpy() for v in model.variables}
