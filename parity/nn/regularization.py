"""Dropout, given its mask: what is drawn is each framework's own, what is done with it is not."""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def dropout(x: Array, mask: Array, *, rate: float, training: bool = True) -> Array:
    """Set values to 0 where a mask says it, and divide the others by the share that is kept on average.

    Srivastava et al., Dropout, 2014, "inverted": evaluation changes nothing.

    Args:
        x: Any shape.
        mask: Booleans, true where a value is kept; of the shape of ``x``, or one that is broadcast to it.
        rate: The probability with which a value is dropped, below 1.
        training: Whether anything is dropped.

    Returns:
        An array of the shape of ``x``.

    Examples:
        >>> dropout(np.array([1.0, 2.0]), np.array([True, False]), rate=0.5).tolist()
        [2.0, 0.0]
    """
    return np.where(mask, x / (1 - rate), 0) if training else x


def dropout_backward(d_output: Array, mask: Array, *, rate: float, training: bool = True) -> Array:
    """Give the gradient of the input: what was dropped gets none.

    Args:
        d_output: The gradient of the output.
        mask: As forward.
        rate: As forward.
        training: As forward.

    Returns:
        An array of the shape of ``d_output``.

    Examples:
        >>> dropout_backward(np.ones(2), np.array([True, False]), rate=0.5).tolist()
        [2.0, 0.0]
    """
    return dropout(d_output, mask, rate=rate, training=training)
