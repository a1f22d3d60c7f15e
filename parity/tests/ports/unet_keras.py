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


def build(mistake: str = "") -> keras.Model:
    def twice(x, width, stride, name):
        if stride == 1 or mistake == "padding":
            x = layers.Conv2D(width, 3, stride, padding="same", name=f"{name}_conv")(x)
        else:
            x = layers.Conv2D(width, 3, stride, name=f"{name}_conv")(layers.ZeroPadding2D(1)(x))
        epsilon = 1e-3 if mistake == "norm-epsilon" else 1e-5
        return layers.ReLU()(layers.GroupNormalization(GROUPS, epsilon=epsilon, name=f"{name}_norm")(x))

    def joined(x, skip):
        return layers.Concatenate()([skip, x] if mistake == "skip-order" else [x, skip])

    images = keras.Input((8, 8, 2))
    first = twice(images, WIDTH, 1, "enter")
    second = twice(first, 2 * WIDTH, 2, "down")
    x = layers.Conv2DTranspose(2 * WIDTH, 2, 2, name="up1")(twice(second, 4 * WIDTH, 2, "lower"))
    x = layers.Conv2DTranspose(WIDTH, 2, 2, name="up2")(twice(joined(x, second), 2 * WIDTH, 1, "join1"))
    x = twice(joined(x, first), WIDTH, 1, "join2")
    model = keras.Model(images, layers.Conv2D(1, 1, name="last")(x), name="unet")

    def loss_of(maps, predicted):
        errors = ops.square(ops.sigmoid(predicted) - maps)
        return ops.mean((1 + (errors if mistake == "stop-gradient" else ops.stop_gradient(errors))) * errors)

    model.compile(Adam(RATE, BETA_1, BETA_2, epsilon=1e-3 if mistake == "adam-epsilon" else 1e-8), loss_of)
    return model


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake)
    for variable in model.trainable_variables:
        variable.assign(weights[variable.path])
    losses = []
    with watch(model) as run:
        for images, maps in batches:
            losses.append(float(run.step(model.train_on_batch, images, maps)))
    return losses, {v.path: v.numpy() for v in model.variables}
