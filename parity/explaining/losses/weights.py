"""The weights that the rows of a cross-entropy have, read off its gradient for the prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.explaining.losses.crossentropy import Form, forms_of
from parity.explaining.losses.given import gradient_of
from parity.explaining.pattern import enumerated
from parity.explaining.updates.fits import plainly
from parity.recording.steps import Step
from parity.tolerance import FACTOR, ROUNDINGS
from parity.typing import Array

NOT_IN_DENOMINATOR, MISSING = "class-weights-not-in-the-denominator", "class-weights-missing"
ANOTHER, OF_ROWS = "other-class-weights", "row-weights-missing"
SENTENCES = {
    NOT_IN_DENOMINATOR: "Weighted losses are divided by the number of rows instead of the sum of their weights.",
    MISSING: "Classes have weights in one run alone.",
    ANOTHER: "Classes have other weights.",
    OF_ROWS: "Rows have weights in one run alone.",
}
SHOWN = 6
"""So many classes' weights are shown."""


@dataclass(frozen=True)
class Weighted:
    """A run's cross-entropy in one update, each row with its own share of the loss.

    Attributes:
        shares: (rows,): what each row's loss is multiplied by; 0 of a row that is left out.
        classes: (rows,): the class that each row is told it has; -1 if it is left out.
        smoothing: Of the labels, over all classes.
        unsure: How far rounding may have moved a share, relative to the largest.
        outputs: How many classes there are.
    """

    shares: Array
    classes: Array
    smoothing: float
    unsure: float
    outputs: int

    @property
    def uniform(self) -> bool:
        """Tell whether all rows that count have one share."""
        some = self.shares[self.classes >= 0]
        return bool(np.ptp(some) <= 2 * self.unsure * some.max())

    @property
    def by_class(self) -> dict[int, float] | None:
        """The share of each class that occurs; None if rows of one class have several."""
        found = {}
        for one in np.unique(self.classes[self.classes >= 0]).tolist():
            some = self.shares[self.classes == one]
            if np.ptp(some) > 2 * self.unsure * self.shares.max():
                return None
            found[one] = float(np.median(some))
        return found

    @property
    def over_weights(self) -> bool:
        """Tell whether the shares add up to one, as where weighted losses are divided by their weights' sum."""
        return abs(float(self.shares.sum()) - 1) <= 2 * self.unsure * max(1.0, math.sqrt(len(self.shares)))


@np.errstate(all="ignore")  # a recording may hold any numbers
def weighted_of(step: Step, dtype: str) -> Weighted | None:
    """Read the rows' shares of a step's cross-entropy.

    Args:
        step: A recorded step.
        dtype: The run's.

    Returns:
        The shares, with which the recorded loss and the recorded gradient of the prediction are made again to
        rounding; None if the loss is none such, or the gradient is not known.
    """
    prediction, gradient = np.asarray(step.prediction, np.float64), gradient_of(step)
    if gradient is None or prediction.ndim < 2 or not np.isfinite(prediction).all() or not gradient.any():
        return None
    for axis in dict.fromkeys((prediction.ndim - 1, 1)):
        given, back = (
            np.moveaxis(each, axis, -1).reshape(-1, prediction.shape[axis]) for each in (prediction, gradient)
        )
        for form in forms_of(given) if given.shape[1] > 1 else ():
            for smoothed in (False, True):
                found = _fitted(form, back, float(step.loss), dtype, smoothed)
                if found is not None:
                    return found
    return None


def _fitted(form: Form, back: Array, loss: float, dtype: str, smoothed: bool) -> Weighted | None:
    """Fit each row's share, and one smoothing of all if it is asked for; None if that does not make the gradients."""
    counts, outputs = np.asarray(back.any(-1)), back.shape[1]
    if smoothed and outputs < 3:  # two classes cannot tell a smoothed label from a lighter row
        return None
    logarithm, first, second, back = (each[counts] for each in (*form, back))
    own = np.eye(outputs, dtype=bool)[np.argmin(back / second, -1)]
    each = 0.0
    if smoothed:
        of_share = np.where(own, first - second, first) / second
        of_each = np.where(own, outputs - 1.0, -1.0)
        scaled = back / second
        # Two unknowns a row: its share, and that times what each class gets.
        aa, ab, bb = (
            (one * two).sum(-1) for one, two in ((of_share, of_share), (of_share, of_each), (of_each, of_each))
        )
        ya, yb = ((scaled * one).sum(-1) for one in (of_share, of_each))
        least = aa * bb - ab**2
        shares, parts = (bb * ya - ab * yb) / least, (aa * yb - ab * ya) / least
        smoothing = float(np.sum(parts * shares) / np.sum(shares**2)) * outputs
        smoothing = plainly(smoothing, 1e-5 if dtype != "float64" else 1e-9)
        if not 0 < smoothing < 1:
            return None
        each = smoothing / outputs
    targets = np.where(own, 1 - (outputs - 1) * each, each)
    made = first / second - targets
    given = back / second
    shares = (given * made).sum(-1) / (made * made).sum(-1)
    rounding = ROUNDINGS * unit(dtype) * float(np.max(np.abs(logarithm), initial=1.0))
    largest = np.abs(given).max(-1, keepdims=True)
    if not np.all(shares > 0) or not np.all(np.abs(shares[:, None] * made - given) <= FACTOR * rounding * largest):
        return None
    losses = -(targets * logarithm).sum(-1)
    whole = float((shares * losses).sum())
    if abs(whole - loss) > 2 * FACTOR * rounding * float((shares * np.abs(losses)).sum()):
        return None
    # Of a row that is almost right little is left to tell its share by.
    sure = float(np.min(np.abs(made).max(-1)))
    unsure = FACTOR * rounding / max(sure, 1e-6)
    all_shares, classes = np.zeros(np.size(counts)), np.full(np.size(counts), -1)
    all_shares[counts], classes[counts] = shares, own.argmax(-1)
    return Weighted(all_shares, classes, each * outputs, unsure, outputs)


