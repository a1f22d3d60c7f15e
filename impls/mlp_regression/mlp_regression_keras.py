"""The perceptron with one hidden layer as a Keras model, its derivatives taken by ``tf.GradientTape``."""

import keras

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_trainer import KerasTrainer

LAYOUT = (
    Slot("dense1/kernel", "dense1/kernel"),
    Slot("dense1/bias", "dense1/bias"),
    Slot("dense2/kernel", "dense2/kernel"),
    Slot("dense2/bias", "dense2/bias"),
)


def forward(hidden: int, dtype: str) -> keras.Model:
    a = keras.layers.Dense(hidden, activation="relu", dtype=dtype, name="dense1")  # (n, features) -> (n, hidden)
    prediction = keras.layers.Dense(1, dtype=dtype, name="dense2")  # (n, 1)
    return keras.Sequential([a, prediction])


def build(case: Case, dtype: str, device: str) -> KerasTrainer:
    hidden = len(case.initial()["dense1/bias"])
    return KerasTrainer(case, dtype, device, forward(hidden, dtype), LAYOUT)
