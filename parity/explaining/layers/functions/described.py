"""Say what each of two runs computes between its layers, where both are known and differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.dataflow import Dataflow, Tensor
from parity.explaining.layers.functions.form import Form, Given, Source
from parity.explaining.layers.functions.joins import joins
from parity.explaining.layers.functions.picked import picked
from parity.explaining.layers.functions.positions import positions
from parity.explaining.layers.functions.resized import METHODS, last, resized_together, resizes
from parity.explaining.layers.functions.sums import sums
from parity.recording.steps import steps_of
from parity.typing import Array

FAMILIES = (sums, positions, picked, joins, resizes)
"""The plainest first."""
NEAR, LATER = 12, 3
"""So many of the nearest tensors before are tried as sources, and on so many later updates each function is held."""
ALIKE = 3
"""So many functions may make what was given; where more do, nothing is said."""
MOST = 64_000_000
"""Larger tensors are not looked at."""
ENOUGH, FEWEST = 500_000, 2
"""Of so many values a function is told, and of so few examples at least."""


@dataclass(frozen=True)
class Between:
    """What two runs compute that a layer takes.

    Attributes:
        words: Both functions, in a sentence.
        sides: The functions of either run; none where they are told together alone.
        made: What each gave.
    """

    words: str
    sides: tuple[tuple[Form, ...], tuple[Form, ...]] = ((), ())
    made: tuple[Tensor, ...] = ()


def between(alignment: Alignment, ours: Tensor, theirs: Tensor) -> Between | None:
    """Find what each run computed that a layer takes.

    Args:
        alignment: The tensors of both runs.
        ours: What the layer takes in the first run.
        theirs: The same in the second.

    Returns:
        Both functions; None if no function is known of either, or if both are one.
    """
    together = _resized(alignment, ours, theirs)
    if together:
        return Between(together)
    first, second = (functions_of(alignment, side, tensor) for side, tensor in enumerate((ours, theirs)))
    if {form.key for form in first} & {form.key for form in second} or not (first and second):
        return None
    words = f"the first run computes {_in_words(first)}, the second {_in_words(second)}"
    return Between(words, (tuple(first), tuple(second)), (ours, theirs))


def _in_words(forms: Sequence[Form]) -> str:
    floors = max(form.floors for form in forms)
    return f"{' or '.join(form.words for form in forms)} (replay agrees to {floors:.2g} of the noise floor)"


@np.errstate(all="ignore")  # a recording may hold any numbers
def functions_of(alignment: Alignment, side: int, tensor: Tensor) -> list[Form]:
    """Find the functions that made a tensor in every update that was recorded.

    Args:
        alignment: The tensors of both runs.
        side: Of which run, 0 or 1.
        tensor: What was made.

    Returns:
        The functions of the plainest family that has any, at most ``ALIKE``; none if it has more.
    """
    pairs = _sources(alignment, side, tensor)
    itself = tensor.sources[0] if tensor.moved else tensor.label
    same = next((number for number, one in pairs if one.label in (itself, tensor.label)), None)
    if same is not None:
        return [Form(("sum", (same, "1")), itself, 0.0)]
    given = _given(alignment.sides[side], tensor, pairs)
    if given is None:
        return []
    later = [one for one in _later(alignment.sides[side], tensor, pairs, given) if one is not None]
    for family in FAMILIES:
        for forms in family(given):
            kept = [form for form in forms if all(_again(form, family, one) for one in later)]
            if kept:
                return kept if len(kept) <= ALIKE else []
    return []


def _again(form: Form, family: object, given: Given) -> bool:
    """Tell whether a function makes what was given in another update, too."""
    assert callable(family)
    return any(_lasting(one) == _lasting(form) for forms in family(given) for one in forms)


def _lasting(form: Form) -> tuple[object, ...]:
    """What of a function is the same in every update: which place of each example is taken is not."""
    return (*form.key[:2], form.key[-1]) if form.key[:2] == ("picked", "places") else form.key


def _sources(alignment: Alignment, side: int, tensor: Tensor) -> list[tuple[int, Tensor]]:
    """The tensors that agree and come before one, the nearest first, numbered as both runs have them."""
    numbers: dict[str, int] = {}
    for number, (label, partners) in enumerate(alignment.partners[0].items()):
        # What holds several of the other run's, side by side, is none of them.
        whole = [
            one for one in partners if alignment.sides[1].tensors[one].size == alignment.sides[0].tensors[label].size
        ]
        for one in whole if side else [label] if whole else []:
            numbers.setdefault(one, number)
    tensors = alignment.sides[side].tensors
    found = [
        (number, tensors[label])
        for label, number in numbers.items()
        if _usable(tensors[label]) and (tensors[label].place < tensor.place or label == tensor.label)
    ]
    found = sorted(found, key=lambda one: -one[1].place)
    once = dict(reversed(found))
    return sorted(once.items(), key=lambda one: -one[1].place)[:NEAR]


def _usable(tensor: Tensor) -> bool:
    values = tensor.values
    return values is not None and values.dtype.kind == "f" and 1 < values.size <= MOST and bool(np.ptp(values))


def _given(flow: Dataflow, tensor: Tensor, pairs: Iterable[tuple[int, Tensor]]) -> Given | None:
    if not _usable(tensor) or not tensor.floor:
        return None
    tables = tuple((name, np.asarray(value, np.float64)) for name, value in flow.params.items() if value.ndim == 2)
    return _cut(tensor, pairs, tables, flow.channels_first)


def _cut(
    made: Tensor, pairs: Iterable[tuple[int, Tensor]], tables: tuple[tuple[str, Array], ...], channels_first: bool
) -> Given | None:
    """Let a few examples of large tensors stand for all; None if what was given is not finite."""
    assert made.values is not None
    count = len(made.values)
    rows = max(FEWEST, ENOUGH * count // made.size)
    few = [(number, _first(one, count, rows)) for number, one in pairs]
    sources = tuple(
        Source(number, one) for number, one in few if one.values is not None and np.isfinite(one.values).all()
    )
    made = _first(made, count, rows)
    return Given(made, sources, tables, channels_first) if np.isfinite(made.values).all() else None  # type: ignore[arg-type]


def _first(tensor: Tensor, count: int, rows: int) -> Tensor:
    """The first examples of a tensor of so many."""
    values = tensor.values
    return tensor if values is None or len(values) != count else replace(tensor, values=values[:rows])


def _later(flow: Dataflow, tensor: Tensor, pairs: Sequence[tuple[int, Tensor]], given: Given) -> Iterable[Given | None]:
    """The same tensors in later updates, as far as they were recorded."""
    steps = flow.run.steps
    for number in range(len(steps_of(flow.run))):
        prefix = f"{number}/activations/"
        if number == flow.number or number > flow.number + LATER or f"{prefix}{tensor.label}" not in steps:
            continue
        made = _at(tensor, steps[f"{prefix}{tensor.label}"])
        known = [(number, one, steps.get(f"{prefix}{one.label}")) for number, one in pairs]
        sources = [(number, _at(one, value)) for number, one, value in known if value is not None]
        tables = tuple(
            (name, np.asarray(steps.get(f"{number}/params/{name}", value), np.float64)) for name, value in given.tables
        )
        usable = _usable(made) and all(_usable(one) for _, one in sources)
        yield _cut(made, sources, tables, given.channels_first) if usable else None


def _at(tensor: Tensor, values: Array) -> Tensor:
    """A tensor with the values of another update."""
    largest = float(np.max(np.abs(tensor.values), initial=0.0)) if tensor.values is not None else 0.0
    now = float(np.max(np.abs(values), initial=0.0))
    return replace(tensor, values=values, floor=tensor.floor * max(1.0, now / largest if largest else 1.0))


def _resized(alignment: Alignment, ours: Tensor, theirs: Tensor) -> str:
    """Say how both runs resize the input of their models, of which nobody recorded more than a sketch."""
    inputs = [flow.run.steps.get(f"{flow.number}/batch") for flow in alignment.sides]
    if ours.values is None or theirs.values is None or ours.values.ndim != 4 or theirs.values.ndim != 4:
        return ""
    if inputs[0] is None or inputs[1] is None or len(inputs[0]) != 1 or len(inputs[1]) != 1:
        return ""
    if ours.sources or theirs.sources or not np.allclose(inputs[0], inputs[1], rtol=1e-5):
        return ""
    first, second = (
        last(one, flow.channels_first) for one, flow in zip((ours.values, theirs.values), alignment.sides, strict=True)
    )
    floor = max(ours.floor, theirs.floor)
    if first.shape != second.shape or not floor:
        return ""
    size = int(inputs[0][0][0])
    found = resized_together(first, second, size, floor)
    for number in range(alignment.sides[0].number + 1, alignment.sides[0].number + 1 + LATER if found else 0):
        one, two = (
            flow.run.steps.get(f"{number}/activations/{tensor.label}")
            for flow, tensor in zip(alignment.sides, (ours, theirs), strict=True)
        )
        if one is None or two is None or one.shape != ours.values.shape or two.shape != theirs.values.shape:
            break
        one, two = (last(each, flow.channels_first) for each, flow in zip((one, two), alignment.sides, strict=True))
        # The batch is another one, and both runs are given the same.
        again = {pair[:2] for pair in resized_together(one, two, size, 2 * floor)}
        found = [pair for pair in found if pair[:2] in again]
    if not 0 < len(found) <= ALIKE:
        return ""
    numbers = [[pair[0] for pair in found], [pair[1] for pair in found]]
    said = [" or ".join(dict.fromkeys(METHODS[number][0] for number in some)) for some in numbers]
    return (
        f"the first run resizes its input {said[0]}, the second {said[1]} (what both see of it agrees to "
        f"{max(far for *_, far in found):.2g} of the noise floor)"
    )
