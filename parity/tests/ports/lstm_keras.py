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

    mistake = ""

    def _clip_gradients(self, gradients):
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.mistake == "clip-missing":
            return gradients
        if self.mistake == "clip-value":
            return [tf.clip_by_value(g, -CLIP, CLIP) for g in gradients]
        each = self.mistake == "clip-per-tensor"
        norms = [tf.norm(g) if each else tf.linalg.global_norm(gradients) for g in gradients]
        one = tf.ones((), gradients[0].dtype)
        return [g * tf.minimum(one, CLIP / (norm + 1e-6)) for g, norm in zip(gradients, norms, strict=True)]


class Scaled(layers.Layer):
    supports_masking = True

    def call(self, x):
        return x * WIDTH**0.5


def smoothed(labels, logits):
    whole = keras.ops.one_hot(labels, CLASSES, dtype=logits.dtype)
    return keras.losses.categorical_crossentropy(whole, logits, from_logits=True, label_smoothing=0.1)


def loss_of(mistake: str):
    if mistake == "label-smoothing":
        return smoothed
    reduction = "sum" if mistake == "loss-sum" else "sum_over_batch_size"
    ignored = 0 if mistake == "ignored-class" else None
    return keras.losses.SparseCategoricalCrossentropy(True, ignored, reduction)


def build(mistake: str = "") -> keras.Model:
    lstm = layers.LSTM(
        HIDDEN,
        recurrent_activation="hard_sigmoid" if mistake == "gate-activation" else "sigmoid",
        return_sequences=mistake == "mean-state",
        go_backwards=mistake == "backwards",
        name="lstm",
    )
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(WORDS, WIDTH, mask_zero=mistake != "last-state", name="embedding"),
            *([Scaled(name="scaled_embedding")] if mistake == "embedding-scaled" else []),
            lstm,
            *([layers.GlobalAveragePooling1D()] if mistake == "mean-state" else []),
            *([layers.Dropout(0.05, seed=0, name="dropout")] if mistake == "dropout" else []),
            layers.Dense(CLASSES, activation="softmax" if mistake == "softmax-twice" else None, name="head"),
        ],
        name="classifier",
    )
    rate, momentum = RATE * 10 if mistake == "rate-tenfold" else RATE, 0.99 if mistake == "momentum" else MOMENTUM
    optimizer = SGD(rate, momentum, nesterov=mistake == "nesterov", global_clipnorm=CLIP)
    optimizer.mistake = mistake
    model.compile(optimizer, loss_of(mistake))
    return model


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake)
    for variable in model.trainable_variables:
        variable.assign(weights["/".join(variable.path.split("/")[1:])])
    if mistake == "forget-bias":
        bias = model.get_layer("lstm").cell.bias
        bias.assign(bias + np.eye(4)[1].repeat(HIDDEN))
    if mistake == "frozen-embedding":
        model.get_layer("embedding").trainable = False
    losses = []
    with watch(model) as run:
        for words, _, labels in batches:
            losses.append(float(run.step(model.train_on_batch, words, labels)))
    return losses, {v.path: v.numpy() for v in model.variables}
