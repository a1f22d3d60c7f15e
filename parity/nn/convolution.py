"""Convolutions of any number of axes, and their transposes. Channels are the last axis, of kernels the last two.

``padding`` is ``"VALID"``, which adds nothing, ``"SAME"``, or what is added before and after each axis. SAME makes the
output as long as the input over the stride, rounded up; what it adds is halved, and of an odd number the larger half
comes behind, as TensorFlow has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from parity.typing import Array

Padding = str | Sequence[tuple[int, int]]
"""SAME, VALID, or the numbers before and after each axis."""


def conv(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
) -> Array:
    """Slide a kernel over an input, which is a correlation: the kernel is not turned.

    Dumoulin and Visin, A Guide to Convolution Arithmetic, 2016.

    Args:
        x: ``(batch, *sizes, in)``.
        kernel: ``(*kernel sizes, in / groups, out)``.
        bias: ``(out,)``; none adds 0.
        stride: How far the kernel moves along each axis.
        padding: See above; zeros are added.
        dilation: How far apart the kernel's values are along each axis; 1 is side by side.
        groups: Into how many groups the channels are split, each with its own kernel; as many as channels for a
            depthwise convolution.

    Returns:
        ``(batch, *output sizes, out)``.

    Examples:
        >>> x, kernel = np.arange(4.0).reshape(1, 4, 1), np.array([1.0, 10.0]).reshape(2, 1, 1)
        >>> conv(x, kernel, stride=(1,), padding="VALID", dilation=(1,)).ravel().tolist()
        [10.0, 21.0, 32.0]
        >>> conv(x, kernel, stride=(2,), padding="SAME", dilation=(1,)).ravel().tolist()
        [10.0, 32.0]
    """
    windows, _ = _windows(x, kernel.shape[:-2], stride, padding, dilation, groups)  # (batch, *out, groups, in, places)
    places = kernel.reshape(-1, kernel.shape[-2], groups, kernel.shape[-1] // groups)  # (places, in, groups, out)
    columns = places.transpose(2, 1, 0, 3).reshape(groups, -1, places.shape[-1])  # (groups, in · places, out)
    output = (_rows(windows) @ columns).swapaxes(0, 1)  # (batch · output sizes, groups, out)
    output = output.reshape(*windows.shape[: x.ndim - 1], -1)  # (batch, *output sizes, out)
    return output if bias is None else output + bias


def conv_backward(
    d_output: Array,
    x: Array,
    kernel: Array,
    *,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
) -> tuple[Array, Array, Array]:
    """Give the gradients of ``conv``.

    Args:
        d_output: The gradient of the output, ``(batch, *output sizes, out)``.
        x: As forward.
        kernel: As forward.
        stride: As forward.
        padding: As forward.
        dilation: As forward.
        groups: As forward.

    Returns:
        The gradients of ``x``, of the kernel and of the bias.

    Examples:
        >>> x, kernel = np.arange(3.0).reshape(1, 3, 1), np.array([1.0, 10.0]).reshape(2, 1, 1)
        >>> found = conv_backward(np.ones((1, 2, 1)), x, kernel, stride=(1,), padding="VALID", dilation=(1,))
        >>> [gradient.ravel().tolist() for gradient in found]
        [[1.0, 11.0, 10.0], [1.0, 3.0], [2.0]]
    """
    windows, sides = _windows(x, kernel.shape[:-2], stride, padding, dilation, groups)
    d_grouped = d_output.reshape(*d_output.shape[:-1], groups, -1)  # (batch, *output sizes, groups, out)
    rows = d_grouped.reshape(-1, *d_grouped.shape[-2:]).swapaxes(0, 1)  # (groups, batch · output sizes, out)
    d_columns = _rows(windows).swapaxes(1, 2) @ rows  # (groups, in · places, out)
    d_places = d_columns.reshape(groups, kernel.shape[-2], -1, rows.shape[-1])  # (groups, in, places, out)
    d_kernel = d_places.transpose(2, 1, 0, 3).reshape(kernel.shape)
    padded = [size + before + after for size, (before, after) in zip(x.shape[1:-1], sides, strict=True)]
    grouped = kernel.reshape(*kernel.shape[:-1], groups, -1)  # (*kernel sizes, in / groups, groups, out / groups)
    d_padded = _spread(d_grouped, grouped, padded, stride, dilation)
    inside = (slice(before, before + size) for size, (before, _) in zip(x.shape[1:-1], sides, strict=True))
    return d_padded[:, *inside], d_kernel, d_output.reshape(-1, d_output.shape[-1]).sum(0)


def conv_transpose(
    x: Array,
    kernel: Array,
    bias: Array | None = None,
    *,
    stride: Sequence[int],
    padding: Padding,
    dilation: Sequence[int],
    groups: int = 1,
    turned: bool = True,
) -> Array:
    """Lay a kernel, times each value, over an output: what ``conv`` with this stride and padding does, transposed.

    Each value adds the kernel at ``stride`` times its place. Of what this covers, ``padding`` is taken off: with
    explicit numbers those before and after, where a negative one adds zeros, as torch's ``output_padding`` does. With
    VALID nothing; and where the stride is larger than the kernel, zeros behind make the output a whole number of
    strides. With SAME the output is as long as the input times the stride.

    Dumoulin and Visin, A Guide to Convolution Arithmetic, 2016, section 4.

    Args:
        x: ``(batch, *sizes, in)``.
        kernel: ``(*kernel sizes, in, out / groups)``.
        bias: ``(out,)``; none adds 0.
        stride: How far apart the values of the input lie in the output.
        padding: See above.
        dilation: How far apart the kernel's values are.
        groups: Into how many groups the channels are split.
        turned: Whether the kernel is laid as it is. JAX, unless told otherwise, turns it back to front.

    Returns:
        ``(batch, *output sizes, out)``.

    Examples:
        >>> x, kernel = np.array([1.0, 2.0]).reshape(1, 2, 1), np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1)
        >>> conv_transpose(x, kernel, stride=(2,), padding="VALID", dilation=(1,)).ravel().tolist()
        [1.0, 10.0, 102.0, 20.0, 200.0]
        >>> conv_transpose(x, kernel, stride=(2,), padding="SAME", dilation=(1,)).ravel().tolist()
        [1.0, 10.0, 102.0, 20.0]
    """
    rank = x.ndim - 2
    if not turned:
        kernel = np.flip(kernel, tuple(range(rank)))
    shape = (*kernel.shape[:rank], groups, -1, kernel.shape[-1])
    grouped = np.moveaxis(kernel.reshape(shape), -1, rank)  # (*kernel sizes, out, groups, in)
    spans = [(size - 1) * apart + 1 for size, apart in zip(kernel.shape, dilation, strict=False)]
    sizes = [(size - 1) * step + span for size, step, span in zip(x.shape[1:-1], stride, spans, strict=True)]
    full = _spread(x.reshape(*x.shape[:-1], groups, -1), grouped, sizes, stride, dilation)
    if padding == "VALID":
        padding = [(0, min(span - step, 0)) for span, step in zip(spans, stride, strict=True)]
    elif padding == "SAME":
        taken = [span - step for span, step in zip(spans, stride, strict=True)]
        padding = [(max(one, 0) // 2, one - max(one, 0) // 2) for one in taken]
    assert not isinstance(padding, str)
    longer = [(0, 0), *((0, max(-after, 0)) for _, after in padding), (0, 0)]
    inside = (slice(before, size - after) for size, (before, after) in zip(sizes, padding, strict=True))
    output = np.pad(full, longer)[:, *inside]  # (batch, *output sizes, out)
    return output if bias is None else output + bias


def sides(padding: Padding, sizes: Sequence[int], spans: Sequence[int], stride: Sequence[int]) -> list[tuple[int, int]]:
    """Say what a padding adds before and after each axis.

    Args:
        padding: SAME, VALID, or what is given.
        sizes: The input's sizes.
        spans: What the kernel covers along each axis, gaps included.
        stride: How far it moves.

    Returns:
        The numbers before and after, for each axis.

    Examples:
        >>> sides("SAME", (5, 4), (3, 3), (2, 2))
        [(1, 1), (0, 1)]
    """
    if not isinstance(padding, str):
        return list(padding)
    if padding == "VALID":
        return [(0, 0) for _ in sizes]
    steps = zip(sizes, spans, stride, strict=True)
    added = [max((-(-size // step) - 1) * step + span - size, 0) for size, span, step in steps]
    return [(one // 2, one - one // 2) for one in added]


def _rows(windows: Array) -> Array:
    """What the kernel sees in each group: (batch, *output sizes, groups, in, places) -> (groups, rows, in · places)."""
    return windows.reshape(-1, windows.shape[-3], math.prod(windows.shape[-2:])).swapaxes(0, 1)


def _windows(
    x: Array, kernel: Sequence[int], stride: Sequence[int], padding: Padding, dilation: Sequence[int], groups: int
) -> tuple[Array, list[tuple[int, int]]]:
    """What the kernel sees at each place, (batch, *output sizes, groups, in / groups, places), and what was added."""
    spans = [(size - 1) * apart + 1 for size, apart in zip(kernel, dilation, strict=True)]
    added = sides(padding, x.shape[1:-1], spans, stride)
    axes = tuple(range(1, x.ndim - 1))
    padded = np.pad(x, [(0, 0), *added, (0, 0)])
    every = np.lib.stride_tricks.sliding_window_view(padded, spans, axes)  # (batch, *places, in, *spans)
    moved, apart = (tuple(slice(None, None, step) for step in steps) for steps in (stride, dilation))
    seen = every[:, *moved, :, *apart]
    return seen.reshape(*seen.shape[: len(axes) + 1], groups, x.shape[-1] // groups, -1), added


def _spread(x: Array, kernel: Array, sizes: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Array:
    """Lay a kernel (*kernel sizes, out, groups, in), times each of x (batch, *places, groups, in), over an output."""
    rank = len(sizes)
    output = np.zeros((len(x), *sizes, kernel.shape[-2], kernel.shape[-3]), np.result_type(x, kernel))
    rows = x.reshape(-1, *x.shape[-2:]).swapaxes(0, 1)  # (groups, batch · sizes, in)
    for place in np.ndindex(*kernel.shape[:rank]):
        begin = [at * apart for at, apart in zip(place, dilation, strict=True)]
        steps = zip(begin, x.shape[1:], stride, strict=False)
        where = (slice(first, first + (count - 1) * step + 1, step) for first, count, step in steps)
        laid = (rows @ kernel[place].transpose(1, 2, 0)).swapaxes(0, 1)  # (batch · sizes, groups, out)
        output[:, *where] += laid.reshape(*x.shape[:-1], -1)
    return output.reshape(len(x), *sizes, -1)