def weights_apart(pairs: Sequence[tuple[Weighted, Weighted]]) -> tuple[list[str], str]:
    """Say in which weights the cross-entropies of two runs differ.

    Args:
        pairs: Those of the first run and of the second, in the same updates.

    Returns:
        The names of mistakes, and both runs' weights in words; nothing if they differ in nothing that is known, or not
        in the same way in each update.
    """
    if not all(
        np.array_equal(mine.classes, its.classes) and abs(mine.smoothing - its.smoothing) < 1e-6 for mine, its in pairs
    ):
        return [], ""
    uniform = [all(pair[side].uniform for pair in pairs) for side in (0, 1)]
    if uniform[0] and uniform[1]:
        return [], ""
    if uniform[0] != uniform[1]:
        which, mine = ("second", 1) if uniform[0] else ("first", 0)
        own = _weights([pair[mine] for pair in pairs])
        if own is None:
            return [OF_ROWS], f"the {which} run's rows have weights of their own, the other's count alike"
        return [MISSING], f"{_in_words(which, own)}, the other's count alike"
    weights = [_weights([pair[side] for pair in pairs]) for side in (0, 1)]
    near = 2 * max(one.unsure for pair in pairs for one in pair)
    ratios = [(mine.shares[mine.classes >= 0] / its.shares[mine.classes >= 0]) for mine, its in pairs]
    if all(np.ptp(ratio) <= near * ratio.max() for ratio in ratios):
        over = [all(pair[side].over_weights for pair in pairs) for side in (0, 1)]
        if over[0] == over[1]:
            return [], ""
        mine = 1 if over[0] else 0
        counts = [len(pair[mine].classes) * pair[mine].shares for pair in pairs]
        which, other = ("first", "second")[mine], ("first", "second")[1 - mine]
        # The weights themselves, if the sum is divided by the number of rows: the same in each update.
        steady = _of_classes([pair[mine] for pair in pairs], [float(len(pair[mine].classes)) for pair in pairs])
        if steady is None or len({len(one) for one in counts}) > 1:
            return [], ""
        total = float((counts[0]).sum())
        words = (
            f"{_in_words(which, steady)}; it divides the sum of its rows' losses by {len(pairs[0][mine].classes)} (all "
            f"rows), the {other} run by {plainly(total, 1e-5 * total):.6g} (the sum of its rows' weights)"
        )
        return [NOT_IN_DENOMINATOR], words
    if weights[0] is None or weights[1] is None:
        return [], ""
    return [ANOTHER], ", ".join(
        _in_words(which, one) for which, one in zip(("first", "second"), weights, strict=True) if one
    )


def _of_classes(runs: Sequence[Weighted], times: Sequence[float]) -> dict[int, float] | None:
    """The weight of each class if it is the same in all updates, the shares of each update times a number."""
    found: dict[int, float] = {}
    for one, factor in zip(runs, times, strict=True):
        shares = one.by_class
        if shares is None:
            return None
        for which, share in shares.items():
            known = found.setdefault(which, share * factor)
            if not math.isclose(known, share * factor, rel_tol=4 * one.unsure):
                return None
    return {which: plainly(weight, 1e-4 * weight) for which, weight in sorted(found.items())}


def _weights(runs: Sequence[Weighted]) -> dict[int, float] | None:
    """The weights of classes: themselves if sums are divided by the number of rows, else relative to one class's."""
    found = _of_classes(runs, [float(len(one.classes)) for one in runs])
    if found is not None and not all(one.over_weights for one in runs):
        return found
    shares = [one.by_class for one in runs]
    known = next((set(one) for one in shares if one), set())
    common = [which for which in sorted(known) if all(one is not None and which in one for one in shares)]
    if not common:
        return None
    return _of_classes(runs, [1 / one[common[0]] for one in shares if one is not None])


def _in_words(which: str, weights: dict[int, float]) -> str:
    said = [f"{name} weighs {weight:.6g}" for name, weight in list(weights.items())[:SHOWN]]
    return f"in the {which} run, class {enumerated(said)}" + (", …" if len(weights) > SHOWN else "")
