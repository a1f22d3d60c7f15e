"""Resizing: an image read at other places than those it was written at. Channels are the last axis.

Along each axis the output's place i is read at a place of the input, and what lies there is made of the values around
it. Frameworks disagree about both, by their defaults and in what they can say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from parity.typing import Array

Method = Literal["nearest", "linear", "cubic"]
"""What is made of the values around a place."""
Places = Literal["half", "corner", "aligned"]
"""Where the input is read."""


def resize(
    x: Array,
    *,
    output_size: Sequence[int],
    method: Method,
    places: Places = "half",
    antialias: bool = False,
    cubic: float = -0.5,
    border: Literal["renormalized", "repeated"] = "renormalized",
) -> Array:
    """Resize every axis but the first and the last.

    Of n values m are made. Where the output's place i lies in the input is said by ``places``: at (i + ½) n / m - ½, so
    that both cover the same stretch ("half"); at i n / m, as TensorFlow had it before ``half_pixel_centers`` and as
    torch still has it for "nearest" ("corner"); or at i (n - 1) / (m - 1), so that first and last values stay what they
    are, which torch calls ``align_corners`` ("aligned").

    Args:
        x: ``(batch, *sizes, channels)``.
        output_size: The new sizes.
        method: The nearest value; the line between two; or the cubic through four.
        places: Where the input is read.
        antialias: Whether each value is a mean over all that it stands for where the output is smaller.
        cubic: The coefficient of the cubic: -0.5 in JAX and TensorFlow, -0.75 in torch.
        border: What counts beyond the border: nothing, so that the rest weighs more; or the last value again. Only of
            the cubic it makes a difference.

    Returns:
        ``(batch, *output_size, channels)``.

    Source:
        Keys 1981, "Cubic convolution interpolation for digital image processing", for the cubic; the documentation of
        ``torch.nn.functional.interpolate``.

    Examples:
        >>> x = np.array([0.0, 3.0]).reshape(1, 2, 1)
        >>> for places in ("half", "corner", "aligned"):
        ...     print(resize(x, output_size=(4,), method="linear", places=places).ravel().round(6).tolist())
        [0.0, 0.75, 2.25, 3.0]
        [0.0, 1.5, 3.0, 3.0]
        [0.0, 1.0, 2.0, 3.0]
        >>> resize(x, output_size=(3,), method="nearest").ravel().tolist()
        [0.0, 3.0, 3.0]
    """
    for axis, size in enumerate(output_size, 1):
        weights = _weights(x.shape[axis], size, method, places, antialias, cubic, border).astype(x.dtype)
        x = np.moveaxis(np.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def _weights(
    size: int, wanted: int, method: Method, places: Places, antialias: bool, cubic: float, border: str
) -> Array:
    """How much each value of an axis counts in each new one, (wanted, size)."""
    number = np.arange(wanted)
    if method == "nearest":
        return np.eye(size)[_nearest(number, size, wanted, places)]
    at = {
        "half": (number + 0.5) * size / wanted - 0.5,
        "corner": number * size / wanted,
        "aligned": number * (size - 1) / max(1, wanted - 1),
    }[places]
    wide = max(1.0, size / wanted) if antialias else 1.0
    reach = (1 if method == "linear" else 2) * wide
    more = int(np.ceil(reach)) + 1
    near = np.arange(-more, size + more)
    far = np.abs(at[:, None] - near) / wide  # (wanted, size + 2 · more)
    weights = np.maximum(1 - far, 0) if method == "linear" else _keys(far, cubic)
    inside = weights[:, more : more + size]
    if border == "repeated":
        inside = inside.copy()
        inside[:, 0] += weights[:, :more].sum(1)
        inside[:, -1] += weights[:, more + size :].sum(1)
    return inside / inside.sum(1, keepdims=True)


def _nearest(number: Array, size: int, wanted: int, places: Places) -> Array:
    """Whole numbers, so that no rounding decides between two neighbours."""
    if places == "aligned":  # rounded, and a half is rounded up
        return (2 * number * (size - 1) + max(1, wanted - 1)) // (2 * max(1, wanted - 1))
    twice = 2 * number + (1 if places == "half" else 0)
    return twice * size // (2 * wanted)


def _keys(far: Array, a: float) -> Array:
    """Keys's cubic at a distance."""
    near = ((a + 2) * far - (a + 3)) * far * far + 1
    outer = ((far - 5) * far + 8) * far * a - 4 * a
    return np.where(far < 1, near, np.where(far < 2, outer, 0.0))
