"""Activation functions, each with its derivative."""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def relu(x: Array) -> Array:
    """max(x, 0). NaN stays NaN."""
    return np.maximum(x, 0)


def relu_backward(d_output: Array, output: Array) -> Array:
    """The gradient of the input: 0 where the output is exactly 0, as in every framework."""
    return d_output * (output > 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). For x < 0 it is e / (1 + e) with e = exp(-|x|), which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(d_output: Array, output: Array) -> Array:
    """The gradient of the input, from the output and its gradient."""
    return d_output * output * (1 - output)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log Σ exp(x) along ``axis``, shifted by the maximum so that exp cannot overflow."""
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_backward(d_output: Array, output: Array, axis: int = -1) -> Array:
    """The gradient of the input, from the output and its gradient."""
    return d_output - np.exp(output) * d_output.sum(axis, keepdims=True)
