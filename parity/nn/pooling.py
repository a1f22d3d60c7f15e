"""Pooling: the largest value or the mean of windows, of bins, or of all places. Channels are the last axis.

``padding`` is as in ``parity.nn.convolution``; what is added is never the largest, and counts in a mean if told so.
With ``ceil_mode`` a window that begins within the input, or the padding before it, may end beyond it; what lies there
is no part of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from parity.nn.convolution import Padding, sides
from parity.typing import Array


def max_pool(
    x: Array, *, kernel_size: Sequence[int], stride: Sequence[int], padding: Padding, ceil_mode: bool = False
) -> Array:
    """Give the largest value of each window.

    Args:
        x: ``(batch, *sizes, channels)``.
        kernel_size: The window's sizes.
        stride: How far it moves along each axis.
        padding: SAME, VALID, or the numbers before and after each axis.
        ceil_mode: Whether a last window may end beyond the input.

    Returns:
        ``(batch, *output sizes, channels)``.

    Examples:
        >>> x = np.array([3.0, 1.0, 2.0, 5.0]).reshape(1, 4, 1)
        >>> max_pool(x, kernel_size=(2,), stride=(2,), padding="VALID").ravel().tolist()
        [3.0, 5.0]
        >>> max_pool(x, kernel_size=(3,), stride=(2,), padding="VALID", ceil_mode=True).ravel().tolist()
        [3.0, 5.0]
    """
    windows, _ = _windows(x, kernel_size, stride, padding, -np.inf, ceil_mode)
    return windows.max(-1)


def max_pool_backward(
    d_output: Array,
    x: Array,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    ceil_mode: bool = False,
) -> Array:
    """Give the gradient of ``max_pool``: the first of the largest values of a window gets it.

    Args:
        d_output: The gradient of the output.
        x: As forward.
        kernel_size: As forward.
        stride: As forward.
        padding: As forward.
        ceil_mode: As forward.

    Returns:
        The gradient of ``x``, in its shape.

    Examples:
        >>> x, d = np.array([3.0, 1.0, 2.0, 5.0]).reshape(1, 4, 1), np.ones((1, 2, 1))
        >>> max_pool_backward(d, x, kernel_size=(2,), stride=(2,), padding="VALID").ravel().tolist()
        [1.0, 0.0, 0.0, 1.0]
    """
    windows, added = _windows(x, kernel_size, stride, padding, -np.inf, ceil_mode)
    largest = windows.argmax(-1)  # (batch, *output sizes, channels)
    return _scattered(lambda place: np.where(largest == place, d_output, 0), x, kernel_size, stride, added)


def average_pool(
    x: Array,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    count_padding: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Give the mean of each window.

    Args:
        x: ``(batch, *sizes, channels)``.
        kernel_size: The window's sizes.
        stride: How far it moves along each axis.
        padding: SAME, VALID, or the numbers before and after each axis.
        count_padding: Whether the zeros that padding adds count in the mean.
        ceil_mode: Whether a last window may end beyond the input.

    Returns:
        ``(batch, *output sizes, channels)``.

    Examples:
        >>> x, one = np.array([3.0, 1.0]).reshape(1, 2, 1), [(1, 0)]
        >>> average_pool(x, kernel_size=(2,), stride=(1,), padding=one).ravel().tolist()
        [3.0, 2.0]
        >>> average_pool(x, kernel_size=(2,), stride=(1,), padding=one, count_padding=True).ravel().tolist()
        [1.5, 2.0]
    """
    windows, _ = _windows(x, kernel_size, stride, padding, 0, ceil_mode)
    return windows.sum(-1) / _counted(x, kernel_size, stride, padding, count_padding, ceil_mode)


