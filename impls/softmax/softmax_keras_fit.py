"""Softmax regression as most people train it in Keras: Keras's own cross-entropy, ``compile`` and ``fit``."""

import keras

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.keras_fit_trainer import fit_trainer

LAYOUT = (
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)
REDUCTIONS = {"sum": "sum", "mean": "sum_over_batch_size"}


def forward(classes: int, dtype: str) -> keras.Model:
    logits = keras.layers.Dense(classes, dtype=dtype, name="dense")  # (n, pixels) -> (n, classes)
    return keras.Sequential([logits])


def build(case: Case, dtype: str, device: str) -> Trainer:
    classes, reduction = len(case.initial()["dense/bias"]), REDUCTIONS[case.loss.reduction]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction, dtype=dtype)
    return fit_trainer(case, dtype, device, forward(classes, dtype), LAYOUT, loss)
