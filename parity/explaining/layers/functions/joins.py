"""Tensors that lie side by side: a concatenation, and its order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from parity.explaining.layers.functions.form import Form, Given, Source, apart, fits
from parity.nn.layers import Call, compute
from parity.typing import Array

MOST, NEAR = 4, 10
"""So many tensors may lie side by side, and so many of the nearest may be among them."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def joins(given: Given) -> Iterator[list[Form]]:
    """List the tensors that lie side by side in what was given.

    Args:
        given: What was given, and what it may have been made of.

    Yields:
        The concatenations that make it, along whatever axis; those of two tensors first.
    """
    made, found = given.values, list[Form]()
    for axis in range(1, made.ndim):
        parts = _parts(given, made, axis, 0)
        found += [form for part in parts for form in _form(given, made, axis, part)]
    yield list({form.key: form for form in found}.values())


def _parts(given: Given, made: Array, axis: int, start: int) -> list[tuple[Source, ...]]:
    """The ways to fill an axis from a place on, each part a source."""
    if start == made.shape[axis]:
        return [()]
    found: list[tuple[Source, ...]] = []
    for source in itertools.islice(given.sources, NEAR):
        values = source.values
        end = start + (values.shape[axis] if values.ndim == made.ndim else made.shape[axis] + 1)
        if end > made.shape[axis] or (start == 0 and end == made.shape[axis]):
            continue
        block = np.take(made, np.arange(start, end), axis)
        if block.shape == values.shape and fits(apart(block, values, given.made.floor)):
            found += [(source, *rest) for rest in _parts(given, made, axis, end)]
        if len(found) > MOST:
            break
    return found


def _form(given: Given, made: Array, axis: int, parts: tuple[Source, ...]) -> Iterator[Form]:
    if 1 < len(parts) <= MOST:
        call = Call(kind="side_by_side", settings={"axis": axis}, inputs=tuple(part.values for part in parts))
        far = apart(compute(call), made, given.made.floor)
        words = " before ".join(part.tensor.label for part in parts)
        yield Form(("joined", *(part.number for part in parts)), f"{words}, side by side", far, call)
