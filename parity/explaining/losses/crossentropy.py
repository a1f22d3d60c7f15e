"""The numbers of a cross-entropy, read off what a run recorded: temperature, smoothing, denominator, rows that count.

What a run's prediction q and the loss's gradient for it have to do with each other is linear in two numbers, once the
temperature is known: of logits the gradient is A (q - t), of probabilities A (1 - t / q) or -A t / q, of their
logarithms -A t, where t is 1 - (classes - 1) τ for a row's own class and τ for every other. A is the share that one row
has of the loss, τ what smoothing gives to each class. Of a gradient that is no such cross-entropy's nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from parity.dtypes import unit
from parity.explaining.losses.given import DENOMINATOR, gradient_of
from parity.explaining.updates.fits import golden, plainly
from parity.nn.activations import log_softmax
from parity.recording.steps import Step
from parity.tolerance import FACTOR, ROUNDINGS
from parity.typing import Array

OVER_OTHERS = "smoothing-over-the-other-classes"
TEMPERATURE, SMOOTHING, ANOTHER_SMOOTHING = "another-temperature", "label-smoothing", "another-label-smoothing"
IGNORED_COUNTED, NOT_IGNORED = "ignored-rows-counted", "rows-not-ignored"
ADDED_UP = "micro-batches-added-up"
SENTENCES = {
    ADDED_UP: "The losses of micro-batches, each a mean, are added up instead of averaged.",
    TEMPERATURE: "The logits are divided by another temperature before their softmax.",
    SMOOTHING: "Labels are smoothed in one run alone.",
    ANOTHER_SMOOTHING: "Labels are smoothed by another share.",
    OVER_OTHERS: "Labels are smoothed over the other classes alone in one run, over all classes in the other.",
    DENOMINATOR: "The losses of a batch's rows are added up and divided by another number.",
    IGNORED_COUNTED: "A mean is taken over all rows, those that are ignored among them, instead of those that count.",
    NOT_IGNORED: "Rows that one run leaves out of its loss count in the other's.",
}
ROWS = 1 << 12
"""So many rows of an update are looked at in the search for a temperature, at most."""
COLDEST, HOTTEST = 1 / 32, 32.0
MOST_UNSURE = 0.004
"""Labels are smoothed by a share of two digits, which no rounding may hide."""


class Form(NamedTuple):
    """What a prediction is: its gradient is A (first - t second)."""

    logarithm: Array
    """(rows, classes): log q."""
    first: Array
    second: Array


@dataclass(frozen=True)
class Entropy:
    """A run's cross-entropy in one update."""

    temperature: float
    smoothing: float
    unsure: float
    """How far rounding may have moved the smoothing."""
    denominator: float
    """The sum of the rows' losses is divided by it."""
    whole: bool
    """Whether the recorded loss is that of the recorded rows, and not of other micro-batches too."""
    classes: Array
    """(rows,): the class that each row is told it has; -1 if the row is ignored."""
    outputs: int
    """How many classes there are."""
    batch: int
    """The length of the first axis."""
    dtype: str

    @property
    def counted(self) -> int:
        """Count the rows that are not ignored."""
        return int(np.sum(self.classes >= 0))

    def divides_by(self) -> list[str]:
        """List what the denominator may be a count of."""
        counts = {
            "all rows": len(self.classes),
            "the rows that count": self.counted,
            "the first axis of the batch": self.batch,
            "nothing": 1,
            "every output": len(self.classes) * self.outputs,
        }
        near = FACTOR * ROUNDINGS * unit(self.dtype)
        return [what for what, count in counts.items() if abs(self.denominator - count) <= near * count]


@np.errstate(all="ignore")  # a recording may hold any numbers
def entropy_of(step: Step, dtype: str) -> Entropy | None:
    """Read the numbers of a step's cross-entropy; None if its loss is none, or its prediction's gradient is unknown.

    Args:
        step: A recorded step.
        dtype: The run's.

    Returns:
        The numbers, which make the recorded loss and the recorded gradient of the prediction to rounding.
    """
    prediction = np.asarray(step.prediction, np.float64)
    gradient = gradient_of(step)
    if gradient is None or prediction.ndim < 2 or not np.isfinite(prediction).all() or not gradient.any():
        return None
    for axis in dict.fromkeys((prediction.ndim - 1, 1)):
        given, back = (
            np.moveaxis(each, axis, -1).reshape(-1, prediction.shape[axis]) for each in (prediction, gradient)
        )
        if given.shape[1] < 2:
            continue
        found = _fitted(given, back, float(step.loss), dtype)
        if found is not None:
            return replace(found, batch=prediction.shape[0])
    return None


