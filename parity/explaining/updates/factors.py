"""Numbers that take one run's loss and gradients to the other's, and what may have made them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from parity.explaining.pattern import enumerated, multiple, times_in_words
from parity.nn.activations import log_softmax
from parity.recording.steps import Step
from parity.tolerance import FACTOR, least_floor
from parity.typing import Array

SCALE = 1 << 7
"""A power of two from here on may be the scale of a loss whose gradients are taken in float16."""


@dataclass(frozen=True)
class Factors:
    """The numbers by which loss and gradients of one run are multiples of the other run's."""

    loss: float | None
    """None if no number takes one loss to the other."""
    gradients: Mapping[str, float | None]
    """By tensor; None for a tensor that is no multiple. A tensor that is zero in both runs is left out."""
    dtype: str

    @property
    def common(self) -> float | None:
        """Find the one number of all gradients; None if they have no number in common."""
        found = [ratio for ratio in self.gradients.values() if ratio is not None]
        if not found or len(found) < len(self.gradients) or not self.alike(min(found), max(found)):
            return None
        return float(np.median(found))

    def alike(self, one: float | None, other: float | None) -> bool:
        """Tell whether two numbers are there, and the same but for rounding."""
        if one is None or other is None:
            return False
        return bool(abs(one - other) <= 2 * FACTOR * least_floor(max(abs(one), abs(other)), self.dtype))


@np.errstate(all="ignore")  # a recording may hold any numbers
def factors(step: Step, other: Step, dtype: str, but: Collection[str] = ()) -> Factors:
    """Hold the loss and the gradients of one step against those of another.

    Args:
        step: The first run's step.
        other: The second run's.
        dtype: The coarser dtype of the two.
        but: The tensors whose gradients are rounding alone.

    Returns:
        By which number each of the first run's is a multiple of the second's.
    """
    ratios: dict[str, float | None] = {}
    for name, value in step.gradients.items():
        if name in other.gradients and name not in but:
            got, wanted = (np.asarray(each, np.float64) for each in (value, other.gradients[name]))
            largest = float(np.max(np.abs(got), initial=0.0))
            if largest or np.any(wanted):
                ratios[name] = multiple(got, wanted, FACTOR * least_floor(largest, dtype))
    loss = float(step.loss) / float(other.loss) if float(other.loss) else math.nan
    return Factors(loss if math.isfinite(loss) else None, ratios, dtype)


def multiples_in_words(step: Step, other: Step, dtype: str, but: Collection[str] = ()) -> str:
    """Say by which numbers the loss and the gradients of two steps differ, and what may have made them.

    Args:
        step: The first run's step.
        other: The second run's.
        dtype: The coarser dtype of the two.
        but: The tensors whose gradients are rounding alone.

    Returns:
        A sentence; empty if the gradients are no multiples of each other.
    """
    found = factors(step, other, dtype, but)
    common, loss = found.common, found.loss
    same_loss = found.alike(loss, 1.0)
    if common is None:
        return _tensor_by_tensor(found, same_loss) or _left_out(step, other, dtype, but)
    if found.alike(common, 1.0):
        if same_loss or loss is None:
            return ""
        return f"the loss of the first run is {times_in_words(loss)} times the second's, and their gradients agree"
    if found.alike(loss, common):
        text = f"the loss and the gradients of the first run are {times_in_words(common)} times the second's"
    else:
        text = f"the gradients of the first run are {times_in_words(common)} times the second's, and " + (
            "their losses agree"
            if same_loss or loss is None
            else f"its loss is {times_in_words(loss)} times the second's"
        )
    causes = list(_causes(found, step))
    return text + (f"; recordings do not tell which it is: {enumerated(causes, 'or', len(causes))}" if causes else "")


@np.errstate(all="ignore")  # a recording may hold any numbers
def smoothing_in_words(step: Step, other: Step, dtype: str) -> str:
    """Say by how much labels are smoothed in one run alone, if the losses of one prediction tell.

    A smoothed loss is a mixture of the loss and of the mean over all classes, for which no label need be known. That
    it takes a share of two digits is the evidence.

    Args:
        step: The first run's step, with a prediction of logits or of probabilities.
        other: The second run's.
        dtype: The coarser dtype of the two.

    Returns:
        A sentence; empty if no such share takes one loss to the other.
    """
    given = np.asarray(step.prediction, np.float64)
    if given.ndim < 2 or given.shape[-1] < 2:
        return ""
    probable = np.all(given >= 0) and np.allclose(given.sum(-1), 1, rtol=1e-5)
    whole = -float(np.mean(np.log(given) if probable else log_softmax(given)))
    losses = float(step.loss), float(other.loss)
    allowed = FACTOR * float(least_floor(max(abs(whole), *map(abs, losses)), dtype))
    for which, (smoothed, plain) in (("first", losses), ("second", losses[::-1])):
        share = (smoothed - plain) / (whole - plain)
        plainly = round(share, 2) if np.isfinite(share) else 0.0
        if 0 < plainly < 1 and abs(share - plainly) * abs(whole - plain) <= allowed:
            return f"the loss of the {which} run is what labels smoothed by {plainly:g} make of the other's"
    return ""


