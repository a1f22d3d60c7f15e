"""Losses of each output by itself, read off the prediction and the loss's gradient for it: errors, and two classes.

Of a squared error the gradient says the target, once it is known by what the sum is divided; of an absolute error it
says the sign; of Huber's, the target where it is near and the sign where it is far. What one run's gradient says of the
targets is held against the other's, whose prediction is another one from the second update on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.explaining.losses.given import DENOMINATOR, gradient_of
from parity.explaining.updates.fits import plainly
from parity.nn.activations import sigmoid, softplus
from parity.recording.steps import Step
from parity.tolerance import FACTOR, ROUNDINGS
from parity.typing import Array

ABSOLUTE, HUBER_FOR_SQUARED, ABSOLUTE_FOR_HUBER = (
    "absolute-for-squared-errors",
    "huber-for-squared-errors",
    "absolute-for-huber-errors",
)
DELTA, DIVIDED, HALVED = "another-huber-delta", "huber-divided-by-its-delta", "half-squared-error"
POSITIVE = "another-positive-weight"
SENTENCES = {
    ABSOLUTE: "The loss is of absolute errors in one run, of squared ones in the other.",
    HUBER_FOR_SQUARED: "The loss is Huber's in one run, of squared errors in the other.",
    ABSOLUTE_FOR_HUBER: "The loss is of absolute errors in one run, Huber's in the other.",
    DELTA: "Huber's loss is linear from another error on.",
    DIVIDED: "Huber's loss is divided by its delta, as a smooth L1 loss is, in one run alone.",
    POSITIVE: "Positive targets have another weight.",
}
SQUARED, HUBER, LINEAR, BINARY = "squared", "huber", "absolute", "binary"
DELTAS = (1.0, 0.1, 1 / 9, 0.25, 0.5, 2.0, 5.0, 10.0)
"""What Huber's loss may be divided by, if it is."""
LEAST = 4
"""Of fewer outputs nothing is said."""


@dataclass(frozen=True)
class Errors:
    """A run's loss of each output in one update.

    Attributes:
        kind: ``squared``, ``huber``, ``absolute`` or ``binary``.
        denominator: The sum of the outputs' losses is divided by it; a squared error is not halved, Huber's is.
        delta: Huber's: from there on the loss is linear. Of ``binary`` the weight of what is positive.
        targets: What the gradient says of them, of the prediction's shape; NaN where it says no number.
        unsure: How far rounding may have moved targets.
    """

    kind: str
    denominator: float
    delta: float
    targets: Array
    unsure: float


@np.errstate(all="ignore")  # a recording may hold any numbers
def errors_of(step: Step, dtype: str) -> list[Errors]:
    """List what a step's loss of each output may be, as far as its prediction, gradient and loss tell.

    Args:
        step: A recorded step.
        dtype: The run's.

    Returns:
        The losses that make the recorded gradient and, where it says every target, the recorded loss; the one that is
        proven alone if one is. None is listed whose denominator is no count of outputs or rows.
    """
    z, back = np.asarray(step.prediction, np.float64), gradient_of(step)
    if back is None or z.size < LEAST or not np.isfinite(z).all() or not back.any():
        return []
    loss, rounding = float(step.loss), FACTOR * ROUNDINGS * unit(dtype)
    binary = list(_binary(z, back, loss, rounding))
    return binary or [
        *_absolute(z, back, rounding),
        *_huber(z, back, rounding),
        *_squared(z, back, loss, rounding),
    ]


def counts_of(shape: Sequence[int]) -> dict[str, int]:
    """Count what a sum of losses may be divided by, in words."""
    found = {"all outputs": math.prod(shape), "all rows": shape[0], "nothing": 1}
    return found | {"the outputs of a row": math.prod(shape[1:])} if len(shape) > 1 else found


def _squared(z: Array, back: Array, loss: float, rounding: float) -> Iterator[Errors]:
    """Errors whose squares make both the loss and its gradient, if they are divided by a count."""
    if not loss > 0:
        return
    denominator = 4 * loss / float((back**2).sum())  # the gradient is 2 (z - y) / D, the loss the sum of (z - y)² / D
    near = 4 * rounding * denominator
    for count in {*counts_of(z.shape).values()}:
        for times in (1, 2):  # halved or not
            if abs(denominator - times * count) <= near:
                errors = back * (times * count) / 2
                yield Errors(SQUARED, float(times * count), math.inf, z - errors, _unsure(z, errors, rounding))
                return