def _fitted(given: Array, back: Array, loss: float, dtype: str) -> Entropy | None:
    for form in forms_of(given):
        if (found := _explained(form, back, loss, dtype, 1.0)) is not None:
            return found
    if not _sums_to_zero(back, dtype):
        return None
    temperature = _temperature(given, back)
    if temperature is None:
        return None
    for said in dict.fromkeys(
        (plainly(temperature, 1e-4 * temperature), plainly(temperature, 1e-6 * temperature), temperature)
    ):
        if (found := _explained(_of_logits(given / said), back, loss, dtype, said)) is not None:
            return found
    return None


def _of_logits(given: Array) -> Form:
    logarithm = log_softmax(given)
    return Form(logarithm, np.exp(logarithm), np.ones_like(given))


def forms_of(given: Array) -> Iterator[Form]:
    """List what a prediction may be."""
    if np.all(given >= 0) and np.allclose(given.sum(-1), 1, rtol=1e-5):
        logarithm = np.log(np.maximum(given, np.finfo(np.float64).tiny))
        yield Form(logarithm, np.ones_like(given), 1 / given)
        yield Form(logarithm, np.zeros_like(given), 1 / given)
    elif np.all(given <= 0) and np.allclose(np.exp(given).sum(-1), 1, rtol=1e-5):
        yield Form(given, np.zeros_like(given), np.ones_like(given))
        yield _of_logits(given)
    else:
        yield _of_logits(given)


def _sums_to_zero(back: Array, dtype: str) -> bool:
    """Tell whether the gradients of each row add up to zero, as those of logits do."""
    allowed = FACTOR * ROUNDINGS * unit(dtype) * np.sum(np.abs(back), -1)
    return bool(np.all(np.abs(back.sum(-1)) <= allowed))


class Shares(NamedTuple):
    """The two numbers of a form, and what they leave."""

    share: float
    each: float
    """The share times τ."""
    unsure: float
    """How far errors of one, in units of the largest gradient, move τ."""
    classes: Array
    left: Array
    """In units of the largest gradient."""


def _shares(form: Form, back: Array) -> Shares | None:
    """Fit A and A τ to the gradients of rows that count; None if they cannot be told apart."""
    rows, outputs = back.shape
    classes = np.argmin(back / form.second, -1)
    found: Shares | None = None
    for _ in range(3):
        on = np.zeros(back.shape, bool)
        on[np.arange(rows), classes] = True
        # Gradients of small probabilities are large, and as unsure as they are large.
        weights = 1 / form.second.ravel()
        largest = float(np.max(np.abs(back.ravel() * weights), initial=0.0)) or 1.0
        weights = weights / largest
        of_share = np.where(on, form.first - form.second, form.first).ravel()
        of_each = np.where(on, (outputs - 1) * form.second, -form.second).ravel()
        matrix = np.stack([of_share, of_each], 1) * weights[:, None]
        if not np.isfinite(matrix).all():
            return None
        (share, each), _, rank, _ = np.linalg.lstsq(matrix, back.ravel() * weights, rcond=1e-9)
        if rank < 2 or not share > 0:
            return found
        variances = np.diag(np.linalg.inv(matrix.T @ matrix))
        unsure = (math.sqrt(variances[1]) + abs(each / share) * math.sqrt(variances[0])) / share
        left = matrix @ np.array([share, each]) - back.ravel() * weights
        found = Shares(float(share), float(each), unsure, classes, left)
        again = np.argmax((form.first - back / share) / form.second, -1)
        if np.array_equal(again, classes):
            break
        classes = again
    return found


