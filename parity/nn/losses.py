"""Training losses: the loss of each row and its derivative."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity.dtypes import smallest
from parity.nn.narrow import Narrow
from parity.typing import Array

Loss = Callable[[Array, Array], tuple[Array, Array]]
"""``(prediction, y)`` to the loss of each row, and the gradient of their sum by the prediction."""


def binary_crossentropy(p: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, as in torch's BCELoss: logs clamped at -100, p (1 - p) at 1e-12.

    The clamps matter where float32 rounds a probability to 0 or 1: without them the gradient is NaN.
    """
    with np.errstate(divide="ignore"):
        loss = -(y * np.maximum(np.log(p), -100) + (1 - y) * np.maximum(np.log1p(-p), -100))
    # In float16 1e-12 would be 0, and a row that is right beyond doubt would have the derivative 0 / 0.
    least = max(1e-12, smallest(p.narrow if isinstance(p, Narrow) else p.dtype.name))
    return loss, (p - y) / np.maximum(p * (1 - p), least)


def crossentropy(logits: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, from logits ``(..., classes)`` and integer classes ``(...)``.

    Softmax and logarithm are one step: the logarithm of a softmax that underflowed would be infinite.
    """
    shifted = logits - logits.max(-1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(-1, keepdims=True)
    targets = (*np.indices(y.shape), y)
    derivative = exponential / total
    derivative[targets] -= 1
    return np.log(total[..., 0]) - shifted[targets], derivative


def nll(log_probabilities: Array, y: Array) -> tuple[Array, Array]:
    """Loss of each row and its derivative, from log-probabilities ``(..., classes)`` and integer classes ``(...)``."""
    targets = (*np.indices(y.shape), y)
    derivative = np.zeros_like(log_probabilities)
    derivative[targets] = -1
    return -log_probabilities[targets], derivative


def squared_error(prediction: Array, y: Array) -> tuple[Array, Array]:
    """Squared error, not halved, and its derivative."""
    error = prediction - y
    return error * error, 2 * error


def total(prediction: Array, y: Array) -> tuple[Array, Array]:
    """The predictions themselves. The gradient of their sum holds the derivative of each output."""
    return prediction, np.ones_like(prediction)


LOSSES = {
    "binary_crossentropy": binary_crossentropy,
    "crossentropy": crossentropy,
    "nll": nll,
    "squared_error": squared_error,
    "total": total,
}