def _absolute(z: Array, back: Array, rounding: float) -> Iterator[Errors]:
    """Errors of which the gradient says the sign alone."""
    sizes = np.abs(back[back != 0])
    if len(sizes) < LEAST or np.ptp(sizes) > rounding * sizes.max():
        return
    denominator = 1 / float(np.median(sizes))
    yield Errors(LINEAR, plainly(denominator, rounding * denominator), 0.0, np.full(z.shape, np.nan), 0.0)


def _huber(z: Array, back: Array, rounding: float) -> Iterator[Errors]:
    """Errors whose gradient has a bound that several reach, for each count that makes its delta a plain number."""
    sizes = np.abs(back)
    bound = float(sizes.max())
    far = sizes >= bound * (1 - rounding)
    if far.sum() < 2 or far.all():
        return
    for count in {*counts_of(z.shape).values()}:
        whole = plainly(bound * count, rounding * bound * count)
        # Divided by its delta the bound is one over the count, whatever the delta is: that the other run tells.
        for delta in DELTAS if whole == 1 else [whole] if math.isclose(whole, float(f"{whole:.2g}")) else []:
            denominator = delta / bound
            errors = back * denominator
            targets = np.where(far, np.nan, z - errors)
            yield Errors(HUBER, denominator, delta, targets, _unsure(z, errors, rounding))


def _binary(z: Array, back: Array, loss: float, rounding: float) -> Iterator[Errors]:
    """A binary cross-entropy of logits or of probabilities, whose targets are 0 and 1."""
    ways = [(sigmoid(z), softplus(z), softplus(-z), np.ones_like(z))]
    if np.all((z > 0) & (z < 1)):
        ways.insert(0, (z, -np.log1p(-z), -np.log(z), z * (1 - z)))
    for p, without, within, slope in ways:
        positive = back < 0
        shares = back * slope / np.where(positive, p - 1, p)
        # A probability near 0 or 1 leaves little of what its share is told by.
        unsure = rounding * np.maximum(1, np.abs(z)) / np.minimum(p, 1 - p)
        ones, zeros = shares[positive], shares[~positive & (back != 0)]
        if len(ones) < 2 or len(zeros) < 2:
            continue
        light, heavy = float(np.median(zeros)), float(np.median(ones))
        expected = np.where(positive, heavy, light)
        if not np.all(np.abs(shares - expected) <= unsure * expected):
            continue
        whole = heavy * float(within[positive].sum()) + light * float(without[~positive].sum())
        if abs(whole - loss) > 4 * rounding * abs(loss):
            continue
        weight = plainly(heavy / light, 4 * rounding * heavy / light)
        denominator = plainly(1 / light, 4 * rounding / light)
        yield Errors(BINARY, denominator, weight, positive.astype(np.float64), 0.5)
        return


def _unsure(z: Array, errors: Array, rounding: float) -> float:
    return rounding * float(max(np.abs(z).max(), np.abs(errors).max()))


@np.errstate(all="ignore")  # a recording may hold any numbers
def errors_apart(
    steps: Sequence[tuple[Step, Step]], pairs: Sequence[tuple[Errors, Errors]], dtype: str
) -> tuple[list[str], str]:
    """Say in what the losses of two runs differ, if targets that one says make the other's loss in every update.

    Args:
        steps: The updates of the first run and of the second.
        pairs: What the losses of these updates are taken for.
        dtype: The coarser dtype of the two.

    Returns:
        The names of mistakes, and both runs' losses in words; nothing if the targets of one run do not make the other's
        loss, or not in each update.
    """
    one, other = pairs[0]
    if not all(same(mine, one) and same(its, other) for mine, its in pairs):
        return [], ""
    # Of Huber's loss the first update alone, where both predict the same, tells no more than a ratio.
    if len(pairs) < 2 and HUBER in (one.kind, other.kind):
        return [], ""
    told = _by_update(pairs)
    if not all(_agree(mine, its) for mine, its in pairs):
        return [], ""
    if not all(
        _made(step, errors, targets, dtype)
        for both, pair, targets in zip(steps, pairs, told, strict=True)
        for step, errors in zip(both, pair, strict=True)
    ):
        return [], ""
    ours, theirs = (_in_words(errors, step) for errors, step in zip((one, other), steps[0], strict=True))
    words = f"the first run's {ours}, the second run's {theirs}"
    name = _name(one, other)
    return ([name], words) if name else ([], "")


