"""The field's runs in Keras: models, losses and the loop, recorded in either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from parity.proving.field.setup import (
    CHANNELS,
    DEEP,
    HIDDEN,
    INPUTS,
    LENGTH,
    MAPS,
    OUTPUTS,
    SHADOWS,
    SIDE,
    UPDATES,
    WATCHED_DEEP,
    WATCHED_UPDATES,
    Setup,
    batches,
    data_of,
    weights_of,
)
from parity.recorder import Recorder
from parity.spec import Optimizer
from parity.typing import Params
from parity.watching import watch

KERAS_GATES = (1, 0, 2)
"""Keras has a GRU's update gate before its reset gate."""


def build(setup: Setup) -> Any:
    """The model of a run."""
    inputs: dict[str, Any] = {"convolutional": (SIDE, SIDE, CHANNELS), "recurrent": (LENGTH, INPUTS)}
    x = begun = keras.Input(inputs.get(setup.model, (INPUTS,)))
    if setup.model == "convolutional":
        if setup.padding == "symmetric":
            x = layers.ZeroPadding2D(1)(x)
        padding = "same" if setup.padding == "same" else "valid"
        x = layers.Conv2D(MAPS, 3, 2, padding=padding, name="conv")(x)
        x = layers.Activation("tanh")(x)
        if setup.pooling == "average":
            x = layers.AveragePooling2D(3, 1, padding="same")(x)
        if setup.flatten == "chw":
            x = layers.Permute((3, 1, 2))(x)
        x = layers.Flatten()(x)
    elif setup.model == "recurrent":
        cell = layers.LSTM if setup.cell == "lstm" else layers.GRU
        x = cell(HIDDEN, name="cell")(x)
    else:
        x = layers.Dense(HIDDEN, name="hidden")(x)
        if setup.model == "normalized":
            x = layers.BatchNormalization(momentum=1 - setup.norm_momentum, epsilon=setup.norm_epsilon, name="norm")(x)
        x = layers.LeakyReLU(setup.slope)(x) if setup.activation == "leaky" else layers.Activation("tanh")(x)
    return keras.Model(begun, layers.Dense(OUTPUTS, name="head")(x))


def load(model: Any, weights: Params) -> None:
    """Give a model its initial weights."""
    roles = {"kernel": "kernel", "bias": "bias", "scale": "gamma", "input": "kernel", "recurrent": "recurrent_kernel"}
    for name, value in weights.items():
        layer, role = name.split("/")
        own = model.get_layer(layer)
        if layer == "norm" and role == "bias":
            own.beta.assign(value)
        elif layer == "cell":
            if len(weights) == 6:  # a GRU with two biases
                value = np.concatenate([np.split(value, 3, -1)[gate] for gate in KERAS_GATES], -1)
            if role.endswith("bias"):
                bias = own.cell.bias.numpy()
                bias[... if bias.ndim == 1 else int(role == "recurrent_bias")] = value
                own.cell.bias.assign(bias)
            else:
                getattr(own.cell, roles[role]).assign(value)
        else:
            getattr(own, roles[role]).assign(value)


def run(
    folder: Path,
    setup: Setup,
    dtype: str,
    by_hand: bool,
    stirred: int | None = None,
    said: Optimizer | None = None,
) -> None:
    """Train and record: see ``parity.proving.field.torch_side.run``."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)
    try:
        _run(folder, setup, dtype, by_hand, stirred, said)
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def _run(folder: Path, setup: Setup, dtype: str, by_hand: bool, stirred: int | None, said: Optimizer | None) -> None:
    data, model = data_of(setup, dtype), build(setup)
    load(model, weights_of(setup, dtype, stirred))
    # Keras takes a plain float through float32, whatever the dtype, and not NumPy's.
    optimizer = keras.optimizers.SGD(np.float64(setup.rate), np.float64(setup.momentum))
    trained = model.trainable_variables
    optimizer.build(trained)

    def graded(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            prediction = model(x, training=True)
            squares = (prediction - y) ** 2
            loss = tf.reduce_sum(squares) if setup.reduction == "sum" else tf.reduce_mean(squares)
        return loss, prediction, tape.gradient(loss, trained)

    @tf.function
    def update(x: Any, y: Any) -> Any:
        loss, _, gradients = graded(x, y)
        optimizer.apply(gradients, trained)
        return loss

    parts = [
        (rows, tf.constant(data.x[rows]), tf.constant(data.y[rows]))
        for rows in batches(UPDATES if by_hand else WATCHED_UPDATES)
    ]
    if not by_hand:
        with watch(folder, model, optimizer, shadows=SHADOWS, deep=WATCHED_DEEP) as recording:
            for rows, x, y in parts:
                recording.step(update, x, y, rows=rows)
        return
    graded, apply = tf.function(graded), tf.function(lambda gradients: optimizer.apply(gradients, trained))

    def state() -> dict[str, Any]:
        return {v.path: v.numpy() for v in model.variables if "seed" not in v.path}

    with Recorder(folder, dtype, implementation="keras", deep=DEEP, optimizer=said) as recorder:
        recorder.snapshot(state())
        for rows, x, y in parts:
            begun = state()
            loss, prediction, gradients = graded(x, y)
            named = {v.path: tf.convert_to_tensor(g) for v, g in zip(trained, gradients, strict=True)}
            recorder.step(loss, rows=rows, prediction=prediction, gradients=named, params=begun)
            apply(gradients)
            recorder.snapshot(state())
