"""Activation functions, each with its derivative."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

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


def erf(x: Array) -> Array:
    """The error function, 2 / √π ∫ exp(-t²) dt from 0 to x."""
    return np.array([math.erf(value) for value in np.ravel(x).tolist()]).reshape(np.shape(x))


def gelu(x: Array) -> Array:
    """x Φ(x), with the normal distribution's own Φ."""
    return x * (1 + erf(x / math.sqrt(2))) / 2


def gelu_tanh(x: Array) -> Array:
    """x Φ(x), with Φ approximated by a tanh."""
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def gelu_sigmoid(x: Array) -> Array:
    """x Φ(x), with Φ approximated by a sigmoid."""
    return x * sigmoid(1.702 * x)


def silu(x: Array) -> Array:
    """x σ(x), also called swish."""
    return x * sigmoid(x)


def leaky_relu(x: Array, slope: float) -> Array:
    """x where it is positive, ``slope`` times x elsewhere."""
    return np.where(x > 0, x, slope * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, α (exp(x) - 1) elsewhere."""
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x: Array) -> Array:
    """The elu that keeps mean 0 and variance 1."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), which cannot overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def mish(x: Array) -> Array:
    """x tanh(softplus(x))."""
    return x * np.tanh(softplus(x))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6)."""
    return np.clip(x, 0, 6)


def hard_sigmoid(x: Array) -> Array:
    """min(max(x / 6 + 1/2, 0), 1)."""
    return np.clip(x / 6 + 0.5, 0, 1)


def hard_silu(x: Array) -> Array:
    """x times its hard sigmoid."""
    return x * hard_sigmoid(x)


ELEMENTWISE: Mapping[str, Callable[[Array], Array]] = {
    "no activation": lambda x: x,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu of slope 0.01": partial(leaky_relu, slope=0.01),
    "leaky_relu of slope 0.2": partial(leaky_relu, slope=0.2),
    "leaky_relu of slope 0.3": partial(leaky_relu, slope=0.3),
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "gelu by tanh": gelu_tanh,
    "gelu by sigmoid": gelu_sigmoid,
    "silu": silu,
    "mish": mish,
    "softplus": softplus,
    "sigmoid": sigmoid,
    "hard sigmoid": hard_sigmoid,
    "hard silu": hard_silu,
    "tanh": np.tanh,
}
"""The activation functions that take each value by itself, by the names that a sentence has for them."""
