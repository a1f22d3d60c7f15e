"""Softmax regression as a Keras model, its derivatives taken by ``tf.GradientTape``."""

import keras

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)


def forward(classes: int, dtype: str) -> keras.Model:
    logits = keras.layers.Dense(classes, dtype=dtype, name="dense")  # (n, pixels) -> (n, classes)
    return keras.Sequential([logits])


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    classes = len(case.initial()["dense/bias"])
    return KerasTrainer(case, dtype, device, forward(classes, dtype), LAYOUT)
