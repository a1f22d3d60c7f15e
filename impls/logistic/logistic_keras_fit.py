"""Logistic regression as most people train it in Keras: Keras's own binary cross-entropy, ``compile`` and ``fit``."""

import keras

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_fit_trainer import fit_trainer

LAYOUT = (Slot("dense/kernel", "dense/kernel"), Slot("dense/bias", "dense/bias"))
REDUCTIONS = {"sum": "sum", "mean": "sum_over_batch_size"}


def forward(dtype: str) -> keras.Model:
    z = keras.layers.Dense(1, dtype=dtype, name="dense")  # (n, features) -> (n, 1)
    return keras.Sequential([z, keras.layers.Activation("sigmoid", dtype=dtype)])


def build(case: Case, dtype: str, device: str) -> Trainer:
    # Unlike BCELoss, this has no clamped logarithms: in a graph Keras finds the sigmoid, steps back before it and takes
    # the loss of the logits; elsewhere it clips probabilities at 1e-7. Both are the same until they saturate.
    loss = keras.losses.BinaryCrossentropy(reduction=REDUCTIONS[case.loss.reduction], dtype=dtype)
    return fit_trainer(case, dtype, device, forward(dtype), LAYOUT, loss)
