"""Linear regression as a Keras model, its derivatives taken by ``tf.GradientTape``."""

import keras

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (Slot("dense/kernel", "dense/kernel"), Slot("dense/bias", "dense/bias"))


def forward(dtype: str) -> keras.Model:
    return keras.Sequential([keras.layers.Dense(1, dtype=dtype, name="dense")])  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    return KerasTrainer(case, dtype, device, forward(dtype), LAYOUT)
