"""Positions: what tells a step of a sequence from another where attention would not."""

from __future__ import annotations

import numpy as np

from parity.typing import Array


def rotary(x: Array, positions: Array, *, base: float = 10000.0, interleaved: bool = False) -> Array:
    """Turn each pair of features by an angle that grows with the position, the slower the later the pair.

    GPT-NeoX and Hugging Face's LLaMA take feature i and i + width/2 for a pair; the paper and Meta's LLaMA take 2 i and
    2 i + 1. Weights of the one are right in the other only after the columns of query and key are put in that order.

    Args:
        x: ``(batch, steps, heads, width)`` of an even width, of any dtype: a query or a key, not a value.
        positions: ``(steps,)`` or ``(batch, steps)``.
        base: What the slowest pair's wavelength is made of: pair i turns by position / base^(2 i / width).
        interleaved: Whether a pair is two neighbours; else one is in the first half and one in the second.

    Returns:
        The turned features, of the shape and dtype of ``x``.

    Source:
        Su et al. 2021, "RoFormer: enhanced transformer with rotary position embedding", equation 34.

    Examples:
        >>> x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
        >>> rotary(x, np.array([np.pi / 2])).round(3).ravel().tolist()
        [-3.0, 1.937, 1.0, 4.031]
        >>> rotary(x, np.array([np.pi / 2]), interleaved=True).round(3).ravel().tolist()
        [-2.0, 1.0, 2.937, 4.047]
    """
    angles = _angles(positions, x.shape[-1], base)[..., None, :]  # ((batch,) steps, 1, width / 2)
    cosine, sine = (wave(angles).astype(x.dtype) for wave in (np.cos, np.sin))
    first, second = (x[..., ::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)
    turned = first * cosine - second * sine, first * sine + second * cosine
    return np.stack(turned, axis=-1).reshape(x.shape) if interleaved else np.concatenate(turned, axis=-1)


def sinusoidal_positions(positions: Array, width: int, *, base: float = 10000.0, interleaved: bool = True) -> Array:
    """Give each position sines and cosines of ever longer waves, to be added to an embedding.

    The paper has sine and cosine in turn; its authors' Tensor2Tensor has all sines first, and divides the exponents by
    width / 2 - 1 instead, which is not what is computed here.

    Args:
        positions: ``(steps,)``.
        width: How many features there are, an even number.
        base: What the longest wave is made of.
        interleaved: Whether sine and cosine of a wave are neighbours; else the cosines follow all sines.

    Returns:
        ``(steps, width)``, float64.

    Source:
        Vaswani et al. 2017, "Attention is all you need", section 3.5.

    Examples:
        >>> sinusoidal_positions(np.array([0, 1]), 4).round(3).tolist()
        [[0.0, 1.0, 0.0, 1.0], [0.841, 0.54, 0.01, 1.0]]
    """
    angles = _angles(positions, width, base)  # (steps, width / 2)
    waves = np.sin(angles), np.cos(angles)
    return np.stack(waves, axis=-1).reshape(-1, width) if interleaved else np.concatenate(waves, axis=-1)


def _angles(positions: Array, width: int, base: float) -> Array:
    return positions[..., None] / base ** (np.arange(0, width, 2) / width)
