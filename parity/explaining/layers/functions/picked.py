"""What is made of a sequence: one of its places, their mean, largest or sum, or another place of each example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from parity.explaining.layers.functions.form import Form, Given, Source, apart, fits
from parity.nn.layers import Call
from parity.tolerance import FACTOR
from parity.typing import Array

MOST = 4_000_000
"""Larger sequences are not looked at: each place of each is held against what was given."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def picked(given: Given) -> Iterator[list[Form]]:
    """List what a tensor (batch, features) may be of sequences (batch, places, features).

    Args:
        given: What was given, and what it may have been made of.

    Yields:
        The functions that make it: the first place, the last, a certain one, their mean, sum or largest, or a place
        that is another in each example, as the last that is valid.
    """
    made = given.values
    if made.ndim != 2:
        return
    found: list[Form] = []
    for source in given.sources:
        values = source.values
        if values.ndim != 3 or (len(values), values.shape[2]) != made.shape or values.shape[1] < 2:
            continue
        if values.size <= MOST:
            found += _of(given, source, values, made)
    yield found


def _of(given: Given, source: Source, values: Array, made: Array) -> Iterator[Form]:
    name, last = source.tensor.label, values.shape[1] - 1
    for what, word, replayed in (
        ("mean", "the mean over places", values.mean(1)),
        ("sum", "the sum over places", values.sum(1)),
        ("largest", "the largest over places", values.max(1)),
    ):
        far = apart(replayed, made, given.made.floor)
        if fits(far):
            call = Call(kind="place", settings={"place": what}, inputs=(values,))
            yield Form(("picked", what, source.number), f"{word} of {name}", far, call)
    near = np.abs(values - made[:, None]).max(2) <= FACTOR * given.made.floor  # (batch, places)
    if not near.any(1).all():
        return
    places = near.argmax(1)
    far = apart(values[np.arange(len(values)), places], made, given.made.floor)
    common = np.flatnonzero(near.all(0))
    if len(common):
        place = int(common[-1] if common[-1] == last else common[0])
        words = {0: "the first place", last: "the last place"}.get(place, f"place {place}")
        which: Any = {0: "first", last: "last"}.get(place, place)
        call = Call(kind="place", settings={"place": which}, inputs=(values,))
        yield Form(("picked", "place", which, source.number), f"{words} of {name}", far, call)
    elif near.sum(1).max() == 1:
        shown = ", ".join(str(place) for place in places[:4]) + (", …" if len(places) > 4 else "")
        words = f"another place of each example ({shown}) of {name}"
        call = Call(kind="place", settings={"place": "each", "places": places}, inputs=(values,))
        yield Form(("picked", "places", tuple(places.tolist()), source.number), words, far, call)