def average_pool_backward(
    d_output: Array,
    x: Array,
    *,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    count_padding: bool = False,
    ceil_mode: bool = False,
) -> Array:
    """Give the gradient of ``average_pool``.

    Args:
        d_output: The gradient of the output.
        x: As forward; its values do not matter.
        kernel_size: As forward.
        stride: As forward.
        padding: As forward.
        count_padding: As forward.
        ceil_mode: As forward.

    Returns:
        The gradient of ``x``, in its shape.

    Examples:
        >>> x, d = np.zeros((1, 4, 1)), np.ones((1, 2, 1))
        >>> average_pool_backward(d, x, kernel_size=(2,), stride=(2,), padding="VALID").ravel().tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    _, added = _windows(x, kernel_size, stride, padding, 0, ceil_mode)
    share = d_output / _counted(x, kernel_size, stride, padding, count_padding, ceil_mode)
    return _scattered(lambda place: share, x, kernel_size, stride, added)


def global_average_pool(x: Array) -> Array:
    """Give the mean of all places.

    Args:
        x: ``(batch, *sizes, channels)``.

    Returns:
        ``(batch, channels)``.

    Examples:
        >>> global_average_pool(np.array([[[1.0], [3.0]]])).tolist()
        [[2.0]]
    """
    return x.mean(tuple(range(1, x.ndim - 1)))


def global_average_pool_backward(d_output: Array, x: Array) -> Array:
    """Give the gradient of ``global_average_pool``.

    Args:
        d_output: ``(batch, channels)``.
        x: As forward; its values do not matter.

    Returns:
        The gradient of ``x``, in its shape.

    Examples:
        >>> global_average_pool_backward(np.ones((1, 1)), np.zeros((1, 2, 1))).tolist()
        [[[0.5], [0.5]]]
    """
    places = x[0, ..., 0].size
    return np.broadcast_to(np.expand_dims(d_output / places, tuple(range(1, x.ndim - 1))), x.shape)


def global_max_pool(x: Array) -> Array:
    """Give the largest value of all places.

    Args:
        x: ``(batch, *sizes, channels)``.

    Returns:
        ``(batch, channels)``.

    Examples:
        >>> global_max_pool(np.array([[[1.0], [3.0]]])).tolist()
        [[3.0]]
    """
    return x.max(tuple(range(1, x.ndim - 1)))


def adaptive_average_pool(x: Array, *, output_size: Sequence[int]) -> Array:
    """Give the means of as many bins as are asked for: bin i of o goes from ⌊i n / o⌋ to ⌈(i + 1) n / o⌉.

    Args:
        x: ``(batch, *sizes, channels)``.
        output_size: The number of bins along each axis.

    Returns:
        ``(batch, *output_size, channels)``.

    Examples:
        >>> adaptive_average_pool(np.arange(3.0).reshape(1, 3, 1), output_size=(2,)).ravel().tolist()
        [0.5, 1.5]
    """
    return _binned(x, output_size, np.mean)


def adaptive_max_pool(x: Array, *, output_size: Sequence[int]) -> Array:
    """Give the largest values of as many bins as are asked for, the bins of ``adaptive_average_pool``.

    Args:
        x: ``(batch, *sizes, channels)``.
        output_size: The number of bins along each axis.

    Returns:
        ``(batch, *output_size, channels)``.

    Examples:
        >>> adaptive_max_pool(np.arange(3.0).reshape(1, 3, 1), output_size=(2,)).ravel().tolist()
        [1.0, 2.0]
    """
    return _binned(x, output_size, np.max)


def _binned(x: Array, output_size: Sequence[int], reduce: Callable[..., Array]) -> Array:
    for axis, bins in enumerate(output_size, 1):
        size = x.shape[axis]
        parts = [np.arange(i * size // bins, -(-(i + 1) * size // bins)) for i in range(bins)]
        x = np.stack([reduce(np.take(x, part, axis), axis) for part in parts], axis)
    return x


def _windows(
    x: Array,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    filler: float,
    ceil_mode: bool = False,
    counted: float | None = None,
) -> tuple[Array, list[tuple[int, int]]]:
    """What each window sees, (batch, *output sizes, channels, places), and what was added around.

    ``counted`` is what padding holds, if that is not what lies beyond it.
    """
    around = sides(padding, x.shape[1:-1], kernel_size, stride)
    added = around
    if ceil_mode:
        spans = zip(x.shape[1:-1], around, kernel_size, stride, strict=True)
        added = [
            (before, after + _beyond(size, before, after, window, step))
            for size, (before, after), window, step in spans
        ]
    more = [(0, one[1] - other[1]) for one, other in zip(added, around, strict=True)]
    padded = np.pad(x, [(0, 0), *around, (0, 0)], constant_values=filler if counted is None else counted)
    padded = np.pad(padded, [(0, 0), *more, (0, 0)], constant_values=filler)
    every = np.lib.stride_tricks.sliding_window_view(padded, tuple(kernel_size), tuple(range(1, x.ndim - 1)))
    seen = every[:, *(slice(None, None, step) for step in stride)]  # (batch, *output sizes, channels, *kernel_size)
    return seen.reshape(*seen.shape[: x.ndim], -1), added


def _beyond(size: int, before: int, after: int, window: int, step: int) -> int:
    """How far the last window that begins before the padding behind ends beyond it."""
    whole = size + before + after
    last = -(-max(0, whole - window) // step) * step
    last -= step if last >= size + before else 0
    return max(0, last + window - whole)


def _counted(
    x: Array,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    count_padding: bool,
    ceil_mode: bool,
) -> Array | int:
    """How many values each window's mean is over."""
    if count_padding and not ceil_mode:
        return int(np.prod(kernel_size))
    ones = np.ones_like(x)
    return _windows(ones, kernel_size, stride, padding, 0, ceil_mode, float(count_padding))[0].sum(-1)


def _scattered(
    share: Callable[[int], Array],
    x: Array,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    added: Sequence[tuple[int, int]],
) -> Array:
    """The gradient of x, of which each window's place gets a share, (batch, *output sizes, channels)."""
    sizes = [size + before + after for size, (before, after) in zip(x.shape[1:-1], added, strict=True)]
    gradient = np.zeros((len(x), *sizes, x.shape[-1]), x.dtype)
    for number, place in enumerate(np.ndindex(*kernel_size)):
        part = share(number)
        steps = zip(place, part.shape[1:-1], stride, strict=True)
        gradient[:, *(slice(at, at + (count - 1) * step + 1, step) for at, count, step in steps)] += part
    return gradient[:, *(slice(b, b + size) for size, (b, _) in zip(x.shape[1:-1], added, strict=True))]