def _explained(form: Form, back: Array, loss: float, dtype: str, temperature: float) -> Entropy | None:
    """Make the numbers of a form, if they leave rounding alone of the gradients."""
    counts = back.any(-1)
    form = Form(*(each[counts] for each in form))
    shares = _shares(form, back[counts])
    if shares is None:
        return None
    rounding, (rows, outputs) = ROUNDINGS * unit(dtype), back[counts].shape
    # A probability is as unsure as the logarithm that it is made of.
    allowed = FACTOR * rounding * float(np.max(np.abs(form.logarithm), initial=1.0))
    if not np.all(np.abs(shares.left) <= allowed):
        return None
    smoothing, unsure = outputs * shares.each / shares.share, outputs * allowed * shares.unsure
    said = plainly(smoothing, unsure)
    if not 0 <= said < 1 or unsure > MOST_UNSURE:
        return None
    targets = form.logarithm[np.arange(rows), shares.classes]
    whole = -float(np.sum((1 - said) * targets + said * form.logarithm.mean(-1)))
    scale = shares.share * temperature
    largest = max(abs(loss), scale * float(np.max(np.abs(targets))))
    agrees = abs(scale * whole - loss) <= 2 * allowed * largest + scale * unsure * abs(whole)
    denominator = whole / loss if agrees and loss else 1 / scale
    classes = np.full(len(back), -1)
    classes[counts] = shares.classes
    return Entropy(temperature, said, unsure, denominator, agrees, classes, outputs, len(back), dtype)


def _temperature(given: Array, back: Array) -> float | None:
    """Search for the temperature that leaves the least; None if its neighbours leave as little."""
    counts = np.flatnonzero(back.any(-1))[:ROWS]
    given, back = given[counts], back[counts]

    def left(place: float) -> Array | None:
        shares = _shares(_of_logits(given / math.exp(place)), back)
        return None if shares is None else shares.left

    def square(place: float) -> float:
        found = left(place)
        return math.inf if found is None else float(np.sum(found**2))

    grid = np.linspace(math.log(COLDEST), math.log(HOTTEST), 41)
    best = min(grid, key=square)
    best = golden(square, best - (grid[1] - grid[0]), best + (grid[1] - grid[0]), 1e-6)
    # Squares are flat at their least: the residuals themselves tell the last digits.
    for _ in range(6):
        here, one, other = left(best), left(best + 1e-5), left(best - 1e-5)
        if here is None or one is None or other is None:
            return None
        slope = (one - other) / 2e-5
        moved = best - float(np.sum(slope * here)) / (float(np.sum(slope * slope)) or 1.0)
        if not square(moved) < square(best):
            break
        best = moved
    return math.exp(best) if math.isfinite(square(best)) else None


def entropies_apart(pairs: Sequence[tuple[Entropy, Entropy]]) -> tuple[list[str], str]:
    """Say in which numbers the cross-entropies of two runs differ.

    Args:
        pairs: Those of the first run and of the second, in the same updates.

    Returns:
        The names of mistakes, and both runs' numbers in words; nothing if they differ in none, or not in the same in
        every update.
    """
    one, other = pairs[0]
    if not all(_alike(mine, one) and _alike(its, other) and _of_one_batch(mine, its) for mine, its in pairs):
        return [], ""
    found = []
    if not _near(one.temperature, other.temperature):
        text = f"divides its logits by {one.temperature:.6g}, the second by {other.temperature:.6g}"
        found.append((TEMPERATURE, f"the first run {text}"))
    if abs(one.smoothing - other.smoothing) > one.unsure + other.unsure:
        unsure = one.unsure + other.unsure
        found.append(smoothings_apart(one.smoothing, other.smoothing, one.outputs, unsure))
    if any(mine.counted != its.counted for mine, its in pairs):
        text = f"{one.counted} count in the first run, {other.counted} in the second"
        found.append((NOT_IGNORED, f"of {len(one.classes)} rows {text}"))
    if not all(mine.whole and its.whole for mine, its in pairs):
        # The recorded rows are those of the last micro-batch: then one cause is proven or none.
        return _accumulated(pairs) if not found else ([], "")
    found += _denominators(pairs)
    return [name for name, _ in found], "; ".join(text for _, text in found)


