"""Activation functions, with derivatives where models of this project need them.

Each takes arrays of any shape and computes in their dtype, but for ``erf`` and ``gelu``, which are float64's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from parity.typing import Array


def relu(x: Array) -> Array:
    """max(x, 0). NaN stays NaN.

    Nair and Hinton, Rectified Linear Units, 2010.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> relu(np.array([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return np.maximum(x, 0)


def relu_backward(d_output: Array, output: Array) -> Array:
    """Give the gradient of the input: 0 where the output is exactly 0, as in every framework.

    Args:
        d_output: The gradient of the output.
        output: The output.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> relu_backward(np.ones(2), np.array([0.0, 2.0])).tolist()
        [0.0, 1.0]
    """
    return d_output * (output > 0)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)). For x < 0 it is e / (1 + e) with e = exp(-|x|), which cannot overflow.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> sigmoid(np.array([0.0, -1000.0])).tolist()
        [0.5, 0.0]
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def sigmoid_backward(d_output: Array, output: Array) -> Array:
    """Give the gradient of the input, from the output and its gradient.

    Args:
        d_output: The gradient of the output.
        output: The output.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> sigmoid_backward(np.ones(1), np.array([0.5])).tolist()
        [0.25]
    """
    return d_output * output * (1 - output)


def log_sigmoid(x: Array) -> Array:
    """log(sigmoid(x)), finite where the sigmoid underflows.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> log_sigmoid(np.array([-1000.0])).tolist()
        [-1000.0]
    """
    return -softplus(-x)


def tanh(x: Array) -> Array:
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)).

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> tanh(np.zeros(1)).tolist()
        [0.0]
    """
    return np.tanh(x)


def tanh_backward(d_output: Array, output: Array) -> Array:
    """Give the gradient of the input, from the output and its gradient.

    Args:
        d_output: The gradient of the output.
        output: The output.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> tanh_backward(np.ones(1), np.array([0.5])).tolist()
        [0.75]
    """
    return d_output * (1 - output * output)


def softmax(x: Array, axis: int = -1) -> Array:
    """exp(x) / Σ exp(x) along an axis, shifted by the maximum so that exp cannot overflow.

    Args:
        x: Any shape.
        axis: The axis whose values share one whole.

    Returns:
        An array of the same shape.

    Examples:
        >>> softmax(np.array([[1000.0, 1000.0]])).tolist()
        [[0.5, 0.5]]
    """
    exponential = np.exp(x - x.max(axis, keepdims=True))
    return exponential / exponential.sum(axis, keepdims=True)


def softmax_backward(d_output: Array, output: Array, axis: int = -1) -> Array:
    """Give the gradient of the input, from the output and its gradient.

    Args:
        d_output: The gradient of the output.
        output: The output.
        axis: The axis whose values share one whole.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> softmax_backward(np.array([1.0, 0.0]), np.array([0.5, 0.5])).tolist()
        [0.25, -0.25]
    """
    return output * (d_output - (d_output * output).sum(axis, keepdims=True))


def log_softmax(x: Array, axis: int = -1) -> Array:
    """x - log Σ exp(x) along an axis, shifted by the maximum so that exp cannot overflow.

    Args:
        x: Any shape.
        axis: The axis whose values share one whole.

    Returns:
        An array of the same shape.

    Examples:
        >>> log_softmax(np.array([[0.0, -1000.0]])).tolist()
        [[0.0, -1000.0]]
    """
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def log_softmax_backward(d_output: Array, output: Array, axis: int = -1) -> Array:
    """Give the gradient of the input, from the output and its gradient.

    Args:
        d_output: The gradient of the output.
        output: The output.
        axis: The axis whose values share one whole.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> log_softmax_backward(np.array([1.0, 0.0]), np.log([0.5, 0.5])).tolist()
        [0.5, -0.5]
    """
    return d_output - np.exp(output) * d_output.sum(axis, keepdims=True)


def erf(x: Array) -> Array:
    """The error function, 2 / √π ∫ exp(-t²) dt from 0 to x.

    Args:
        x: Any shape.

    Returns:
        A float64 array of the same shape.

    Examples:
        >>> erf(np.array([0.0, 6.0])).tolist()
        [0.0, 1.0]
    """
    return np.array([math.erf(value) for value in np.ravel(x).tolist()]).reshape(np.shape(x))


def gelu(x: Array) -> Array:
    """x Φ(x), with the normal distribution's own Φ.

    Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    Args:
        x: Any shape.

    Returns:
        A float64 array of the same shape.

    Examples:
        >>> gelu(np.array([-9.0, 0.0, 9.0])).tolist()
        [-0.0, 0.0, 9.0]
    """
    return x * (1 + erf(x / math.sqrt(2))) / 2


def gelu_backward(d_output: Array, x: Array) -> Array:
    """Give the gradient of the input: Φ(x) + x φ(x) times that of the output.

    Args:
        d_output: The gradient of the output.
        x: The input.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> gelu_backward(np.ones(1), np.zeros(1)).tolist()
        [0.5]
    """
    density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return d_output * ((1 + erf(x / math.sqrt(2))) / 2 + x * density)


def gelu_tanh(x: Array) -> Array:
    """x Φ(x), with Φ approximated by a tanh, as GPT-2 has it.

    Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> gelu_tanh(np.array([-9.0, 0.0, 9.0])).tolist()
        [-0.0, 0.0, 9.0]
    """
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))) / 2


def gelu_tanh_backward(d_output: Array, x: Array) -> Array:
    """Give the gradient of the input.

    Args:
        d_output: The gradient of the output.
        x: The input.

    Returns:
        The gradient of x, of the same shape.

    Examples:
        >>> gelu_tanh_backward(np.ones(1), np.zeros(1)).tolist()
        [0.5]
    """
    root = math.sqrt(2 / math.pi)
    t = np.tanh(root * (x + 0.044715 * x * x * x))
    return d_output * ((1 + t) / 2 + x * (1 - t * t) / 2 * root * (1 + 3 * 0.044715 * x * x))


def gelu_sigmoid(x: Array) -> Array:
    """x Φ(x), with Φ approximated by a sigmoid.

    Hendrycks and Gimpel, Gaussian Error Linear Units, 2016.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> gelu_sigmoid(np.zeros(1)).tolist()
        [0.0]
    """
    return x * sigmoid(1.702 * x)


def silu(x: Array) -> Array:
    """x σ(x), also called swish.

    Elfwing, Uchibe and Doya, Sigmoid-Weighted Linear Units, 2017.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> silu(np.array([-1000.0, 0.0, 1000.0])).tolist()
        [-0.0, 0.0, 1000.0]
    """
    return x * sigmoid(x)


def leaky_relu(x: Array, negative_slope: float) -> Array:
    """x where it is positive, a share of x elsewhere.

    Maas, Hannun and Ng, Rectifier Nonlinearities, 2013.

    Args:
        x: Any shape.
        negative_slope: That share.

    Returns:
        An array of the same shape.

    Examples:
        >>> leaky_relu(np.array([-1.0, 2.0]), 0.2).tolist()
        [-0.2, 2.0]
    """
    return np.where(x > 0, x, negative_slope * x)


def prelu(x: Array, negative_slope: Array) -> Array:
    """x where it is positive, a share of x elsewhere, which is trained.

    He et al., Delving Deep into Rectifiers, 2015.

    Args:
        x: ``(..., channels)``.
        negative_slope: That share, one for all, ``()``, or one for each channel, ``(channels,)``.

    Returns:
        An array of the same shape.

    Examples:
        >>> prelu(np.array([[-1.0, -1.0]]), np.array([0.25, 0.5])).tolist()
        [[-0.25, -0.5]]
    """
    return np.where(x > 0, x, negative_slope * x)


def elu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, α (exp(x) - 1) elsewhere.

    Clevert, Unterthiner and Hochreiter, Exponential Linear Units, 2015.

    Args:
        x: Any shape.
        alpha: The magnitude that large negative values tend to.

    Returns:
        An array of the same shape.

    Examples:
        >>> elu(np.array([-1000.0, 2.0])).tolist()
        [-1.0, 2.0]
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def celu(x: Array, alpha: float = 1.0) -> Array:
    """x where it is positive, α (exp(x / α) - 1) elsewhere: an elu whose slope is 1 at 0 for every α.

    Barron, Continuously Differentiable Exponential Linear Units, 2017.

    Args:
        x: Any shape.
        alpha: The magnitude that large negative values tend to.

    Returns:
        An array of the same shape.

    Examples:
        >>> celu(np.array([-1000.0, 2.0]), 0.5).tolist()
        [-0.5, 2.0]
    """
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))


def selu(x: Array) -> Array:
    """The elu that keeps mean 0 and variance 1.

    Klambauer et al., Self-Normalizing Neural Networks, 2017.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> selu(np.array([0.0, 1.0])).round(4).tolist()
        [0.0, 1.0507]
    """
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def softplus(x: Array, *, threshold: float | None = None) -> Array:
    """log(1 + exp(x)), which cannot overflow.

    Dugas et al., Incorporating Second-Order Functional Knowledge, 2000.

    Args:
        x: Any shape.
        threshold: Beyond it x itself is given; none gives it nowhere.

    Returns:
        An array of the same shape.

    Examples:
        >>> softplus(np.array([-1000.0, 1000.0])).tolist()
        [0.0, 1000.0]
    """
    soft = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))
    return soft if threshold is None else np.where(x > threshold, x, soft)


def squareplus(x: Array, b: float = 4.0) -> Array:
    """(x + √(x² + b)) / 2, a softplus without exponentials.

    Barron, Squareplus, 2021.

    Args:
        x: Any shape.
        b: How wide the bend is.

    Returns:
        An array of the same shape.

    Examples:
        >>> squareplus(np.zeros(1)).tolist()
        [1.0]
    """
    return (x + np.sqrt(x * x + b)) / 2


def mish(x: Array) -> Array:
    """x tanh(softplus(x)).

    Misra, Mish, 2019.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> mish(np.zeros(1)).tolist()
        [0.0]
    """
    return x * np.tanh(softplus(x))


def softsign(x: Array) -> Array:
    """x / (1 + |x|).

    Glorot and Bengio, Understanding the Difficulty of Training, 2010.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> softsign(np.array([-1.0, 3.0])).tolist()
        [-0.5, 0.75]
    """
    return x / (1 + np.abs(x))


def relu6(x: Array) -> Array:
    """min(max(x, 0), 6).

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> relu6(np.array([-1.0, 2.0, 9.0])).tolist()
        [0.0, 2.0, 6.0]
    """
    return np.clip(x, 0, 6)


def hard_sigmoid(x: Array) -> Array:
    """min(max(x / 6 + 1/2, 0), 1).

    Howard et al., Searching for MobileNetV3, 2019.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> hard_sigmoid(np.array([-3.0, 0.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.clip(x / 6 + 0.5, 0, 1)


def hard_silu(x: Array) -> Array:
    """x times its hard sigmoid, also called hard swish.

    Howard et al., Searching for MobileNetV3, 2019.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> hard_silu(np.array([-3.0, 3.0])).tolist()
        [-0.0, 3.0]
    """
    return x * hard_sigmoid(x)


def hard_tanh(x: Array) -> Array:
    """min(max(x, -1), 1).

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> hard_tanh(np.array([-3.0, 0.5])).tolist()
        [-1.0, 0.5]
    """
    return np.clip(x, -1, 1)


def hard_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x where it is far from 0, 0 elsewhere.

    Args:
        x: Any shape.
        threshold: How far from 0.

    Returns:
        An array of the same shape.

    Examples:
        >>> hard_shrink(np.array([-1.0, 0.2])).tolist()
        [-1.0, 0.0]
    """
    return np.where(np.abs(x) > threshold, x, 0)


def soft_shrink(x: Array, threshold: float = 0.5) -> Array:
    """x moved towards 0 by a threshold, and 0 where it would pass 0.

    Args:
        x: Any shape.
        threshold: How far it is moved.

    Returns:
        An array of the same shape.

    Examples:
        >>> soft_shrink(np.array([-1.0, 0.2])).tolist()
        [-0.5, 0.0]
    """
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def tanh_shrink(x: Array) -> Array:
    """x - tanh(x).

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> tanh_shrink(np.zeros(1)).tolist()
        [0.0]
    """
    return x - np.tanh(x)


def sparse_plus(x: Array) -> Array:
    """0 below -1, x above 1, (x + 1)² / 4 between: the softplus of sparsemax.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> sparse_plus(np.array([-2.0, 0.0, 2.0])).tolist()
        [0.0, 0.25, 2.0]
    """
    return np.where(x >= 1, x, np.where(x <= -1, 0, (x + 1) ** 2 / 4))


def sparse_sigmoid(x: Array) -> Array:
    """min(max((x + 1) / 2, 0), 1), the derivative of ``sparse_plus``.

    Args:
        x: Any shape.

    Returns:
        An array of the same shape.

    Examples:
        >>> sparse_sigmoid(np.array([-2.0, 0.0, 2.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return np.clip((x + 1) / 2, 0, 1)


def glu(x: Array, axis: int = -1) -> Array:
    """The first half of an axis, times the sigmoid of the second.

    Dauphin et al., Language Modeling with Gated Convolutional Networks, 2016.

    Args:
        x: Any shape; the axis has an even number of values.
        axis: The axis that is halved.

    Returns:
        An array with half as many values along the axis.

    Examples:
        >>> glu(np.array([[4.0, 0.0]])).tolist()
        [[2.0]]
    """
    kept, gate = np.split(x, 2, axis)
    return kept * sigmoid(gate)


ELEMENTWISE: Mapping[str, Callable[[Array], Array]] = {
    "no activation": lambda x: x,
    "relu": relu,
    "relu6": relu6,
    "leaky_relu of slope 0.01": partial(leaky_relu, negative_slope=0.01),
    "leaky_relu of slope 0.2": partial(leaky_relu, negative_slope=0.2),
    "leaky_relu of slope 0.3": partial(leaky_relu, negative_slope=0.3),
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
