"""Positions that are added to an embedding: sines and cosines, or the rows of a table."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from parity.explaining.layers.functions.form import Form, Given, apart, fits
from parity.explaining.updates.fits import plainly
from parity.nn.layers import Call
from parity.nn.positions import sinusoidal_positions
from parity.tolerance import FACTOR
from parity.typing import Array

SCALED = ("", "root")
"""An embedding may be multiplied by the root of its width before positions are added."""
LEAST = 3
"""Of fewer places than so many no base can be told."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def positions(given: Given) -> Iterator[list[Form]]:
    """List the positions that may have been added to a source (batch, places, width).

    What is left of a tensor after its source, perhaps times the root of its width, is taken off is the same for each
    example, if positions are all that was added.

    Args:
        given: What was given, and what it may have been made of.

    Yields:
        Sines and cosines of a base, in turn or in halves, from a place on; rows of a parameter; or any other table.
    """
    found = []
    for source, root in itertools.product(given.alike(), SCALED):
        values = source.values
        if values.ndim != 3 or len(values) < 2:
            continue
        factor = math.sqrt(values.shape[-1]) if root else 1.0
        left = given.values - factor * values
        table = left.mean(0)
        if not np.ptp(table) or not fits(apart(left, np.broadcast_to(table, left.shape), given.made.floor)):
            continue
        before = source.tensor.label if factor == 1 else f"{factor:.6g} {source.tensor.label}"
        key = ("positions", source.number, f"{factor:.5g}")
        for what, words, far, settings in _sinusoids(given, table):
            call = Call(kind="positions", settings={**settings, "factor": factor}, inputs=(values,))
            found.append(Form((*key, *what), f"{before} + {words}", far, call))
        if not found:
            made = list(_rows(given, table)) or [(("table",), "another table", 0.0)]
            found += [Form((*key, *what), f"{before} + {words}", far) for what, words, far in made]
    yield found


def sinusoids_of(table: Array, floor: float) -> Iterator[tuple[bool, int, float, float, float]]:
    """Find the sines and cosines that a table is made of.

    Args:
        table: (places, width).
        floor: Its noise floor.

    Yields:
        Whether they are in turn, the first place, the base, the number that they are multiplied by, and how far they
        are from the table, in noise floors.
    """
    places, width = table.shape
    if places < LEAST or width % 2 or width < 4:
        return
    # Neighbours or halves: squares of a pair add up to one number.
    for interleaved in (True, False):
        sine, cosine = (table[:, ::2], table[:, 1::2]) if interleaved else np.split(table, 2, -1)
        squares = sine**2 + cosine**2
        times = float(np.sqrt(np.median(squares)))
        if not times or np.max(np.abs(squares - times**2)) > 4 * FACTOR * floor * max(times, floor):
            continue
        angles = np.arctan2(sine, cosine)  # (places, width / 2)
        turned = np.mod(np.diff(angles, axis=0), 2 * np.pi)[0]
        start = round(float(angles[0, 0] / turned[0])) if turned[0] else 0
        if not 0 < turned[1] < np.pi or start not in (0, 1, 2, -1):
            continue
        fitted = float(turned[1] ** (-width / 2))
        times = plainly(times, FACTOR * floor)
        for base in dict.fromkeys((*(float(f"{fitted:.{digits}e}") for digits in (0, 1, 2, 4)), fitted)):
            waves = sinusoidal_positions(np.arange(places) + start, width, base=base, interleaved=interleaved)
            far = apart(times * waves, table, floor)
            if fits(far):
                yield interleaved, start, base, times, far
                break


def _sinusoids(given: Given, table: Array) -> Iterator[tuple[tuple[object, ...], str, float, dict[str, Any]]]:
    for interleaved, start, base, times, far in sinusoids_of(table, given.made.floor):
        order = "sines and cosines in turn" if interleaved else "sines before cosines"
        number = "" if times == 1 else f"{times:.6g} times "
        words = f"{number}positions of {order} (base {base:.6g}, from place {start})"
        settings = {"interleaved": interleaved, "start": start, "base": base, "times": times}
        yield (interleaved, start, f"{base:.5g}", f"{times:.5g}"), words, far, settings


def _rows(given: Given, table: Array) -> Iterator[tuple[tuple[object, ...], str, float]]:
    """The rows of a parameter that a table is, from one on."""
    for number, (name, rows) in enumerate(given.tables):
        if rows.ndim != 2 or rows.shape[1] != table.shape[1] or len(rows) < len(table):
            continue
        near = np.abs(rows - table[0]).max(1) <= FACTOR * given.made.floor
        for start in np.flatnonzero(near[: len(rows) - len(table) + 1]).tolist():
            far = apart(rows[start : start + len(table)], table, given.made.floor)
            if fits(far):
                yield ("rows", number, start), f"rows {start} to {start + len(table) - 1} of {name}", far
                return
