"""PASS, FAIL or INCONCLUSIVE, with the evidence. A run that was not compared never passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from parity.dtypes import NARROW
from parity.judging.comparable import incomparable, unlike_metrics
from parity.judging.compare import Difference, differences
from parity.judging.floors.floor import Floor, Source, strays
from parity.judging.floors.sight import blind, hidden
from parity.judging.moments import moment, unit_of
from parity.tolerance import FACTOR, ROUNDINGS, least_floor
from parity.typing import Array, Params

if TYPE_CHECKING:
    from parity.trajectory import Trajectory


class Verdict(StrEnum):
    """The result of a comparison. A run that was not compared never passes: it is INCONCLUSIVE.

    Examples:
        >>> Verdict("PASS") is Verdict.PASS
        True
    """

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


METRICS = "metrics/"
"""Before the name of a metric, where it stands beside parameters."""
EXIT_STATUS = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 3}


def overall(verdicts: list[Verdict]) -> Verdict:
    """Combine verdicts: FAIL outweighs INCONCLUSIVE, INCONCLUSIVE outweighs PASS. Without any, INCONCLUSIVE."""
    if not verdicts:
        return Verdict.INCONCLUSIVE
    return max(verdicts, key=[Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL].index)


@dataclass(frozen=True, eq=False)
class Evidence:
    """The distances of a run from the run that it was held against, and the noise floor of each.

    ``distances`` are those of ``parity.judging.floors.floor.strays``: ``loss`` (E·B,), each parameter (S,), each metric
    under ``metrics/<name>`` (S,). ``floors`` have the same names and are shorter if the noise floor ends before the
    run. ``asserted`` names the quantities that the verdict rests on. ``epochs`` (S,) are those of the snapshots,
    ``batches`` is B. ``lockstep`` is the length in epochs of the stretches that each started from the reference's
    state; None for a free run.
    """

    distances: Params
    floors: Params
    asserted: tuple[str, ...]
    epochs: Array
    batches: int
    lockstep: int | None = None

    def epoch(self, name: str, place: int) -> int:
        """The epoch of the distance of ``name`` at ``place``."""
        return place // self.batches + 1 if name == "loss" else int(self.epochs[place])

    def share(self, name: str) -> Array:
        """The distances as shares of their tolerance, as far as the noise floor reaches."""
        floor = self.floors[name]
        values = self.distances[name][: len(floor)]
        with np.errstate(invalid="ignore", divide="ignore"):
            # 0 / 0 is a share of 0: no difference where none is allowed.
            return np.where(values == 0, 0.0, values / (FACTOR * floor))


@dataclass(frozen=True)
class Judgement:
    """A verdict and its grounds.

    Attributes:
        verdict: PASS, FAIL or INCONCLUSIVE.
        ratio: The largest share of its tolerance that any quantity used; below 1 passes. None where nothing was
            compared.
        epoch: The epoch of that quantity; in a failure, the epoch where the tolerance was first exceeded. The loss of
            an epoch comes before the parameters at its end.
        parameter: The quantity itself: ``loss`` or a parameter's name.
        reason: Why the verdict is no PASS, in a sentence; empty otherwise.
        difference: In a failure, the largest difference of that quantity at that epoch.
        tolerance: In a failure, the difference that was allowed there, in the quantity's units.
        reach: The epoch up to which a run was judged, if it is longer than its noise floor; None for all others.
        note: The course of such a run after that epoch.
        lockstep: The length in epochs of the stretches of the run that all this is said of; None for a free run.
        source: Where the noise floor comes from that the tolerances follow from; None where nothing was compared.
        unmeasured: The stretches of a run in lockstep, by the epochs after which they begin, that are INCONCLUSIVE for
            want of a floor that was measured there.
        evidence: All measured distances: those of the free run, then those of the run in lockstep if there is one.

    Examples:
        >>> Judgement(Verdict.PASS, ratio=0.25, epoch=3, parameter="loss").verdict
        <Verdict.PASS: 'PASS'>
    """

    verdict: Verdict
    ratio: float | None = None
    epoch: int | None = None
    parameter: str | None = None
    reason: str = ""
    difference: Difference | None = None
    tolerance: float | None = None
    reach: int | None = None
    note: str = ""
    lockstep: int | None = None
    source: Source | None = None
    unmeasured: tuple[int, ...] = ()
    evidence: tuple[Evidence, ...] = field(default=(), compare=False, repr=False)


def judge_run(
    run: Trajectory,
    reference: Trajectory,
    floor: Floor,
    *,
    check: Trajectory | None = None,
    params: bool = True,
    stretches: Callable[[], tuple[int, Trajectory, Floor]] | None = None,
) -> Judgement:
    """Judge a whole cell: its free run and, if it has one, its run in lockstep.

    ``check`` is the run that the reference itself is held against; None for every other run. ``stretches`` gives the
    length of the stretches, the run in lockstep and its floor. It is called only if the free run passes, or agrees up
    to the end of its noise floor.
    """
    found = judge(run, reference, floor, params, metrics=True) if check is None else judge_check(run, check, floor)
    if stretches is None or (found.verdict is not Verdict.PASS and found.reach is None):
        return sighted(found, reference)
    length, held, allowed = stretches()
    stretched = judge(held, reference, allowed.carried(reference), metrics=True)
    if stretched.verdict is Verdict.FAIL and stretched.epoch is not None and not allowed.measured(stretched.epoch):
        # How far rounding leads a stretch depends on its start, so a floor measured on other stretches cannot convict.
        reason = (
            f"{stretched.reason}, in lockstep every {length} epochs; the noise floor was measured up to epoch "
            f"{len(allowed.loss)} and carried on from there, so this may be rounding: 'parity run' measures it there, "
            "anew with --fresh"
        )
        unmeasured = _beyond_measured(stretched.evidence[0], allowed, length)
        stretched = replace(stretched, verdict=Verdict.INCONCLUSIVE, reason=reason, unmeasured=unmeasured)
    if allowed.stretches:
        own = f"stretches whose noise floor was measured where they begin: {len(allowed.stretches)}"
        stretched = replace(stretched, note="; ".join(filter(None, (stretched.note, own))))
    return sighted(judge_both(found, stretched, length), reference)


def _beyond_measured(evidence: Evidence, allowed: Floor, length: int) -> tuple[int, ...]:
    """The stretches that part by more than the tolerance that is carried on to them, by where they begin."""
    found: set[int] = set()
    for name in evidence.asserted:
        for place in np.flatnonzero(~(evidence.share(name) <= 1)):
            epoch = evidence.epoch(name, int(place))
            if not allowed.measured(epoch):
                found.add((epoch - 1) // length * length)
    return tuple(sorted(found))


def sighted(
    found: Judgement,
    reference: Trajectory,
    but: Collection[str] = (),
    dtype: str | None = None,
    also: Sequence[Evidence] = (),
) -> Judgement:
    """Turn a PASS into INCONCLUSIVE if a tolerance that it rests on could not have seen a gross mistake.

    ``reference`` is what the run was held against, ``but`` the parameters that only rounding moves: none could see one
    there, ``dtype`` the coarser of the two runs'. ``also`` is the evidence of narrower tolerances that the run keeps
    too. See ``parity.judging.floors.sight``.
    """
    if found.verdict is not Verdict.PASS:
        return found
    allowed: dict[str, list[Array]] = {}
    for one in (*found.evidence, *also):
        for name in one.asserted:
            if not name.startswith(METRICS) and name not in but:  # A count of rows has no movement to be a part of.
                allowed.setdefault(name, []).append(FACTOR * one.floors[name])
    doubt = coarse(found, dtype or str(reference.meta.get("dtype", ""))) or blind(allowed, reference)
    if not doubt and found.source in (Source.BESIDE, Source.SHADOWS, Source.REPETITIONS):
        doubt = hidden(allowed, reference)  # it came with its run, and nobody else has measured it
    if not doubt:
        return found
    takes = "a wider dtype, or a longer run"
    if found.source in (None, Source.ROUNDING):
        takes = "a measured noise floor (--noise), a wider dtype, or a longer run"
    elif found.source is Source.SHADOWS:
        takes = "one run to follow the other, update by update (watch(..., follow=RUN)), or a wider dtype"
    reason = f"agrees, but the comparison would not see a gross mistake: {doubt}; it takes {takes}"
    return replace(found, verdict=Verdict.INCONCLUSIVE, reason=reason)


def coarse(found: Judgement, dtype: str) -> str:
    """Say how much is allowed where a dtype has so few digits that the least tolerance is a part of a value, or "".

    Runs that are equal to the bit need no tolerance.
    """
    if found.source is not Source.ROUNDING or dtype not in NARROW or not found.ratio:
        return ""
    part = FACTOR * least_floor(1.0, dtype)
    return f"{FACTOR * ROUNDINGS} roundings of {dtype} are {100 * part:.2g} % of a value"


def judge(
    run: Trajectory, reference: Trajectory, floor: Floor, params: bool = True, metrics: bool = False
) -> Judgement:
    """Compare a run with its reference: every batch's loss and every snapshot of every parameter.

    Args:
        run: What is judged.
        reference: What it is held against, of the same epochs and shapes.
        floor: The noise floor of the run's dtype. A run longer than its floor is judged up to the floor's end: it may
            fail there, and is INCONCLUSIVE otherwise.
        params: False leaves the parameters out; the case's spec says when and why that is right.
        metrics: Whether metrics are compared too. They are asserted where the parameters are, because predictions are
            made of them.

    Returns:
        The verdict with its evidence; INCONCLUSIVE if the runs cannot be compared, or if a metric is recorded on one
        side alone or has no noise floor.
    """
    doubt = incomparable(run, reference) or (unlike_metrics(run, reference, floor) if metrics else "")
    if doubt:
        return Judgement(Verdict.INCONCLUSIVE, reason=doubt)
    reach = min(len(floor.loss), len(reference.loss))
    if not _fits(floor, reference.until(reach)):
        return Judgement(Verdict.INCONCLUSIVE, reason="the noise floor was measured on a run of another shape")
    scores = {f"{METRICS}{name}": values for name, values in floor.metrics.items()} if metrics else {}
    evidence = Evidence(
        strays(run, reference) | {name: _metric_distance(run, reference, name) for name in scores},
        {"loss": floor.loss.ravel()} | floor.params | scores,
        ("loss", *((*reference.params, *scores) if params else ())),
        run.epochs,
        max(1, reference.loss.shape[1]),
    )
    if reach < len(reference.loss):
        found = _judge_beginning(run, reference, floor, evidence)
    else:
        found = _judge_whole(run, reference, evidence)
        ends = [len(values) for values in scores.values() if len(values) < len(run.epochs)]
        if found.verdict is Verdict.PASS and ends:
            found = replace(found, note=f"metrics were compared up to epoch {run.epochs[min(ends) - 1]}")
    return replace(found, evidence=(evidence,), source=floor.source)


def _metric_distance(run: Trajectory, reference: Trajectory, name: str) -> Array:
    """How far a metric is from the reference's at each snapshot, (S,): 0 where both have the same, or none.

    A metric may have no value, as an average of nothing has none; a value and none are infinitely far apart.
    """
    ours, theirs = (np.asarray(of.metrics[name.removeprefix(METRICS)], np.float64) for of in (run, reference))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with np.errstate(invalid="ignore"):
        return np.where(same, 0.0, np.nan_to_num(np.abs(ours - theirs), nan=np.inf, posinf=np.inf))


def _fits(floor: Floor, reference: Trajectory) -> bool:
    lengths = {name: len(values) for name, values in reference.params.items()}
    return floor.loss.shape == reference.loss.shape and {n: len(v) for n, v in floor.params.items()} == lengths


def _judge_whole(run: Trajectory, reference: Trajectory, evidence: Evidence) -> Judgement:
    return judge_evidence(evidence, unit_of(run), partial(_difference, run, reference))


def judge_evidence(evidence: Evidence, unit: str, difference_at: Callable[[str, int], Difference]) -> Judgement:
    """Judge distances by their noise floors.

    Args:
        evidence: Both.
        unit: By what moments are counted: see ``parity.judging.moments``.
        difference_at: Gives the largest difference of a quantity at one of its places.

    Returns:
        The verdict; INCONCLUSIVE where the loss is asserted and there is none.
    """
    floors = {name: evidence.floors[name] for name in evidence.asserted}
    shares = {name: evidence.share(name) for name in evidence.asserted}
    if not any(share.size for share in shares.values()):
        return Judgement(Verdict.INCONCLUSIVE, reason="nothing was compared: the run has no losses and no parameters")
    # Where stirred runs overflowed, the tolerance is infinite, and even a NaN says nothing about the run.
    beyond = {name: ~(share <= 1) & ~np.isposinf(floors[name]) for name, share in shares.items()}
    exceeded = [
        (evidence.epoch(name, place), _order(name), -float(shares[name][place]), name, place)
        for name, places in beyond.items()
        if places.any()
        for place in [int(np.argmax(places))]
    ]
    if exceeded:
        epoch, _, _, name, place = min(exceeded)
        # A metric of which no row may change is infinitely far off at once: beside a parameter its share says nothing.
        alike = [values for one, values in shares.items() if one.startswith(METRICS) == name.startswith(METRICS)]
        worst = max(float(np.max(np.nan_to_num(share, nan=np.inf, posinf=np.inf))) for share in alike if share.size)
        allowed = float(FACTOR * floors[name][place])
        difference = difference_at(name, place)
        batch = place % evidence.batches
        return Judgement(
            Verdict.FAIL,
            worst,
            epoch,
            name,
            _where(name, moment(unit, epoch, batch if name == "loss" else None), difference, allowed),
            difference,
            allowed,
        )
    unbounded = [name for name, values in floors.items() if not np.isfinite(values).all()]
    if unbounded:
        return Judgement(
            Verdict.INCONCLUSIVE, reason=f"the noise floor of {unbounded[0]} is not finite: no run can be held to it"
        )
    if "loss" in shares and not shares["loss"].size:
        return Judgement(Verdict.INCONCLUSIVE, reason="nothing was trained: both runs hold their beginning alone")
    name = max(shares, key=lambda name: float(shares[name].max(initial=0.0)))
    place = int(np.argmax(shares[name]))
    return Judgement(Verdict.PASS, float(shares[name][place]), evidence.epoch(name, place), name)


def _order(name: str) -> int:
    """What is said first of what was exceeded at one epoch: the loss, then a parameter, then a metric made of them."""
    return 0 if name == "loss" else 2 if name.startswith(METRICS) else 1


def judge_check(reference: Trajectory, check: Trajectory, floor: Floor) -> Judgement:
    """Judge the reference against its own check, which may end with the noise floor."""
    reach, epochs = len(check.loss), len(reference.loss)
    if reach == epochs:
        return judge(reference, check, floor, metrics=True)
    found = judge(reference.until(reach), check, floor, metrics=True)
    if found.verdict is not Verdict.PASS:
        return found
    note = f"the free run was checked up to epoch {reach} of {epochs}"
    reason = f"{note}, where its noise floor ends: --lockstep N checks every epoch"
    return replace(found, verdict=Verdict.INCONCLUSIVE, reach=reach, reason=reason, note=note)


def judge_both(free: Judgement, lockstep: Judgement, length: int) -> Judgement:
    """Combine the judgements on a cell's free run and on its run in lockstep, in stretches of ``length`` epochs.

    If the free run agrees up to the end of its floor and every stretch agrees, rounding alone leads it away later.
    """
    evidence = (*free.evidence, *(replace(one, lockstep=length) for one in lockstep.evidence))
    free, lockstep = replace(free, evidence=evidence), replace(lockstep, evidence=evidence, lockstep=length)
    if free.reach is not None:
        if lockstep.verdict is not Verdict.PASS:
            return lockstep
        note = f"{free.note}; every stretch of {length} epochs agrees, so rounding alone leads it away later"
        note += f"; {lockstep.note}" if lockstep.note else ""
        free = replace(free, verdict=Verdict.PASS, reason="", note=note)
        lockstep = replace(lockstep, note=note)
    return max(free, lockstep, key=lambda found: (found.verdict is not Verdict.PASS, found.ratio or 0.0))


def _judge_beginning(run: Trajectory, reference: Trajectory, floor: Floor, evidence: Evidence) -> Judgement:
    reach, epochs = len(floor.loss), len(reference.loss)
    begun, other = run.until(reach), reference.until(reach)
    ends = {name: reach * evidence.batches if name == "loss" else len(begun.epochs) for name in evidence.distances}
    distances = {name: values[: ends[name]] for name, values in evidence.distances.items()}
    found = _judge_whole(begun, other, replace(evidence, distances=distances, epochs=begun.epochs))
    if found.verdict is not Verdict.PASS:
        return found
    last = _last_within(reference, floor, evidence)
    note = f"the free run keeps the tolerance of epoch {reach} up to epoch {last} of {epochs}"
    reason = f"agrees up to epoch {reach}, where its noise floor ends; {note}: --lockstep N compares every epoch"
    return replace(found, verdict=Verdict.INCONCLUSIVE, reach=reach, reason=reason, note=note)


def _last_within(reference: Trajectory, floor: Floor, evidence: Evidence) -> int:
    """The last epoch up to which every asserted quantity keeps the tolerance that its floor ends with, carried on."""
    allowed = floor.carried(reference)
    beyond = np.flatnonzero(~(evidence.distances["loss"] <= FACTOR * allowed.loss.ravel())) // evidence.batches
    last = int(beyond[0]) if len(beyond) else len(reference.loss)
    for name in allowed.params.keys() & set(evidence.asserted):
        beyond = np.flatnonzero(~(evidence.distances[name] <= FACTOR * allowed.params[name]))
        last = min(last, int(evidence.epochs[beyond[0] - 1])) if len(beyond) else last
    return last


def _difference(run: Trajectory, reference: Trajectory, name: str, place: int) -> Difference:
    if name == "loss":
        ours, theirs = run.loss.reshape(-1)[place : place + 1], reference.loss.reshape(-1)[place : place + 1]
    elif name.startswith(METRICS):
        ours, theirs = (of.metrics[name.removeprefix(METRICS)][place : place + 1] for of in (run, reference))
    else:
        ours, theirs = run.params[name][place : place + 1], reference.params[name][place : place + 1]
    found = differences(ours, theirs, name, dtype=run.meta.get("dtype"))
    worst = found.nonfinite or found.absolute
    assert worst is not None, "a tolerance was exceeded by no difference"
    return worst


def _where(name: str, when: str, worst: Difference, allowed: float) -> str:
    index = "" if name == "loss" or name.startswith(METRICS) else "[" + ", ".join(map(str, worst.index)) + "]"
    found = f"first differs at {when}: {name}{index} is {worst.a:.9g}, the reference has {worst.b:.9g}"
    if not (np.isfinite(worst.a) and np.isfinite(worst.b)):
        return f"{found}: what is not finite agrees with nothing"
    return f"{found}; the difference {worst.absolute:.3g} exceeds {allowed:.3g}"
