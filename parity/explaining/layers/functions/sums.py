"""Sums of two tensors, as a residual connection is: with factors, or with an activation within or around them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from parity.explaining.layers.functions.form import Form, Given, Source, apart, fits, places_of
from parity.explaining.updates.fits import plainly
from parity.nn.activations import ELEMENTWISE
from parity.nn.layers import Call
from parity.typing import Array

NEAR = 6
"""So many of the nearest tensors of one shape are tried."""


def sums(given: Given) -> Iterator[list[Form]]:
    """List what a tensor may be of tensors of its shape, the plainest first.

    Args:
        given: What was given, and what it may have been made of.

    Yields:
        Families of functions that make it: a source times a number; the sum of two, each times a number; and an
        activation of a sum, or of one of its terms.
    """
    sources = list(given.alike())[:NEAR]
    yield [form for source in sources for form in _times(given, (source,))]
    yield [form for pair in itertools.combinations(sources, 2) for form in _times(given, pair)]
    yield [form for pair in itertools.combinations(sources, 2) for form in _activated(given, pair)]


@np.errstate(all="ignore")  # a recording may hold any numbers
def _times(given: Given, terms: tuple[Source, ...]) -> Iterator[Form]:
    """The sum of terms, each times a number that is fitted."""
    made = given.values.reshape(-1)
    _, places = places_of(made.size)
    columns = np.stack([term.values.reshape(-1)[places] for term in terms], 1)
    wanted = made[places]
    if len(places) < 4 * len(terms) or not np.isfinite(columns).all():
        return
    numbers, _, rank, _ = np.linalg.lstsq(columns, wanted, rcond=1e-6)
    if rank < len(terms) or not fits(apart(columns @ numbers, wanted, given.made.floor)):
        return
    # Of a number that was fitted, what rounding may have moved is left out.
    unsure = [given.made.floor / (float(np.sqrt(np.mean(column**2))) or 1.0) for column in columns.T]
    said = [plainly(float(number), 2 * one) for number, one in zip(numbers, unsure, strict=True)]
    far = apart(columns @ np.array(said), wanted, given.made.floor)
    said, far = (said, far) if fits(far) else (numbers.tolist(), apart(columns @ numbers, wanted, given.made.floor))
    if not all(said):
        return
    parts = sorted(zip(terms, said, strict=True), key=lambda part: part[0].tensor.place)
    words = " + ".join(_term(term, number) for term, number in parts)
    key = tuple(sorted((term.number, f"{number:.5g}") for term, number in parts))
    call = Call(kind="sum", settings={"factors": tuple(n for _, n in parts)}, inputs=tuple(t.values for t, _ in parts))
    yield Form(("sum", *key), words, far, call)


def _term(source: Source, number: float) -> str:
    return source.tensor.label if number == 1 else f"{number:.6g} {source.tensor.label}"


@np.errstate(all="ignore")  # a recording may hold any numbers
def _activated(given: Given, pair: tuple[Source, Source]) -> Iterator[Form]:
    """The sum of two with an activation around it, or of one of them."""
    made = given.values.reshape(-1)
    few, many = places_of(made.size)
    one, two = sorted(pair, key=lambda source: source.tensor.place)
    names = one.tensor.label, two.tensor.label

    def made_of(places: Array, name: str, where: str) -> Array:
        x, y = (source.values.reshape(-1)[places] for source in (one, two))
        function = ELEMENTWISE[name]
        if where == "around":
            return np.asarray(function(x + y))
        return np.asarray(function(x) + y if where == "first" else x + function(y))

    words = {
        "around": f"({names[0]} + {names[1]})",
        "first": f"({names[0]}) + {names[1]}",
        "second": f"{names[0]} + ",
    }
    for name in (name for name in ELEMENTWISE if name != "identity"):
        for where, text in words.items():
            if not fits(apart(made_of(few, name, where), made[few], given.made.floor)):
                continue
            far = apart(made_of(many, name, where), made[many], given.made.floor)
            if fits(far):
                said = f"{text}{name}({names[1]})" if where == "second" else f"{name}{text}"
                place = {"around": "around", "first": str(one.number), "second": str(two.number)}[where]
                call = Call(kind="sum", settings={"activation": name, "where": where}, inputs=(one.values, two.values))
                yield Form(("activated", name, place, *sorted((one.number, two.number))), said, far, call)
