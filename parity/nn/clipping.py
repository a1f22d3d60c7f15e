"""Gradient clipping: by value, by the norm of each tensor, by the norm of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from parity.typing import Array


def clip_by_value(gradient: Array, *, limit: float) -> Array:
    """Cut every element to lie between -limit and limit. The gradient's direction changes.

    Args:
        gradient: An array of any shape and dtype.
        limit: The largest size an element keeps.

    Returns:
        The clipped gradient, of the same shape and dtype.

    Source:
        The documentation of ``torch.nn.utils.clip_grad_value_``.

    Examples:
        >>> clip_by_value(np.array([-3.0, 0.5]), limit=1.0)
        array([-1. ,  0.5])
    """
    return np.clip(gradient, -limit, limit)


def clip_by_norm(gradient: Array, *, limit: float, epsilon: float = 0.0, order: float = 2.0) -> Array:
    """Shorten a gradient that is too long, by its own norm, and keep its direction.

    Args:
        gradient: An array of any shape and dtype.
        limit: The largest norm.
        epsilon: Added to the norm, as ``clip_by_global_norm`` says.
        order: The norm's order; infinity for the largest size of an element.

    Returns:
        The gradient, of the same shape and dtype; as it was if its norm is no more than the limit.

    Source:
        Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1.

    Examples:
        >>> clip_by_norm(np.array([3.0, 4.0]), limit=1.0)
        array([0.6, 0.8])
    """
    return clip_by_global_norm([gradient], limit=limit, epsilon=epsilon, order=order)[0]


def clip_by_global_norm(
    gradients: Sequence[Array], *, limit: float, epsilon: float = 0.0, order: float = 2.0
) -> list[Array]:
    """Shorten all gradients by one factor, if they are too long together.

    torch divides by the norm plus an epsilon of 1e-6: what it clips ends below the limit, and what lies less than 1e-6
    below the limit is clipped, too. No other framework has an epsilon.

    Args:
        gradients: The gradient of every parameter, of any shape and dtype.
        limit: The largest norm of all elements of all gradients.
        epsilon: Added to the norm before it divides.
        order: The norm's order; infinity for the largest size of an element.

    Returns:
        The gradients, of the same shapes and dtypes, in a new list.

    Source:
        Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks", algorithm 1; the
        documentation of ``torch.nn.utils.clip_grad_norm_``.

    Examples:
        >>> clip_by_global_norm([np.array([3.0]), np.array([4.0])], limit=1.0)
        [array([0.6]), array([0.8])]
    """
    norm = np.linalg.norm([np.linalg.norm(np.ravel(one), order) for one in gradients], order)
    # Not limit / norm alone, which a gradient of zeros would divide by 0.
    factor = limit / np.maximum(norm + epsilon, limit)
    return [gradient * factor.astype(gradient.dtype) for gradient in gradients]
