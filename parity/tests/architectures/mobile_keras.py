"""The MobileNet of ``mobile_torch`` as its porter wrote it in Keras, with the functional API."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

CLASSES, RATE, MOMENTUM = 5, np.float64(0.05), np.float64(0.9)


def inverted(x, outputs: int, stride: int, name: str, mistake: str):
    inputs = x.shape[-1]
    y = layers.Conv2D(2 * inputs, 1, use_bias=False, name=f"{name}_expand")(x)
    y = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_expand_bn")(y)
    y = layers.ReLU(6, name=f"{name}_expand_relu")(y)
    if stride == 2:
        y = layers.ZeroPadding2D(1, name=f"{name}_pad")(y)
    y = layers.DepthwiseConv2D(3, stride, "valid" if stride == 2 else "same", use_bias=False, name=f"{name}_depthwise")(
        y
    )
    y = layers.BatchNormalization(
        momentum=0.9, epsilon=1e-3 if mistake == "norm-epsilon" else 1e-5, name=f"{name}_depthwise_bn"
    )(y)
    y = (
        layers.Activation("silu", name=f"{name}_depthwise_relu")
        if mistake == "activation"
        else layers.ReLU(6, name=f"{name}_depthwise_relu")
    )(y)
    y = layers.Conv2D(outputs, 1, use_bias=False, name=f"{name}_project")(y)
    y = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_project_bn")(y)
    if stride == 1 and inputs == outputs and mistake != "residual":
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def build(mistake: str = "") -> keras.Model:
    image = x = keras.Input((16, 16, 3))
    if mistake != "padding":
        x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    x = layers.Conv2D(8, 3, 2, "same" if mistake == "padding" else "valid", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="stem_bn")(x)
    x = layers.ReLU(6, name="stem_relu")(x)
    x = inverted(x, 8, 1, "b0", mistake if mistake in ("residual", "norm-epsilon") else "")
    x = inverted(x, 12, 2, "b1", mistake if mistake == "activation" else "")
    x = inverted(x, 12, 1, "b2", "")
    x = layers.Conv2D(16, 3, padding="same", groups=4, name="mix")(x)
    x = layers.BatchNormalization(momentum=0.1 if mistake == "norm-momentum" else 0.9, epsilon=1e-5, name="mix_bn")(x)
    x = layers.Activation("silu", name="mix_silu")(x)
    x = layers.AveragePooling2D(3, 1, "same", name="pool")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    if mistake == "dropout":
        x = layers.Dropout(0.2, seed=1, name="dropout")(x)
    x = layers.Dense(CLASSES, name="classifier")(x)
    model = keras.Model(image, x, name="mobile")
    model.compile(keras.optimizers.SGD(RATE, MOMENTUM), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


MISTAKES = {
    "norm-epsilon": "b0_depthwise_bn",
    "residual": "b0_add",
    "activation": "b1_depthwise_relu",
    "padding": "stem",
    "dropout": "dropout",
    "norm-momentum": "mix_bn",
}


def carry(model: keras.Model, weights: dict[str, Any]) -> None:
    def conv(layer, name, bias=False, depthwise=False):
        kernel = (
            weights[f"{name}.weight"].transpose(2, 3, 0, 1)
            if depthwise
            else weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        )
        model.get_layer(layer).set_weights([kernel, *([weights[f"{name}.bias"]] if bias else [])])

    def norm(layer, name):
        model.get_layer(layer).set_weights(
            [weights[f"{name}.{own}"] for own in ("weight", "bias", "running_mean", "running_var")]
        )

    conv("stem", "stem.0")
    norm("stem_bn", "stem.1")
    for k in range(3):
        for part in ("expand", "depthwise", "project"):
            conv(f"b{k}_{part}", f"blocks.{k}.{part}.0", depthwise=part == "depthwise")
            norm(f"b{k}_{part}_bn", f"blocks.{k}.{part}.1")
    conv("mix", "mix", bias=True)
    norm("mix_bn", "mix_norm")
    model.get_layer("classifier").set_weights([weights["classifier.weight"].T, weights["classifier.bias"]])


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model = build(mistake)
    carry(model, weights)
    with watch(model) as run:
        return [float(run.step(model.train_on_batch, images, labels)) for images, labels in batches]
