"""Normalization layers: values less their mean, over their standard deviation, by batch, layer, group or instance.

Channels are the last axis. Every function computes in the dtype of its inputs.
"""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def batch_norm(
    x: Array,
    running_mean: Array,
    running_variance: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
    unbiased: bool = False,
    fast_variance: bool = False,
) -> tuple[Array, Array, Array]:
    """Normalize each channel by its mean and variance over the batch and all places, or by the running ones.

    Ioffe and Szegedy, Batch Normalization, 2015, algorithms 1 and 2.

    Args:
        x: ``(batch, ..., channels)``, with any number of spatial axes.
        running_mean: ``(channels,)``.
        running_variance: ``(channels,)``.
        scale: ``(channels,)``, often called gamma; none multiplies by 1.
        bias: ``(channels,)``, often called beta; none adds 0.
        epsilon: Added to the variance before the root.
        momentum: The share of the running statistics that stays. torch calls 1 minus this momentum.
        training: Whether to normalize by the statistics of the batch and to update the running ones.
        unbiased: Whether the running variance takes up n / (n - 1) times the batch's variance.
        fast_variance: Whether the variance is the mean of squares less the square of the mean, which loses digits where
            the mean is large.

    Returns:
        The output, of the shape of ``x``, and the running mean and variance afterwards, the same ones unless training.

    Examples:
        >>> x, zero, one = np.array([[1.0], [3.0]]), np.zeros(1), np.ones(1)
        >>> y, mean, variance = batch_norm(x, zero, one, epsilon=0, momentum=0.9, training=True)
        >>> y.tolist(), mean.round(3).tolist(), variance.tolist()
        ([[-1.0], [1.0]], [0.2], [1.0])
    """
    mean, variance = running_mean, running_variance
    if training:
        axes = tuple(range(x.ndim - 1))
        mean, variance = _moments(x, axes, fast_variance)  # both (channels,)
        n = x.size // x.shape[-1]
        taken = variance * (n / (n - 1)) if unbiased else variance
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_variance = momentum * running_variance + (1 - momentum) * taken
    output = _affine((x - mean) / np.sqrt(variance + epsilon), scale, bias)
    return output, running_mean, running_variance


def batch_norm_backward(
    d_output: Array,
    x: Array,
    running_mean: Array,
    running_variance: Array,
    scale: Array | None = None,
    *,
    epsilon: float,
    training: bool,
    fast_variance: bool = False,
) -> tuple[Array, Array, Array]:
    """Give the gradients of ``batch_norm``.

    Args:
        d_output: The gradient of the output, ``(batch, ..., channels)``.
        x: The input, of the same shape.
        running_mean: ``(channels,)``, before the step.
        running_variance: ``(channels,)``, before the step.
        scale: ``(channels,)``; none multiplied by 1.
        epsilon: As forward.
        training: As forward.
        fast_variance: As forward.

    Returns:
        The gradients of ``x``, of the scale and of the bias.

    Examples:
        >>> x, d = np.array([[1.0], [3.0]]), np.array([[1.0], [0.0]])
        >>> [g.tolist() for g in batch_norm_backward(d, x, np.zeros(1), np.ones(1), epsilon=0, training=False)]
        [[[1.0], [0.0]], [1.0], [1.0]]
    """
    axes = tuple(range(x.ndim - 1))
    if not training:
        inverse = 1 / np.sqrt(running_variance + epsilon)
        d_scale = (d_output * (x - running_mean) * inverse).sum(axes)
        return d_output * inverse * (1 if scale is None else scale), d_scale, d_output.sum(axes)
    mean, variance = _moments(x, axes, fast_variance)
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = (x - mean) * inverse
    d_normal = d_output if scale is None else d_output * scale
    return _normal_backward(d_normal, normal, inverse, axes), (d_output * normal).sum(axes), d_output.sum(axes)


