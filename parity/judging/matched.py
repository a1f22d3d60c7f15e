"""What a verdict on matched tensors is worth, where some have no partner and not every pairing is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from parity.judging.correspondence import Correspondence, Pairing
from parity.judging.floor import Floor
from parity.judging.verdict import Judgement, Verdict
from parity.tolerance import FACTOR
from parity.trajectory import Stack, Trajectory
from parity.typing import Array

Judge = Callable[[Trajectory, Trajectory, Floor], Judgement]


def as_far_as_matched(
    found: Judgement, run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence, judge: Judge
) -> tuple[Judgement, list[str]]:
    """Take back a verdict that rests on a pairing which may be another, or that left trained tensors out.

    Args:
        found: The judgement on all matched tensors.
        run: The run, in the canonical layout.
        reference: What it was held against, likewise.
        floor: The noise floor of both.
        matched: The correspondence.
        judge: Judges again, with fewer tensors.

    Returns:
        The judgement, and what was left out of it. A FAIL stands if it does without the pairings in doubt: those that
        nothing proves, where another partner would agree. A PASS stands if every trained tensor has a partner. Anything
        else is INCONCLUSIVE.
    """
    left, notes = set(run.params), list[str]()
    first = ""
    while found.verdict is Verdict.FAIL and found.parameter in left:
        name = found.parameter
        pairing = matched.pairing_of(name)
        if pairing is None or pairing.proven:
            return found, notes
        count = unbiased(run.params[name], reference.params[name], floor.params[name])
        doubt = "" if count else _doubt(name, pairing, run, reference, floor, matched)
        if count:
            notes.append(f"{name} is a variance over {count} values, on one side the unbiased one: it is left out")
        elif not doubt:
            return found, notes
        first = first or doubt
        left -= {one for one in left if matched.pairing_of(one) is pairing}
        found = judge(_only(run, left), _only(reference, left), replace(floor, params=_kept(floor.params, left)))
    if found.verdict is Verdict.FAIL:
        return found, notes
    if first:
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=first), notes
    if found.verdict is Verdict.PASS and matched.missed:
        names = matched.missed
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        reason = f"all that was matched agrees, but trained tensors have no partner and were not compared: {some}"
        found = replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return found, notes


@np.errstate(all="ignore")
def unbiased(ours: Stack, theirs: Stack, floor: Array) -> int:
    """Say over how many values a running variance was taken, if one side's alone is the unbiased one, as torch's is.

    An unbiased variance is n / (n - 1) times the other. So at each snapshot the running variances of all channels lie
    on one line of that slope.

    Args:
        ours: A tensor's snapshots, (S, channels).
        theirs: The same of the other run.
        floor: The noise floor, (S,).

    Returns:
        n; 0 if the tensors differ otherwise.

    Examples:
        >>> biased = 0.9 + 0.1 * np.array([[1.0, 1.0, 1.0], [0.5, 0.8, 1.7]])
        >>> unbiased(0.9 + (biased - 0.9) * 8 / 7, biased, np.full(2, 1e-15))
        8
    """
    if len(ours.shape) != 2 or ours.shape[1] < 3:
        return 0
    x, y = (np.asarray(of[:], np.float64) for of in (ours, theirs))
    low, high = int(np.argmin(y[1])) if len(y) > 1 else 0, int(np.argmax(y[1])) if len(y) > 1 else 0
    slope = (x[-1, high] - x[-1, low]) / (y[-1, high] - y[-1, low]) if len(y) > 1 else np.nan
    for first, second, ratio in ((x, y, slope), (y, x, 1 / slope)):
        if 1 < ratio <= 2:
            count = round(ratio / (ratio - 1))
            offsets = first - second * count / (count - 1)
            if (np.ptp(offsets[1:], axis=1) <= 4 * FACTOR * floor[1 : len(offsets)]).all():
                return count
    return 0


def _doubt(
    name: str, pairing: Pairing, run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence
) -> str:
    """Say which other partner, or other arrangement, a tensor that differs would agree with; "" if none."""
    mine = _last(run, name)
    allowed = FACTOR * float(floor.params[name][-1])
    for other, stack in reference.params.items():
        partner = matched.pairing_of(other)
        if partner is None or partner.proven or np.prod(stack.shape[1:]) != mine.size:
            continue
        if np.max(np.abs(_last(reference, other) - mine), initial=0.0) <= allowed:
            ours = " + ".join(pairing.names[0])
            if other == name:
                return (
                    f"{ours} holds at the end the values of {name} in another order: nothing proves in which order it "
                    "is to be compared, say so with --map"
                )
            return (
                f"{ours} differs from {name}, which it was matched with by {pairing.how}, and agrees with {other}: "
                "nothing proves which it is, say so with --map"
            )
    return ""


def _last(run: Trajectory, name: str) -> Array:
    """A tensor's values at the end of a run, in ascending order."""
    values: Array = np.sort(np.asarray(run.params[name][len(run.epochs) - 1], np.float64).reshape(-1))
    return values


def _only(run: Trajectory, names: set[str]) -> Trajectory:
    return replace(run, params={name: run.params[name] for name in run.params if name in names})


def _kept(params: dict[str, Array], names: set[str]) -> dict[str, Array]:
    return {name: values for name, values in params.items() if name in names}
