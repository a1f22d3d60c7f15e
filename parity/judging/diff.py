"""Recorded runs held against each other: from the files on disk, without any framework."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from parity.judging.checkpoints import Begin, held, opened_checkpoints, unwatched
from parity.judging.comparable import coarser_dtype
from parity.judging.compare import Difference, Worst, differences
from parity.judging.floors.floor import Floor, Source, too_narrow
from parity.judging.floors.known import NOTHING, Known
from parity.judging.floors.measured import floors_of, recorded_floor_of
from parity.judging.floors.repetition import Repetition, repetitions
from parity.judging.floors.sight import widest
from parity.judging.moments import EPOCH, moment, unit_of
from parity.judging.policy import asserts_parameters
from parity.judging.preflight import preflight
from parity.judging.renamed import held_under_other_names
from parity.judging.shared import only_snapshots, shared
from parity.judging.sketches import held_by_sketches
from parity.judging.tensors.aligned import aligned_floor, finer, in_common
from parity.judging.tensors.correspondence import Correspondence, first_few, read_map
from parity.judging.tensors.matched import (
    as_far_as_matched,
    lacking,
    only,
    unbiased_in_one,
    unbiased_where_followed,
    where_search_ended,
    without_partner,
)
from parity.judging.tensors.matching import inferred
from parity.judging.updates.defects import defects, losses
from parity.judging.updates.departures import DEPARTURES, Accepted, accepted, named, widened
from parity.judging.updates.followed import has_followed, judge_followed
from parity.judging.updates.late import in_step
from parity.judging.updates.settled import settled
from parity.judging.updates.single import Defect
from parity.judging.updates.zeros import as_notes, doubted, rounding_of, together, without
from parity.judging.verdict import Evidence, Judgement, Verdict, judge, sighted
from parity.recording.artefacts import ReplicasError, is_artefact, open_run, shards_of
from parity.recording.artefacts.sketched import is_sketch
from parity.recording.format import MANIFEST
from parity.recording.limits import FOLDER, Budget, LimitError
from parity.recording.manifest import read_manifest
from parity.recording.places import CHECKED, LOCKSTEP, RUN, kept_failure
from parity.recording.reader import superseded
from parity.tolerance import FACTOR
from parity.tolerance import least_floor as least
from parity.trajectory import NOTEBOOK, Trajectory, TrajectoryError
from parity.typing import Params


@dataclass(frozen=True)
class Comparison:
    """Two trajectories, the judgement on them and the largest differences anywhere in them.

    Attributes:
        a: The folder of the run that is judged.
        b: The folder of the run that it is held against.
        judgement: The verdict and its grounds.
        absolute: The largest absolute difference of any loss or parameter; None where nothing differs or nothing was
            compared.
        relative: The largest difference relative to the larger of the two values.
        ulp: The largest difference in units in the last place of the coarser dtype.
        notes: Remarks on the grounds of the verdict, such as a noise floor that was not measured.
        unit: By what the runs count their moments: see ``parity.judging.moments``.
        left_out: The canonical names of running statistics that differ as the frameworks do, and decide nothing.
        preflight: The differences that may make the numbers meaningless: settings, versions, batch orders, initial
            parameters.
        matched: Which tensors are the same, if they were matched; None where both runs have the same names.

    Examples:
        >>> here, passed = Path("runs/a"), Judgement(Verdict.PASS, ratio=0.0)
        >>> Comparison(here, here, passed, None, None, None, notes=()).as_json()["verdict"]
        <Verdict.PASS: 'PASS'>
    """

    a: Path
    b: Path
    judgement: Judgement
    absolute: Difference | None
    relative: Difference | None
    ulp: Difference | None
    notes: tuple[str, ...]
    preflight: tuple[str, ...] = ()
    unit: str = EPOCH
    matched: Correspondence | None = field(default=None, repr=False)
    left_out: frozenset[str] = frozenset()

    def _repr_html_(self) -> str:
        return str(import_module(NOTEBOOK).comparison(self))

    def as_json(self) -> dict[str, Any]:
        """Give the comparison as plain data.

        Returns:
            The object that ``parity diff --json`` writes for one pair of runs.
        """

        def plain(found: Difference | None) -> dict[str, Any] | None:
            if found is None:
                return None
            return {
                "tensor": found.tensor,
                "epoch": found.epoch,
                "index": list(found.index),
                "a": float(found.a),
                "b": float(found.b),
                "absolute": found.absolute,
                "relative": found.relative,
                "ulp": found.ulp,
            }

        return {
            "a": str(self.a),
            "b": str(self.b),
            "verdict": self.judgement.verdict,
            "ratio": self.judgement.ratio,
            "epoch": self.judgement.epoch,
            "parameter": self.judgement.parameter,
            "reason": self.judgement.reason,
            "floor": self.judgement.source,
            "absolute": plain(self.absolute),
            "relative": plain(self.relative),
            "ulp": plain(self.ulp),
            "notes": [*self.preflight, *self.notes],
        }


def compare_folders(
    a: Path,
    b: Path,
    noise: Sequence[Path] = (),
    known: Known = NOTHING,
    accept: Sequence[str] = (),
    matching: Path | None = None,
) -> list[Comparison]:
    """Compare two runs, or in two folders of runs every pair of the same case, dtype and length of stretches.

    ``noise`` and ``matching`` are those of ``compare`` and only for two runs; ``known`` is the suite that knows their
    cases; ``accept`` as in ``compare``. TrajectoryError if a run cannot be read or there is no pair to compare.
    """
    if are_runs(a, b):
        return [compare(a, b, noise, known, accept=accept, matching=matching)]
    if noise or matching:
        option = "--noise" if noise else "--map"
        raise TrajectoryError(f"{option} belongs to two trajectories: name their folders, not folders of runs")
    for root in (a, b):
        if not root.is_dir():
            raise TrajectoryError(f"{root} is not a folder: name a trajectory's folder or a folder of runs")
    same = a.resolve() == b.resolve()
    one, other = ([(run, (run.parent.name, *_kind(run))) for run in _runs(root)] for root in (a, b))
    candidates = itertools.combinations(one, 2) if same else itertools.product(one, other)
    pairs = [(mine, their) for (mine, kind), (their, its) in candidates if mine != their and kind == its]
    if not pairs:
        raise TrajectoryError(f"{a} and {b} have no case and dtype in common: nothing was compared")
    budget = Budget(FOLDER)
    return [compare(*pair, known=known, budget=budget, accept=accept) for pair in pairs]


def are_runs(a: Path, b: Path) -> bool:
    """Say whether two runs are named, and not two folders of runs."""
    return any((side / MANIFEST).exists() or is_artefact(side) for side in (a, b))


def unpaired(a: Path, b: Path, comparisons: Sequence[Comparison]) -> dict[Path, list[Path]]:
    """The runs in two folders that ``compare_folders`` found no counterpart for, by folder.

    A run that checks a reference is left out: it is a part of the reference.
    """
    compared = {folder for found in comparisons for folder in (found.a, found.b)}
    roots = (a,) if a.resolve() == b.resolve() else (a, b)
    return {root: [run for run in _runs(root) if run not in compared and _kind(run)[0] != CHECKED] for root in roots}


def compare(
    a: str | PathLike[str],
    b: str | PathLike[str],
    noise: Sequence[Path] = (),
    known: Known = NOTHING,
    budget: Budget | None = None,
    accept: Sequence[str] = (),
    matching: Path | None = None,
    begin: Begin = unwatched,
    shards: str = "",
) -> Comparison:
    """Compare two recorded runs: every batch's loss, every snapshot of every parameter and its metrics.

    What one run alone holds is named and keeps a PASS away; the rest is compared. Snapshots of one run alone between
    those that both hold are named, and keep nothing away.

    The tolerance is the sum of both runs' own, because either may be off by its share. Of a metric it is what rows near
    a tie may change, which a measured noise floor alone knows: without one, metrics that differ by more than roundings
    of their own value are INCONCLUSIVE.

    Where the runs have other names, shapes or axis orders, their tensors are matched first: see
    ``parity.judging.tensors.matching``.

    Two checkpoints whose tensors have the same names are compared as they are read, in memory that does not grow with
    them: see ``parity.judging.checkpoints``.

    A sketch of a checkpoint, as ``parity sketch`` makes it, is compared as far as it reaches: see
    ``parity.judging.sketches``.

    Args:
        a: The folder of a recorded run, a checkpoint, or a sketch of one.
        b: The folder of the run that it is held against, another checkpoint or a sketch.
        noise: Folders of repetitions of either run with its roundings stirred, for runs without a noise floor.
        known: The suite that knows the runs' case. It alone may say that a case's parameters are asserted in lockstep
            only, and its noise floors come before those that lie beside the runs.
        budget: What several readings may take together, if those of the two runs are among them.
        accept: Names of known departures that may differ: see ``parity.judging.updates.departures``. Nothing else
            passes by them.
        matching: A file of pairings of tensors, as ``parity match --json`` writes it, which are taken as they are.
        begin: Is told how many bytes of two checkpoints will be read, and gives what is told of them as they are.
        shards: How the shards of a checkpoint that is a folder of shards are joined: see ``parity.read_artefact``.

    Returns:
        The judgement, and the largest differences.

    Raises:
        TrajectoryError: If a run cannot be read, one in ``noise`` is no repetition of either run, or ``accept`` names
            no departure.

    Examples:
        >>> import tempfile
        >>> from parity.recording.writer import write
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("a", "b"):
        ...     write(root / name, np.arange(2), np.ones((1, 3)), {"dense/bias": np.zeros((2, 4))})
        >>> compare(root / "a", root / "b").judgement.verdict
        <Verdict.PASS: 'PASS'>
    """
    a, b = Path(a), Path(b)
    if shards and not any(shards_of(side, shards) for side in (a, b)):
        raise TrajectoryError(f"{a} and {b}: neither holds shards of ranks, as rank0.safetensors, to be joined")
    try:
        if sketched := [side for side in (a, b) if is_sketch(side)]:
            if noise or accept or matching:
                raise TrajectoryError(f"{sketched[0]}: is a sketch, which takes no --noise, --accept or --map")
            by = held_by_sketches(a, b, begin, shards)
            return Comparison(a, b, by.judgement, *by.worst, by.notes, by.preflight)
        both = None if noise or accept or matching else opened_checkpoints(a, b, shards)
        if both is None:
            return opened(a, b, noise, matching, budget, shards).compare(known, accept)
    except ReplicasError as error:
        return Comparison(a, b, Judgement(Verdict.FAIL, reason=str(error)), None, None, None, ())
    found = held(both, begin) if both.fit else None
    if found is not None:
        return Comparison(a, b, found.judgement, *found.worst, found.notes, found.preflight)
    # The tensors have other names or layouts. Values tell which are the same, and all are looked at together.
    try:
        ours, theirs = both.as_runs()
    except LimitError:
        renamed = held_under_other_names(both, begin)
        if renamed is None:
            raise
        found, same = renamed
        return Comparison(a, b, found.judgement, *found.worst, found.notes, found.preflight, matched=same)
    return Opened(a, ours, b, theirs, (), inferred(ours, theirs), budget).compare(known)


@dataclass(frozen=True, eq=False)
class Opened:
    """Two runs that were opened for a comparison, with repetitions of them, and their tensors matched."""

    a: Path
    ours: Trajectory
    b: Path
    theirs: Trajectory
    noise: Sequence[Repetition]
    matched: Correspondence | None
    budget: Budget | None = None

    def compare(self, known: Known, accept: Sequence[str] = ()) -> Comparison:
        """Hold them against each other: see ``parity.judging.diff.compare``."""
        found = compare_runs(
            self.a, self.ours, self.b, self.theirs, self.noise, known, accept, self.matched, self.budget
        )
        return replace(found, matched=self.matched)


def opened(
    a: Path,
    b: Path,
    noise: Sequence[Path] = (),
    matching: Path | None = None,
    budget: Budget | None = None,
    shards: str = "",
) -> Opened:
    """Open two runs and their repetitions, and match their tensors: see ``compare``."""
    ours, theirs = open_run(a, budget, shards), open_run(b, budget, shards)
    repeated = repetitions(ours, theirs, noise)
    matched = inferred(ours, theirs, read_map(matching) if matching else ())
    return Opened(a, ours, b, theirs, repeated, matched, budget)


@np.errstate(all="ignore")  # a recording may hold any numbers, a NaN that signals too
def compare_runs(
    a: Path,
    ours: Trajectory,
    b: Path,
    theirs: Trajectory,
    noise: Sequence[Repetition] = (),
    known: Known = NOTHING,
    accept: Sequence[str] = (),
    matched: Correspondence | None = None,
    budget: Budget | None = None,
) -> Comparison:
    """Compare two runs that were read already, in the layouts in which they are ``matched``: see ``compare``."""
    recorded = [recorded_floor_of(folder, run, known, budget) for folder, run in ((a, ours), (b, theirs))]
    params = any(_asserts_parameters(run, known) for run in (ours, theirs))
    alone = () if matched is None else lacking(ours, theirs, matched)
    common = in_common(ours, theirs, noise, matched)
    ours, theirs, noise = common.ours, common.theirs, common.noise
    recorded = [(aligned_floor(floor, own), said) for (floor, said), own in zip(recorded, common.layouts, strict=True)]
    sides = ((a, ours), (b, theirs))
    stale = [
        f"{folder} is an earlier run: a newer one was begun and not finished"
        for folder, run in sides
        if superseded(folder, run)
    ]
    before, pairings = (*stale, *preflight(ours, theirs)), [] if matched is None else list(matched.lines)
    if has_followed(ours) or has_followed(theirs):
        return _compare_followed(sides, before, pairings, alone, matched)
    departures = named(accept)
    failed = [f"{folder}: the last run failed: {reason}" for folder, _ in sides if (reason := kept_failure(folder))]
    parts = shared(ours, theirs)
    if doubt := "; ".join(failed) or (parts if isinstance(parts, str) else ""):
        notes = (*pairings, *(note for _, said in recorded for note in said))
        return Comparison(a, b, Judgement(Verdict.INCONCLUSIVE, reason=doubt), None, None, None, notes, before)
    assert not isinstance(parts, str)
    *cut, left_out = parts
    taken = accepted(cut[0].run, cut[1].run, departures)
    run, other, late = in_step(taken.run, cut[1].run)
    rounding = rounding_of(run, other)
    zeros, followers = rounding.zeros, rounding.followers
    floors, said = floors_of(sides, cut, noise, recorded, zeros)
    if ours.meta["dtype"] == theirs.meta["dtype"]:
        floors = finer(floors, common.layouts, (run, other))
    said = [*pairings, *said, *late, *_on_parameters(sides, params)]
    if doubt := _unfit(((a, cut[0].run), (b, other)), floors):
        return Comparison(a, b, Judgement(Verdict.INCONCLUSIVE, reason=doubt), None, None, None, tuple(said), before)
    both = widened(_of_both(floors), other, taken.roundings)
    judge_alike = partial(_judged, params=params)
    variances = {} if matched is None else unbiased_in_one(run, other, both, matched, judge_alike)
    if variances:
        left = set(run.params) - variances.keys()
        run, other, both = only(run, left), only(other, left), both.only(left)
        said.append(_on_variances(variances))
    said += as_notes(zeros, followers)
    zeros = rounding.decides_nothing(run.params)
    coarser = coarser_dtype(*(side for _, side in sides))
    free = both.source not in (Source.SUITE, Source.BESIDE) and not any(s.meta.get("lockstep") for _, s in sides)

    def held_without(zeros: Params) -> tuple[Judgement, list[str]]:
        # How far shadows strayed is known of whole tensors alone.
        whole = {name for name, which in zeros.items() if which.all() or both.source is Source.SHADOWS}
        freed, shown = without(run, other, zeros), list[Defect]()
        found = _judged(freed, other, both, params)
        if matched is not None:
            found = as_far_as_matched(found, freed, other, both, matched, judge_alike)
            found = where_search_ended(without_partner(found, alone), matched)
        if free:
            shown = _single_updates(run, other, noise, taken, zeros)
            found = settled(found, shown, freed, other, both.source is not Source.ROUNDING)
        notes = [defect.sentence for defect in shown if defect.sentence not in found.reason]
        found = sighted(found, other, whole, coarser, _within_the_calmest(freed, other, both, params))
        if found.verdict is Verdict.PASS and both.source in (Source.REPETITIONS, Source.SHADOWS):
            wide = widest({name: FACTOR * f for name, f in both.params.items() if name not in whole}, other)
            notes += filter(None, [wide])
        return found, notes

    judgement, shown = held_without(zeros)
    if judgement.verdict is Verdict.FAIL and rounding.perhaps:
        freed, fewer = held_without(together(rounding.perhaps, zeros))
        if freed.verdict is not Verdict.FAIL:
            judgement, shown = doubted(freed, rounding.perhaps), fewer
    said += shown
    said += [f"passes with what is accepted: {each}" for each in taken.said]
    if judgement.verdict is Verdict.FAIL:
        others = [each for each in DEPARTURES.values() if each not in departures]
        seen = {each.name: accepted(run, other, [each]).said for each in others}
        said += [f"{how[0]}: --accept {name} takes that" for name, how in seen.items() if how]
    if left_out:
        said += left_out
        if judgement.verdict is Verdict.PASS and not only_snapshots(ours, theirs):
            reason = f"{left_out[0]}; what both runs hold agrees"
            judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE, reason=reason)
    found = [differences(run.params[name], other.params[name], name, run.epochs, dtype=coarser) for name in run.params]
    found.append(differences(run.loss, other.loss, "loss", np.arange(1, len(run.loss) + 1), dtype=coarser))
    counted = unit_of(ours, theirs)
    return Comparison(a, b, judgement, *_worst(found), tuple(said), before, counted, left_out=frozenset(variances))


def _compare_followed(
    sides: Sequence[tuple[Path, Trajectory]],
    before: Sequence[str],
    pairings: Sequence[str],
    alone: Sequence[str],
    matched: Correspondence | None,
) -> Comparison:
    """Compare two runs of which one followed the other: update by update."""
    (a, ours), (b, theirs) = sides
    left_out = unbiased_where_followed(ours, theirs)
    common = in_common(ours, theirs, (), None, frozenset(left_out))
    found = judge_followed(common.ours, common.theirs)
    return Comparison(
        a,
        b,
        where_search_ended(without_partner(found.judgement, alone), matched),
        *(found.largest,) * 3,
        (*pairings, *([_on_variances(left_out)] if left_out else []), *found.notes),
        tuple(before),
        unit_of(ours, theirs),
        left_out=frozenset(left_out),
    )


def _of_both(floors: Sequence[Floor]) -> Floor:
    """Add two noise floors. One may end before its run: then both runs are judged up to there."""
    epochs, snapshots = (min(lengths) for lengths in zip(*map(_lengths, floors), strict=True))
    one, other = (floor.until(epochs, snapshots) for floor in floors)
    return Floor(
        one.loss + other.loss,
        {name: one.params[name] + other.params[name] for name in one.params},
        _added(one.metrics, other.metrics),
        source=max(filter(None, (one.source, other.source)), key=list(Source).index, default=None),
        calmest=_of_both([one.calmest, other.calmest]) if one.calmest and other.calmest else None,
    )


def _single_updates(
    run: Trajectory, other: Trajectory, noise: Sequence[Repetition], taken: Accepted, zeros: Params
) -> list[Defect]:
    """What single updates show beside the departures that were accepted."""
    shown = defects(
        run,
        other,
        [losses(each.run, each.base) for each in noise],
        scalars=taken.scalars,
        clipped=taken.clipped,
        times=taken.times,
        zeros=zeros,
    )
    return [defect for defect in shown if defect.tensor not in taken.corrected]


def _on_variances(names: Collection[str]) -> str:
    """Say which running variances are left out."""
    return (
        "a running variance is the unbiased one in one run alone, as torch keeps it, and the other's is not: left out "
        f"is {first_few(list(names))}"
    )


def _on_parameters(sides: Sequence[tuple[Path, Trajectory]], params: bool) -> list[str]:
    """Say whether parameters are compared, where a case or a recording would have it otherwise."""
    if not params:
        return [
            "this case's parameters are compared in lockstep only, except in float64: of a free run the losses count"
        ]
    return [
        f"{folder} says that its parameters are compared in lockstep only, which no suite confirms: they are compared"
        for folder, run in sides
        if not run.meta.get("lockstep") and run.meta.get("float32_parameters", "free") != "free"
    ]


def _unfit(sides: Sequence[tuple[Path, Trajectory]], floors: Sequence[Floor]) -> str:
    """Why two runs cannot be held to these noise floors, or ""."""
    runs = [run for _, run in sides]
    for (folder, run), floor in zip(sides, floors, strict=True):
        # Of a wrong run's size nothing is known, so that both must contradict the floor.
        doubts = [too_narrow(floor, one, run.meta["dtype"]) for one in runs]
        if all(doubts):
            return f"{folder}: {doubts[0]}"
    kept = {Source.SUITE, Source.BESIDE}
    alike = all(runs[0].meta.get(key) == runs[1].meta.get(key) for key in ("case", "dtype", "lockstep"))
    if alike and all(floor.source in kept for floor in floors):
        one, other = (floor.tensors() for floor in floors)
        if any(not np.array_equal(one[name], other[name], equal_nan=True) for name in one.keys() & other.keys()):
            return (
                f"two runs of one case need one noise floor, and those of {sides[0][0]} and {sides[1][0]} differ: "
                "record them again with one 'parity run'"
            )
    return ""


def _asserts_parameters(run: Trajectory, known: Known) -> bool:
    """Say whether the verdict rests on a run's parameters too. Only its suite may deny it, not the recording itself."""
    entry = known.entry_of(run)
    return bool(run.meta.get("lockstep")) or asserts_parameters(entry.case if entry else None, run.meta["dtype"])


