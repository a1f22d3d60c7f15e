"""Linear regression as most people train it in Keras: Keras's own squared error, ``compile`` and ``fit``."""

import keras

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_fit_trainer import fit_trainer

LAYOUT = (Slot("dense/kernel", "dense/kernel"), Slot("dense/bias", "dense/bias"))
REDUCTIONS = {"sum": "sum", "mean": "sum_over_batch_size"}


def forward(dtype: str) -> keras.Model:
    return keras.Sequential([keras.layers.Dense(1, dtype=dtype, name="dense")])  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> Trainer:
    loss = keras.losses.MeanSquaredError(reduction=REDUCTIONS[case.loss.reduction], dtype=dtype)  # a mean of one column
    return fit_trainer(case, dtype, device, forward(dtype), LAYOUT, loss)