def _tensor_by_tensor(found: Factors, same_loss: bool) -> str:
    if len(found.gradients) < 2 or None in found.gradients.values():
        return ""
    each = [f"{name} {times_in_words(ratio)}" for name, ratio in found.gradients.items() if ratio is not None]
    text = f"tensor by tensor, the gradients of the first run are other multiples of the second's: {enumerated(each)}"
    return text + (", and their losses agree" if same_loss else "")


def _left_out(step: Step, other: Step, dtype: str, but: Collection[str]) -> str:
    """Say which rows of a gradient are zero in one run alone, if the gradients differ nowhere else."""
    rows: dict[str, tuple[str, Array]] = {}
    for name, value in step.gradients.items():
        if name in but or name not in other.gradients:
            continue
        got, wanted = np.asarray(value, np.float64), np.asarray(other.gradients[name], np.float64)
        allowed = FACTOR * least_floor(float(np.max(np.abs(wanted), initial=0.0)), dtype)
        unequal = ~(np.abs(got - wanted) <= allowed)
        if not unequal.any():
            continue
        if got.ndim < 2:
            return ""
        places = np.flatnonzero(unequal.any(axis=tuple(range(1, got.ndim))))
        empty = [which for which, of in (("first", got), ("second", wanted)) if not of[places].any()]
        if not empty or len(places) == len(got):
            return ""
        rows[name] = empty[0], places
    if len(rows) != 1:
        return ""
    ((name, (which, places)),) = rows.items()
    some = f"row{'s' * (len(places) > 1)} {enumerated([str(place) for place in places])} of {name}"
    return (
        f"only {some} part{'s' * (len(places) == 1)}: the {which} run has no gradient there, as where a padding's row "
        "is not trained"
    )


def _causes(found: Factors, step: Step) -> Iterator[str]:
    """List what may make all gradients, and perhaps the loss, a multiple."""
    number = found.common
    assert number is not None
    of_loss = found.alike(found.loss, number)
    larger = max(number, 1 / number) if number else math.inf
    whole = round(larger) if larger < 1 << 53 else 0
    if whole < 2 or not found.alike(larger, float(whole)):
        if of_loss:
            yield from _counted(found, number, step)
        return
    if of_loss:
        for what, count in _counts(step):
            if count == whole:
                yield f"a sum over {what} for a mean"
        if whole == 2:
            yield "a squared error with its factor one half or without"
        yield f"a mean over {whole} times as many values, as with targets that are ignored"
        yield f"a loss that is divided by a constant {whole} of its own"
    elif whole >= SCALE and whole & (whole - 1) == 0:
        yield f"gradients of a loss that was scaled by {whole} for float16, not scaled back or clipped before"
    yield f"{whole} micro-batches or workers, whose {'losses' if of_loss else 'gradients'} are added up, not averaged"


def _counted(found: Factors, number: float, step: Step) -> Iterator[str]:
    """List what may make a loss a multiple by the quotient of two counts, one of which is of all rows."""
    for what, count in _counts(step):
        for which, other, times in (("second", "first", number), ("first", "second", 1 / number)):
            whole = round(times * count)
            if not 2 <= whole <= 4 * count or not found.alike(times * count, float(whole)):
                continue
            mean = f"a mean over {count} ({what}) in the {other} run"
            if whole < count:
                yield f"{mean} and over {whole} in the {which}, as where targets that are ignored count in the mean"
            yield f"{mean}, where the {which} divides by the sum of weights, {whole}"
            return


def _counts(step: Step) -> Iterator[tuple[str, int]]:
    """Name the counts that a batch's loss may be divided by."""
    shape = step.prediction.shape or (max(1, len(step.rows)),)
    yield "rows", shape[0]
    for end in range(2, len(shape) + 1):
        yield f"the first {end} axes of the prediction" if end < len(shape) else "every output", math.prod(shape[:end])
    if len(shape) > 1:
        yield "the outputs of a row", math.prod(shape[1:])