def smoothings_apart(one: float, other: float, outputs: int, unsure: float) -> tuple[str, str]:
    """Name how labels are smoothed in two runs.

    Over the other classes alone, a share e is that of e K / (K - 1) over all K classes. Where that is a number which
    somebody may have written, nothing tells whether it was.

    Args:
        one: The first run's share, over all classes.
        other: The second run's.
        outputs: How many classes there are.
        unsure: How far rounding may have moved them.

    Returns:
        The mistake's name, and both shares in words.
    """
    text = f"labels are smoothed by {one:.6g} in the first run, by {other:.6g} in the second"
    if not one or not other:
        return SMOOTHING, text
    for mine, its in ((one, other), (other, one)):
        if abs(mine - its * outputs / (outputs - 1)) <= unsure:
            said = f"{its:.6g} over the other classes alone"
            if abs(mine - round(mine, 2)) <= unsure:
                return ANOTHER_SMOOTHING, f"{text}, which may be {said}"
            return OVER_OTHERS, f"{text}, as {said} is of {outputs}"
    return ANOTHER_SMOOTHING, text


def _near(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=1e-4)


def _alike(now: Entropy, first: Entropy) -> bool:
    """Tell whether an update of a run has the numbers of its first one."""
    unsure = now.unsure + first.unsure
    return abs(now.smoothing - first.smoothing) <= unsure and _near(now.temperature, first.temperature)


def _of_one_batch(mine: Entropy, its: Entropy) -> bool:
    """Tell whether two runs have the same classes for the rows that count in both."""
    if mine.classes.shape != its.classes.shape or mine.whole != its.whole:
        return False
    both = (mine.classes >= 0) & (its.classes >= 0)
    return np.array_equal(mine.classes[both], its.classes[both])


def _accumulated(pairs: Sequence[tuple[Entropy, Entropy]]) -> tuple[list[str], str]:
    """Say that micro-batches are added up in one run and averaged in the other, if each is a mean by itself."""
    for side, which in ((0, "first"), (1, "second")):
        many = {round(pair[1 - side].denominator / pair[side].denominator) for pair in pairs}
        means = all(_near(pair[side].denominator, pair[side].counted) for pair in pairs)
        exact = all(_near(pair[1 - side].denominator, max(many) * pair[side].denominator) for pair in pairs)
        if len(many) == 1 and max(many) > 1 and means and exact:
            text = f"the {which} run adds up the means of its micro-batches, the other divides each by {max(many)}"
            return [ADDED_UP], text
    return [], ""


def _denominators(pairs: Sequence[tuple[Entropy, Entropy]]) -> list[tuple[str, str]]:
    """Say by what two runs divide the sum of their rows' losses, if that differs."""
    kinds = [set.intersection(*(set(pair[side].divides_by()) for pair in pairs)) for side in (0, 1)]
    near = 4 * FACTOR * ROUNDINGS * max(unit(one.dtype) for one in pairs[0])
    ratios = [mine.denominator / its.denominator for mine, its in pairs]
    if kinds[0] & kinds[1] or all(math.isclose(ratio, 1, rel_tol=near) for ratio in ratios):
        return []
    said = []
    for side, which in ((0, "first"), (1, "second")):
        own, number = kinds[side], pairs[0][side].denominator
        text = f"the {which} run divides the sum of its rows' losses by {plainly(number, 1e-5 * number):.6g}"
        theirs = kinds[1 - side]
        if own and own != {"nothing"}:
            text += f" ({_plainest(own)})"
        elif theirs and theirs != {"nothing"} and all(_near(ratio, ratios[0]) for ratio in ratios):
            times = ratios[0] if side == 0 else 1 / ratios[0]
            text += f" ({plainly(times, 1e-5 * times):.6g} times {_plainest(theirs)})"
        said.append(text)
    whole = {"all rows", "the first axis of the batch"}
    ignoring = {"the rows that count"} in kinds and any(own & whole for own in kinds)
    return [(IGNORED_COUNTED if ignoring else DENOMINATOR, ", ".join(said))]


def _plainest(kinds: set[str]) -> str:
    """Name what a denominator counts, of several counts that are equal the plainest."""
    order = ("all rows", "the rows that count", "the first axis of the batch", "every output")
    return next(what for what in order if what in kinds)