def same(now: Errors, first: Errors) -> bool:
    """Tell whether an update of a run has the loss of another."""
    return (
        now.kind == first.kind
        and math.isclose(now.denominator, first.denominator, rel_tol=1e-4)
        and (now.delta == first.delta or math.isclose(now.delta, first.delta, rel_tol=1e-4))
    )


def _agree(mine: Errors, its: Errors) -> bool:
    """Tell whether what two gradients say of the targets is the same."""
    both = np.isfinite(mine.targets) & np.isfinite(its.targets)
    return bool(np.all(np.abs(mine.targets - its.targets)[both] <= mine.unsure + its.unsure))


def _by_update(pairs: Sequence[tuple[Errors, Errors]]) -> list[Array]:
    """The targets of each update that either gradient says, NaN where none does."""
    return [np.where(np.isfinite(mine.targets), mine.targets, its.targets) for mine, its in pairs]


def _made(step: Step, errors: Errors, targets: Array, dtype: str) -> bool:
    """Tell whether targets make the gradient of a run and, if all are known, its loss."""
    z, back = np.asarray(step.prediction, np.float64), gradient_of(step)
    assert back is not None
    if errors.kind == BINARY:
        return True  # proven by itself
    rounding, known = FACTOR * ROUNDINGS * unit(dtype), np.isfinite(targets)
    if not known.any():
        return False
    far = z - targets
    size = np.abs(far)
    if errors.kind == SQUARED:
        slopes, losses = 2 * far, far**2
    elif errors.kind == LINEAR:
        slopes, losses = np.sign(far), size
    else:
        near = np.minimum(size, errors.delta)
        slopes, losses = np.sign(far) * near, near**2 / 2 + errors.delta * (size - near)
    allowed = rounding * float(np.nanmax(np.abs(z))) * 4
    sure = known & ((errors.kind != LINEAR) | (size > allowed))
    wanted = slopes / errors.denominator
    limit = rounding * np.abs(wanted) + 2 * allowed * (errors.kind != LINEAR) / errors.denominator
    if not np.all((np.abs(back - wanted) <= limit + rounding * np.abs(back).max())[sure]):
        return False
    whole = float(losses[known].sum()) / errors.denominator
    if known.all():
        return abs(whole - float(step.loss)) <= 8 * rounding * max(abs(whole), abs(float(step.loss)))
    return whole <= float(step.loss) * (1 + rounding)


def _name(one: Errors, other: Errors) -> str:
    """Name the difference of two losses; empty if there is none."""
    kinds = {one.kind, other.kind}
    known = {
        frozenset((LINEAR, SQUARED)): ABSOLUTE,
        frozenset((HUBER, SQUARED)): HUBER_FOR_SQUARED,
        frozenset((LINEAR, HUBER)): ABSOLUTE_FOR_HUBER,
    }
    if len(kinds) > 1:
        return known.get(frozenset(kinds), "")
    if one.kind == HUBER and not math.isclose(one.delta, other.delta, rel_tol=1e-3):
        return DELTA
    if one.kind == BINARY and not math.isclose(one.delta, other.delta, rel_tol=1e-3):
        return POSITIVE
    ratio = one.denominator / other.denominator
    if math.isclose(ratio, 1, rel_tol=1e-4):
        return ""
    if one.kind == HUBER and any(math.isclose(each, one.delta, rel_tol=1e-4) for each in (ratio, 1 / ratio)):
        return DIVIDED
    if one.kind == SQUARED and any(math.isclose(each, 2, rel_tol=1e-4) for each in (ratio, 1 / ratio)):
        return HALVED
    return DENOMINATOR


def _in_words(errors: Errors, step: Step) -> str:
    weight = f" whose positive targets weigh {errors.delta:.6g}" if errors.delta != 1 else ""
    kinds = {SQUARED: "of squared errors", LINEAR: "of absolute errors", BINARY: f"a binary cross-entropy{weight}"}
    kinds[HUBER] = f"Huber's of delta {errors.delta:.6g}"
    what = f"loss is {kinds[errors.kind]}"
    counts = counts_of(np.shape(step.prediction))
    near = [word for word, count in counts.items() if math.isclose(count, errors.denominator, rel_tol=1e-4)]
    number = plainly(errors.denominator, 1e-5 * errors.denominator)
    return f"{what}, whose sum is divided by {number:.6g}" + (f" ({near[0]})" if near and near[0] != "nothing" else "")
