"""Activation functions, each with its derivative."""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def relu(x: Array) -> Array:
    """max(x, 0); NaN passes."""
    return np.maximum(x, 0)


def relu_backward(d_output: Array, output: Array) -> Array:
    """The derivative by the input: 0 where the output is exactly 0, as every framework's relu has it."""
    return d_output * (output > 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). As exp(-|x|) cannot overflow, the value for x < 0 is taken as e / (1 + e)."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(d_output: Array, output: Array) -> Array:
    """The derivative by the input."""
    return d_output * output * (1 - output)


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log Σ exp(x) along ``axis``, which cannot overflow."""
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_backward(d_output: Array, output: Array, axis: int = -1) -> Array:
    """The derivative by the input."""
    return d_output - np.exp(output) * d_output.sum(axis, keepdims=True)
