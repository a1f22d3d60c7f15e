"""The classifier of ``lstm_torch`` as its porter wrote it in Keras, compiled, with masked words."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

WORDS, WIDTH, HIDDEN, CLASSES = 12, 8, 8, 3
# Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
RATE, MOMENTUM, CLIP = np.float64(0.3), np.float64(0.9), 0.05


class SGD(keras.optimizers.SGD):
    """Clips as torch does: with 1e-6 beside the norm."""

    each = False

    def _clip_gradients(self, gradients):
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        norms = [tf.norm(g) if self.each else tf.linalg.global_norm(gradients) for g in gradients]
        one = tf.ones((), gradients[0].dtype)
        return [g * tf.minimum(one, CLIP / (norm + 1e-6)) for g, norm in zip(gradients, norms, strict=True)]


def build(mistake: str = "") -> keras.Model:
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(WORDS, WIDTH, mask_zero=mistake != "last-state", name="embedding"),
            layers.LSTM(HIDDEN, name="lstm"),
            layers.Dense(CLASSES, name="head"),
        ],
        name="classifier",
    )
    optimizer = SGD(RATE, MOMENTUM, global_clipnorm=CLIP)
    optimizer.each = mistake == "clip-per-tensor"
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake)
    for variable in model.trainable_variables:
        variable.assign(weights["/".join(variable.path.split("/")[1:])])
    if mistake == "forget-bias":
        bias = model.get_layer("lstm").cell.bias
        bias.assign(bias + np.eye(4)[1].repeat(HIDDEN))
    losses = []
    with watch(model) as run:
        for words, _, labels in batches:
            losses.append(float(run.step(model.train_on_batch, words, labels)))
    return losses, {v.path: v.numpy() for v in model.variables}