def layer_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
    axes: int = 1,
    fast_variance: bool = False,
) -> Array:
    """Normalize each example by its own mean and variance over the last axes.

    Ba, Kiros and Hinton, Layer Normalization, 2016.

    Args:
        x: ``(..., features)``, of one axis or more.
        scale: Of the shape of the last ``axes``; none multiplies by 1.
        bias: Of the same shape; none adds 0.
        epsilon: Added to the variance before the root.
        axes: How many axes, counted from the last, the mean is over.
        fast_variance: Whether the variance is the mean of squares less the square of the mean.

    Returns:
        An array of the shape of ``x``.

    Examples:
        >>> layer_norm(np.array([[1.0, 3.0]]), epsilon=0).tolist()
        [[-1.0, 1.0]]
    """
    over = tuple(range(x.ndim - axes, x.ndim))
    mean, variance = _moments(x, over, fast_variance, keepdims=True)
    return _affine((x - mean) / np.sqrt(variance + epsilon), scale, bias)


def layer_norm_backward(
    d_output: Array,
    x: Array,
    scale: Array | None = None,
    *,
    epsilon: float,
    axes: int = 1,
    fast_variance: bool = False,
) -> tuple[Array, Array, Array]:
    """Give the gradients of ``layer_norm``.

    Args:
        d_output: The gradient of the output, of the shape of ``x``.
        x: The input.
        scale: Of the shape of the last ``axes``; none multiplied by 1.
        epsilon: As forward.
        axes: As forward.
        fast_variance: As forward.

    Returns:
        The gradients of ``x``, of the scale and of the bias.

    Examples:
        >>> d_x, d_scale, d_bias = layer_norm_backward(np.array([[1.0, 0.0]]), np.array([[1.0, 3.0]]), epsilon=0)
        >>> d_x.tolist(), d_scale.tolist(), d_bias.tolist()
        ([[0.0, 0.0]], [-1.0, 0.0], [1.0, 0.0])
    """
    over, rows = tuple(range(x.ndim - axes, x.ndim)), tuple(range(x.ndim - axes))
    mean, variance = _moments(x, over, fast_variance, keepdims=True)
    inverse = 1 / np.sqrt(variance + epsilon)
    normal = (x - mean) * inverse
    d_normal = d_output if scale is None else d_output * scale
    return _normal_backward(d_normal, normal, inverse, over), (d_output * normal).sum(rows), d_output.sum(rows)


def group_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    groups: int,
    epsilon: float,
    fast_variance: bool = False,
) -> Array:
    """Normalize each example's groups of channels by their mean and variance over all places.

    Wu and He, Group Normalization, 2018.

    Args:
        x: ``(batch, ..., channels)``.
        scale: ``(channels,)``; none multiplies by 1.
        bias: ``(channels,)``; none adds 0.
        groups: How many groups of neighbouring channels; divides their number.
        epsilon: Added to the variance before the root.
        fast_variance: Whether the variance is the mean of squares less the square of the mean.

    Returns:
        An array of the shape of ``x``.

    Examples:
        >>> group_norm(np.array([[1.0, 3.0, 5.0, 5.0]]), groups=2, epsilon=1e-9).round(6).tolist()
        [[-1.0, 1.0, 0.0, 0.0]]
    """
    grouped = x.reshape(len(x), -1, groups, x.shape[-1] // groups)  # (batch, places, groups, channels of a group)
    mean, variance = _moments(grouped, (1, 3), fast_variance, keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + epsilon)).reshape(x.shape)  # (batch, ..., channels)
    return _affine(normal, scale, bias)