def _added(one: Params, other: Params) -> Params:
    """The floors of the metrics that both sides have measured, as far as the shorter reaches."""
    return {
        name: values[: len(other[name])] + other[name][: len(values)] for name, values in one.items() if name in other
    }


def _judged(ours: Trajectory, theirs: Trajectory, floor: Floor, params: bool) -> Judgement:
    """Judge what has a measured noise floor, and then the metrics that have none or are on one side alone."""
    shared = ours.metrics.keys() & theirs.metrics.keys()
    measured = {name: values for name, values in floor.metrics.items() if name in shared}

    def kept(run: Trajectory) -> Trajectory:
        return replace(run, metrics={name: run.metrics[name] for name in measured})

    found = judge(kept(ours), kept(theirs), replace(floor, metrics=measured), params=params, metrics=True)
    if found.verdict is Verdict.PASS and params and (doubt := _metric_doubt(ours, theirs, shared - measured.keys())):
        return replace(found, verdict=Verdict.INCONCLUSIVE, reason=doubt)
    return found


def _within_the_calmest(ours: Trajectory, theirs: Trajectory, floor: Floor, params: bool) -> tuple[Evidence, ...]:
    """Hold the runs to what every stirred run strayed; without such a floor, or beyond it, there is no evidence."""
    if floor.calmest is None:
        return ()
    found = _judged(ours, theirs, floor.calmest, params)
    return found.evidence if found.verdict is Verdict.PASS else ()


