"""What a tensor's values are, whatever their order: sums that no renaming, transposing or reshaping changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from parity.recording.sketch import evenly
from parity.typing import Array

BLOCK = 1 << 16
"""So many values are looked at together: they and what is made of them fit into a core's cache."""
SAMPLE = 512
"""Of so many values, evenly spread, it is asked whether they differ from each other."""


class Fingerprint(NamedTuple):
    """Equal of two tensors that hold the same values in any order, and hardly ever of others."""

    size: int
    total: int
    squares: int


def fingerprint(values: Array) -> Fingerprint:
    """Sum up the bits of a tensor's values, as numbers and squared, so that order does not matter.

    Args:
        values: Floats of any shape.

    Returns:
        Their number and two sums, modulo 2^64. -0.0 counts as 0.0.

    Examples:
        >>> kernel = np.arange(6.0).reshape(2, 3)
        >>> fingerprint(kernel) == fingerprint(kernel.T), fingerprint(kernel) == fingerprint(kernel + 1)
        (True, False)
    """
    total = squares = 0
    for block in _blocks(values):
        bits = _bits(block)
        total += int(bits.sum(dtype=np.uint64))
        squares += int(np.multiply(bits, bits, out=bits).sum(dtype=np.uint64))
    return Fingerprint(values.size, total % 2**64, squares % 2**64)


def telling(values: Array) -> bool:
    """Say whether a tensor's values tell its places apart: they were drawn, and are no zeros, ones or other constant.

    Args:
        values: Floats, flattened.

    Returns:
        Whether at least half of a sample of them differ from each other. Of three values or fewer all must, and none
        may be a round number.

    Examples:
        >>> telling(np.zeros(100)), telling(np.random.default_rng(0).normal(size=100)), telling(np.array([0.5, 1]))
        (False, True, False)
    """
    sample = values[evenly(values.size, SAMPLE)]
    different = len(np.unique(sample))
    if values.size > 3:
        return 2 * different >= len(sample) and different > 2
    rough = sample * 2**8 != np.round(sample * 2**8)
    return values.size > 1 and different == len(sample) and bool(rough.all())


def places_of(wanted: Array, tensors: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """Find values among many tensors, in one pass over each.

    Args:
        wanted: Values of the tensors' dtype, (n,), no two equal.
        tensors: Flattened tensors by name.

    Yields:
        A tensor's name, and of each wanted value whether it holds it, (n,).

    Examples:
        >>> found = places_of(np.array([2.0, 7.0]), {"kernel": np.arange(6.0)})
        >>> [(name, held.tolist()) for name, held in found]
        [('kernel', [True, False])]
    """
    ordered = np.sort(wanted)
    rank = np.argsort(wanted, kind="stable")
    known = np.zeros(BLOCK, bool)
    known[_low(ordered)] = True
    for name, values in tensors.items():
        held = np.zeros(len(wanted), bool)
        for block in _blocks(values):
            near = block[known[_low(block)]]
            place = np.minimum(np.searchsorted(ordered, near), len(ordered) - 1)
            held[place[ordered[place] == near]] = True
        found = np.zeros(len(wanted), bool)
        found[rank] = held
        yield name, found


def _blocks(values: Array) -> Iterator[Array]:
    flat = values.reshape(-1)
    for start in range(0, flat.size, BLOCK):
        yield flat[start : start + BLOCK] + flat.dtype.type(0)  # which makes 0.0 of -0.0


def _bits(block: Array) -> Array:
    bits: Array = block.view(f"u{block.itemsize}")
    return bits.astype(np.uint32) if block.itemsize == 2 else bits


def _mixed(bits: Array) -> Array:
    kind: Any = bits.dtype.type
    found: Array
    half = 4 * bits.itemsize
    with np.errstate(over="ignore"):
        found = bits * kind(0x9E3779B1)
        found ^= found >> kind(half - 1)
        found *= kind(0x85EBCA6B)
    return found


def _low(block: Array) -> Array:
    """Sixteen bits of each value, spread evenly, as places in a table."""
    bits: Any = _mixed(_bits(block))
    found: Array = bits >> bits.dtype.type(8 * bits.itemsize - 16)
    return found