def instance_norm(
    x: Array,
    scale: Array | None = None,
    bias: Array | None = None,
    *,
    epsilon: float,
    fast_variance: bool = False,
) -> Array:
    """Normalize each example's channels by their mean and variance over all places: groups of one channel.

    Ulyanov, Vedaldi and Lempitsky, Instance Normalization, 2016.

    Args:
        x: ``(batch, ..., channels)``, with one spatial axis or more.
        scale: ``(channels,)``; none multiplies by 1.
        bias: ``(channels,)``; none adds 0.
        epsilon: Added to the variance before the root.
        fast_variance: Whether the variance is the mean of squares less the square of the mean.

    Returns:
        An array of the shape of ``x``.

    Examples:
        >>> instance_norm(np.array([[[1.0], [3.0]]]), epsilon=0).tolist()
        [[[-1.0], [1.0]]]
    """
    return group_norm(x, scale, bias, groups=x.shape[-1], epsilon=epsilon, fast_variance=fast_variance)


def rms_norm(x: Array, scale: Array | None = None, *, epsilon: float, axes: int = 1) -> Array:
    """Divide each example by the root of its mean square over the last axes; no mean is taken off.

    Zhang and Sennrich, Root Mean Square Layer Normalization, 2019.

    Args:
        x: ``(..., features)``.
        scale: Of the shape of the last ``axes``; none multiplies by 1.
        epsilon: Added to the mean square before the root.
        axes: How many axes, counted from the last, the mean is over.

    Returns:
        An array of the shape of ``x``.

    Examples:
        >>> rms_norm(np.array([[3.0, -3.0]]), epsilon=0).tolist()
        [[1.0, -1.0]]
    """
    over = tuple(range(x.ndim - axes, x.ndim))
    return _affine(x / np.sqrt((x * x).mean(over, keepdims=True) + epsilon), scale, None)


def _affine(normal: Array, scale: Array | None, bias: Array | None) -> Array:
    scaled = normal if scale is None else normal * scale
    return scaled if bias is None else scaled + bias


def _moments(x: Array, axes: tuple[int, ...], fast: bool, keepdims: bool = False) -> tuple[Array, Array]:
    """The mean and the biased variance over some axes."""
    mean = x.mean(axes, keepdims=True)
    variance = (x * x).mean(axes, keepdims=True) - mean * mean if fast else x.var(axes, keepdims=True)
    return (mean, variance) if keepdims else (mean.squeeze(axes), variance.squeeze(axes))


def _normal_backward(d_normal: Array, normal: Array, inverse: Array, axes: tuple[int, ...]) -> Array:
    """The gradient of x, from that of (x - mean) · inverse, where mean and inverse deviation are those of x."""
    along = (d_normal * normal).mean(axes, keepdims=True)
    return inverse * (d_normal - d_normal.mean(axes, keepdims=True) - normal * along)


def local_response_norm(
    x: Array, *, radius: int, alpha: float, beta: float, bias: float, divided: bool = False
) -> Array:
    """Divide each value by a power of what its channel's neighbours are.

    The formula is x / (bias + alpha Σ x²)^beta, over the channels that are no farther than the radius. torch takes the
    number of channels ``size`` = 2 · radius + 1, and divides alpha by it: with TensorFlow's alpha it hardly normalizes.

    Args:
        x: ``(batch, *sizes, channels)``, of any dtype.
        radius: How many channels on each side count; beyond the first and the last there is nothing.
        alpha: The factor of the squares.
        beta: The power.
        bias: What is added to the squares.
        divided: Whether alpha is divided by the number of channels, as in torch and Caffe.

    Returns:
        The normalized input, in its shape.

    Source:
        Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural networks", section
        3.3, which does not divide; the documentation of ``torch.nn.LocalResponseNorm``.

    Examples:
        >>> x = np.array([[1.0, 2.0, 2.0]])
        >>> local_response_norm(x, radius=1, alpha=1.0, beta=0.5, bias=0.0).round(3).tolist()
        [[0.447, 0.667, 0.707]]
    """
    channels = x.shape[-1]
    places = np.arange(channels)
    near = np.abs(places[:, None] - places) <= radius
    share = alpha / (2 * radius + 1) if divided else alpha
    return x / (bias + share * (x * x) @ near.astype(x.dtype)) ** beta
