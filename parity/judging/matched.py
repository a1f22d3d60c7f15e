"""What a verdict on matched tensors is worth, where some have no partner and not every pairing is proven."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from parity.judging.correspondence import Correspondence, Pairing
from parity.judging.floor import Floor
from parity.judging.verdict import Judgement, Verdict
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory
from parity.typing import Array

Judge = Callable[[Trajectory, Trajectory, Floor], Judgement]


def as_far_as_matched(
    found: Judgement, run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence, judge: Judge
) -> Judgement:
    """Take back a verdict that rests on a pairing which may be another, or that left trained tensors out.

    Args:
        found: The judgement on all matched tensors.
        run: The run, in the canonical layout.
        reference: What it was held against, likewise.
        floor: The noise floor of both.
        matched: The correspondence.
        judge: Judges again, with fewer tensors.

    Returns:
        A FAIL stands if it does without the pairings in doubt: those that nothing proves, where another partner would
        agree. A PASS stands if every trained tensor has a partner. Anything else is INCONCLUSIVE.
    """
    left = set(run.params)
    first = ""
    while found.verdict is Verdict.FAIL and found.parameter in left:
        pairing = matched.pairing_of(str(found.parameter))
        doubt = _doubt(str(found.parameter), pairing, run, reference, floor, matched) if pairing else ""
        if not doubt:
            return found
        first = first or doubt
        left -= set(pairing.canonical if pairing else ())
        found = judge(_only(run, left), _only(reference, left), replace(floor, params=_kept(floor.params, left)))
    if found.verdict is Verdict.FAIL:
        return found
    if first:
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=first)
    if found.verdict is Verdict.PASS and matched.missed:
        names = matched.missed
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        reason = f"all that was matched agrees, but trained tensors have no partner and were not compared: {some}"
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return found


def _doubt(
    name: str, pairing: Pairing, run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence
) -> str:
    """Say which other partner, or other arrangement, a tensor that differs would agree with; "" if none."""
    if pairing.proven:
        return ""
    mine = _last(run, name)
    allowed = FACTOR * float(floor.params[name][-1])
    for other in matched.unproven:
        for canonical in other.canonical:
            theirs = _last(reference, canonical)
            if theirs.size == mine.size and np.max(np.abs(theirs - mine), initial=0.0) <= allowed:
                ours = " + ".join(pairing.names[0])
                if canonical == name:
                    return (
                        f"{ours} holds at the end the values of {name} in another order: nothing proves in which order "
                        "it is to be compared, say so with --map"
                    )
                return (
                    f"{ours} differs from {name}, which it was matched with by {pairing.how}, and agrees with "
                    f"{canonical}: nothing proves which it is, say so with --map"
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