@np.errstate(all="ignore")  # a recording may hold any numbers
def _metric_doubt(ours: Trajectory, theirs: Trajectory, unmeasured: Set[str]) -> str:
    """Say which metric could not be compared: one that a run lacks, or one without a floor that differs; or nothing."""
    for which, run, other in (("first", ours, theirs), ("second", theirs, ours)):
        if lacking := other.metrics.keys() - run.metrics.keys():
            return f"metric {min(lacking)} is missing from the {which} run"
    coarser = coarser_dtype(ours, theirs)
    for name in sorted(unmeasured):
        a, b = ours.metrics[name], theirs.metrics[name]
        allowed = FACTOR * least(np.fmax(np.abs(a), np.abs(b)), coarser)
        beyond = ~((a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= allowed))
        if beyond.any():
            place = int(np.argmax(beyond))
            when = moment(unit_of(ours, theirs), int(ours.epochs[place]))
            said = f"metric {name} is {a[place]:.9g} and {b[place]:.9g} at {when}"
            return f"{said}: how far rounding carries it was not measured"
    return ""


def _lengths(floor: Floor) -> tuple[int, int]:
    return len(floor.loss), len(next(iter(floor.params.values()), ()))


def _worst(found: list[Worst]) -> tuple[Difference | None, Difference | None, Difference | None]:
    def largest(kind: str) -> Difference | None:
        candidates = [
            worst for one in found if (worst := getattr(one, kind)) is not None and getattr(worst, kind) is not None
        ]
        return max(candidates, key=lambda worst: float(getattr(worst, kind)), default=None)

    return largest("absolute"), largest("relative"), largest("ulp")


def _runs(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/*/{MANIFEST}") if not path.parent.name.startswith("."))


def _kind(folder: Path) -> tuple[str, ...]:
    """The dtype and the length of stretches in a folder's name, ``<implementation>-<dtype>-<device>[-lockstepN]``.

    If a user gave the folder another name, the dtype that the run itself declares.
    """
    lockstep = LOCKSTEP.fullmatch(folder.name)
    named = RUN.fullmatch(lockstep["run"] if lockstep else folder.name)
    if named is None:
        return (str(read_manifest(folder)["dtype"]),)
    return (named["dtype"], lockstep["length"]) if lockstep else (named["dtype"],)
