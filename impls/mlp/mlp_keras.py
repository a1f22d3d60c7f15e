"""The perceptron with several layers as a Keras model, its derivatives taken by ``tf.GradientTape``."""

from collections.abc import Sequence

import keras

from impls.mlp.spec import widths
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer


def layout(layers: int) -> Layout:
    kernels = [Slot(f"dense{n}/kernel", f"dense{n}/kernel") for n in range(1, layers + 1)]
    biases = [Slot(f"dense{n}/bias", f"dense{n}/bias") for n in range(1, layers + 1)]
    return (*kernels, *biases)


def forward(widths: Sequence[int], dtype: str) -> keras.Model:
    layers = [
        keras.layers.Dense(width, activation="relu", dtype=dtype, name=f"dense{n}")  # (n, in) -> (n, out)
        for n, width in enumerate(widths[1:], 1)
    ]
    return keras.Sequential([*layers, keras.layers.Activation("log_softmax", dtype=dtype)])  # (n, classes)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    sizes = widths(case.initial())
    return KerasTrainer(case, dtype, device, forward(sizes, dtype), layout(len(sizes) - 1))
