"""What a verdict on matched tensors is worth, where some have no partner and not every pairing is proven."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from parity.judging.floors.floor import Floor
from parity.judging.tensors.correspondence import Correspondence, Pairing, first_few
from parity.judging.tensors.search import EndedError, Search
from parity.judging.updates.departures import unbiased_fit
from parity.judging.updates.followed import followed_updates
from parity.judging.updates.single import coarser
from parity.judging.verdict import Judgement, Verdict
from parity.recording.steps import steps_of
from parity.tolerance import FACTOR, ROUNDINGS
from parity.trajectory import Stack, Trajectory
from parity.typing import Array

Judge = Callable[[Trajectory, Trajectory, Floor], Judgement]


def lacking(run: Trajectory, other: Trajectory, matched: Correspondence) -> tuple[str, ...]:
    """Name what has no partner and what a PASS cannot do without: a tensor that is trained, or that moves.

    A tensor that nothing trains and that stays as it began, as a mask that a model keeps, takes no part in training.
    """
    moving = [
        name
        for side, alone, untrained in zip((run, other), matched.alone, matched.untrained, strict=True)
        for name in alone
        if name in untrained and _moves(side.params[name])
    ]
    return tuple(dict.fromkeys((*matched.missed, *moving)))


def _moves(stack: Stack) -> bool:
    return any(not np.array_equal(stack[0], stack[place], equal_nan=True) for place in range(1, len(stack)))


def without_partner(found: Judgement, names: Sequence[str]) -> Judgement:
    """Take back a PASS that left out tensors without a partner."""
    if found.verdict is not Verdict.PASS or not names:
        return found
    reason = f"all that was matched agrees, but tensors have no partner and were not compared: {first_few(names)}"
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)


def where_search_ended(found: Judgement, matched: Correspondence | None) -> Judgement:
    """Take back a verdict on tensors that a search has matched which ended too soon.

    Args:
        found: The judgement.
        matched: The correspondence, if tensors were matched.

    Returns:
        The judgement. A PASS is INCONCLUSIVE, and so is a FAIL by a pairing that nothing proves: among the tensors that
        are left there may be another partner.
    """
    if matched is None or not matched.ended:
        return found
    if found.verdict is Verdict.PASS:
        reason = f"all that was matched agrees, but {matched.ended}: --limits N allows N times as much"
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
    pairing = matched.pairing_of(found.parameter) if found.parameter else None
    if found.verdict is Verdict.FAIL and pairing is not None and not pairing.proven:
        names = " + ".join(pairing.names[0])
        reason = f"{names} differs, and nothing proves its partner: {matched.ended}; --limits N allows N times as much"
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)
    return found


def as_far_as_matched(
    found: Judgement, run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence, judge: Judge
) -> Judgement:
    """Take back a verdict that rests on a pairing which may be another.

    Args:
        found: The judgement on all matched tensors.
        run: The run, in the canonical layout.
        reference: What it was held against, likewise.
        floor: The noise floor of both.
        matched: The correspondence.
        judge: Judges again, with fewer tensors.

    Returns:
        The judgement. A FAIL stands if it does without the pairings in doubt: those that nothing proves, where another
        partner would agree. Else it is INCONCLUSIVE.
    """
    left, first, search = set(run.params), "", Search()
    while found.verdict is Verdict.FAIL and found.parameter in left:
        name = found.parameter
        pairing = matched.pairing_of(name)
        if pairing is None or pairing.proven:
            return found
        try:
            doubt = _doubt(name, pairing, run, reference, floor, matched, search)
        except EndedError:
            reason = f"nothing proves what {' + '.join(pairing.names[0])} was matched with, and {search.sentence}"
            return replace(found, verdict=Verdict.INCONCLUSIVE, reason=first or reason)
        if not doubt:
            return found
        first = first or doubt
        left -= {one for one in left if matched.pairing_of(one) is pairing}
        found = judge(only(run, left), only(reference, left), floor.only(left))
    if found.verdict is Verdict.FAIL:
        return found
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=first) if first else found


def unbiased_in_one(
    run: Trajectory, reference: Trajectory, floor: Floor, matched: Correspondence, judge: Judge
) -> dict[str, int]:
    """Name the running variances that are the unbiased ones in one run alone.

    Args:
        run: A run, in the canonical layout.
        reference: What it is held against, likewise.
        floor: The noise floor of both.
        matched: The correspondence.
        judge: Judges the runs without these tensors. Once others part, running variances follow them: only up to there
            is it asked whether anything else is the matter with them.

    Returns:
        Over how many values, as far as can be told, each of them was taken.
    """

    def found(names: Iterable[str], until: int) -> dict[str, int]:
        each = {name: unbiased(run.params[name], reference.params[name], floor.params[name], until) for name in names}
        return {name: count for name, count in each.items() if count}

    candidates = found([n for n in run.params if _untrained(n, matched)], 2)
    if not candidates:
        return {}
    left = set(run.params) - candidates.keys()
    said = judge(only(run, left), only(reference, left), floor.only(left))
    parts = said.epoch if said.verdict is Verdict.FAIL and said.epoch is not None else None
    until = len(run.epochs) if parts is None else int(np.searchsorted(run.epochs, parts))
    return found(candidates, max(2, until))


def unbiased_where_followed(run: Trajectory, reference: Trajectory) -> list[str]:
    """Name the running variances that are the unbiased ones in one run alone, where each update begins anew.

    Args:
        run: A run that was followed or follows.
        reference: The other one.

    Returns:
        Their names, if each update shows it that shows any difference.
    """
    u, shown = coarser(run, reference), dict[str, list[bool]]()
    pairs = zip(steps_of(run), steps_of(reference), strict=False)
    for step, other in islice(pairs, followed_updates(run, reference)):
        for name in (step.after.params.keys() & other.after.params.keys()) - step.gradients.keys():
            ours, theirs = (np.stack([of.before.params[name], of.after.params[name]]) for of in (step, other))
            ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
            apart, size = (float(np.max(np.abs(of), initial=0.0)) for of in (ours - theirs, theirs))
            if apart > 2 * FACTOR * ROUNDINGS * u * size:
                fits = unbiased_fit(ours, theirs, np.arange(2), u) is not None
                shown.setdefault(name, []).append(fits)
    return sorted(name for name, each in shown.items() if all(each))


def _untrained(name: str, matched: Correspondence) -> bool:
    pairing = matched.pairing_of(name)
    return pairing is not None and set(pairing.names[0]) <= matched.untrained[0]


@np.errstate(all="ignore")
def unbiased(ours: Stack, theirs: Stack, floor: Array, until: int | None = None) -> int:
    """Say over how many values a running variance was taken, if one side's alone is the unbiased one, as torch's is.

    An unbiased variance is n / (n - 1) times the other. So at each snapshot the running variances of all channels lie
    on one line of that slope.

    Args:
        ours: A tensor's snapshots, (S, channels).
        theirs: The same of the other run.
        floor: The noise floor, (S,).
        until: How many snapshots are looked at; all of them if it is not said.

    Returns:
        n; 0 if the tensors differ otherwise.

    Examples:
        >>> biased = 0.9 + 0.1 * np.array([[1.0, 1.0, 1.0], [0.5, 0.8, 1.7]])
        >>> unbiased(0.9 + (biased - 0.9) * 8 / 7, biased, np.full(2, 1e-15))
        8
    """
    if len(ours.shape) != 2 or ours.shape[1] < 3:
        return 0
    x, y = (np.asarray(of[:until], np.float64) for of in (ours, theirs))
    if len(y) < 2:
        return 0
    # At the first snapshot the runs have not drifted apart yet.
    low, high = int(np.argmin(y[1])), int(np.argmax(y[1]))
    slope = (x[1, high] - x[1, low]) / (y[1, high] - y[1, low])
    for first, second, ratio in ((x, y, slope), (y, x, 1 / slope)):
        if 1 < ratio <= 2:
            count = round(float(ratio / (ratio - 1)))
            offsets = first - second * count / (count - 1)
            # Roundings alone lie on no line.
            if FACTOR * np.ptp(offsets[1]) > np.ptp(first[1] - second[1]):
                continue
            if (np.ptp(offsets[1:], axis=1) <= 4 * FACTOR * floor[1 : len(offsets)]).all():
                return count
    return 0


def _doubt(
    name: str,
    pairing: Pairing,
    run: Trajectory,
    reference: Trajectory,
    floor: Floor,
    matched: Correspondence,
    search: Search,
) -> str:
    """Say which other partner, or other arrangement, a tensor that differs would agree with; "" if none."""
    mine = _last(run, name)
    allowed = FACTOR * float(floor.params[name][-1])
    for other, stack in reference.params.items():
        search.go_on()
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


def only(run: Trajectory, names: set[str]) -> Trajectory:
    """Give a run with some of its tensors alone."""
    return replace(run, params={name: run.params[name] for name in run.params if name in names})
