"""Recorded trajectories held against each other: no framework, no suite, only what is on disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.compare import Difference, Worst, differences
from parity.deep import places, rows_in_words
from parity.dtypes import KNOWN, rounded, unit
from parity.frameworks import in_tf32
from parity.spec import Params
from parity.tolerance import FACTOR, Floor, file_name, floor_of, load
from parity.trajectory import MANIFEST, Trajectory, TrajectoryError, kept_failure, read, read_manifest, superseded
from parity.verdict import Judgement, Verdict, incomparable, judge


@dataclass(frozen=True)
class Comparison:
    """Two trajectories, the judgement on them and the largest differences anywhere in them.

    ``preflight`` says what differs that would make the numbers meaningless, or what they mean: settings, versions,
    batch orders, initial parameters. ``notes`` say what the verdict rests on where that is less than a noise floor.
    """

    a: Path
    b: Path
    judgement: Judgement
    absolute: Difference | None
    relative: Difference | None
    ulp: Difference | None
    notes: tuple[str, ...]
    preflight: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
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
            "absolute": plain(self.absolute),
            "relative": plain(self.relative),
            "ulp": plain(self.ulp),
            "notes": [*self.preflight, *self.notes],
        }


@dataclass(frozen=True, eq=False)
class Repetition:
    """A run that repeats ``base`` with its roundings stirred, and how far it strays: see ``tolerance.strays``."""

    run: Trajectory
    base: Trajectory
    distances: Params


def compare_folders(a: Path, b: Path, noise: Sequence[Path] = ()) -> list[Comparison]:
    """Compare two trajectories' folders, or every pair of the same case, dtype and kind in two folders of runs.

    ``noise`` as in ``compare``, for two trajectories alone. TrajectoryError for what cannot be read, and where there is
    nothing to compare.
    """
    if (a / MANIFEST).exists() or (b / MANIFEST).exists():
        return [compare(a, b, noise)]
    if noise:
        raise TrajectoryError("--noise belongs to two trajectories: name their folders, not folders of runs")
    for root in (a, b):
        if not root.is_dir():
            raise TrajectoryError(f"{root} is not a folder: name a trajectory's folder or a folder of runs")
    same = a.resolve() == b.resolve()
    candidates = itertools.combinations(_runs(a), 2) if same else itertools.product(_runs(a), _runs(b))
    pairs = [
        (ours, other)
        for ours, other in candidates
        if ours != other and ours.parent.name == other.parent.name and _kind(ours) == _kind(other)
    ]
    if not pairs:
        raise TrajectoryError(f"{a} and {b} have no case and dtype in common: nothing was compared")
    return [compare(*pair) for pair in pairs]


def unpaired(a: Path, b: Path, comparisons: Sequence[Comparison]) -> dict[Path, list[Path]]:
    """Of two folders of runs, those that ``compare_folders`` found no counterpart for, by folder.

    Not those by which a reference is checked: they are a part of it.
    """
    compared = {folder for found in comparisons for folder in (found.a, found.b)}
    roots = (a,) if a.resolve() == b.resolve() else (a, b)
    return {
        root: [run for run in _runs(root) if run not in compared and "checked" not in run.name.split("-")]
        for root in roots
    }


def compare(a: Path, b: Path, noise: Sequence[Path] = ()) -> Comparison:
    """Compare two trajectories. The tolerance is the sum of both runs' own: either may be off by its share.

    ``noise`` are repetitions of either with its roundings stirred, for runs without a noise floor beside them.
    """
    ours, theirs = read(a), read(b)
    return compare_runs(a, ours, b, theirs, repetitions(ours, theirs, noise))


def compare_runs(
    a: Path, ours: Trajectory, b: Path, theirs: Trajectory, noise: Sequence[Repetition] = ()
) -> Comparison:
    """The same for what was read from there already."""
    sides = ((a, ours), (b, theirs))
    stale = [
        f"{folder} is an earlier run: a newer one was begun and not finished"
        for folder, run in sides
        if superseded(folder, run)
    ]
    before, notes = (*stale, *preflight(ours, theirs)), []
    floors = []
    for folder, run in sides:
        own = [one.distances for one in noise if one.run.meta["dtype"] == run.meta["dtype"]]
        floor = recorded_floor(folder, run)
        if floor is None and own:
            notes.append(f"the noise floor of {folder} is as far as repetitions strayed, {len(own)} of them")
            floor = floor_of(own, run, run.meta["dtype"])
        if floor is None:
            notes.append(
                f"{folder} has no noise floor beside it: only 64 roundings of each tensor's largest value are allowed"
            )
            floor = least_floor(run)
        floors.append(floor.carried(run) if run.meta.get("lockstep") else floor)
    params = all(_counts_params(run) for run in (ours, theirs))
    if not params:
        notes.append(
            "this case's parameters are compared in lockstep only, but in float64; of a free run, the losses count"
        )
    failed = [f"{folder}: the last run failed: {reason}" for folder, _ in sides if (reason := kept_failure(folder))]
    doubt = "; ".join(failed) or incomparable(ours, theirs)
    if doubt:
        return Comparison(a, b, Judgement(Verdict.INCONCLUSIVE, reason=doubt), None, None, None, tuple(notes), before)
    # A floor may end before the run does; then both runs are judged that far.
    epochs, snapshots = (min(lengths) for lengths in zip(*map(_lengths, floors), strict=True))
    one, other = (floor.until(epochs, snapshots) for floor in floors)
    both = Floor(one.loss + other.loss, {name: one.params[name] + other.params[name] for name in one.params})
    judgement = judge(ours, theirs, both, params=params)
    coarser = max((run.meta["dtype"] for run in (ours, theirs)), key=unit)
    found = [
        differences(ours.params[name], theirs.params[name], name, ours.epochs, dtype=coarser) for name in ours.params
    ]
    found.append(differences(ours.loss, theirs.loss, "loss", np.arange(1, len(ours.loss) + 1), dtype=coarser))
    return Comparison(a, b, judgement, *_worst(found), tuple(notes), before)


def _counts_params(run: Trajectory) -> bool:
    """Whether a run's parameters are asserted: see ``Case.float32_parameters``."""
    in_lockstep = bool(run.meta.get("lockstep"))
    return in_lockstep or run.meta["dtype"] == "float64" or run.meta.get("float32_parameters", "free") == "free"


def preflight(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """What differs between two runs' settings, before any number is looked at; of what both say, or either must not."""
    for name in ("case", "dtype", "device", "threads", "lockstep"):
        ours, theirs = a.meta.get(name), b.meta.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            yield f"{name} differs: {ours} and {theirs}"
    yield from _other_order(a, b)
    for group in ("hyper_parameters", "settings", "versions", "platform"):
        ours, theirs = (run.meta.get(group) for run in (a, b))
        if isinstance(ours, dict) and isinstance(theirs, dict):
            for name in sorted(set(ours) & set(theirs)):
                if ours[name] != theirs[name]:
                    yield f"{name} differs: {ours[name]} and {theirs[name]}"
    yield from _other_beginning(a, b)
    for run in (a, b):
        settings = run.meta.get("settings") or {}
        who = run.meta.get("implementation", "a run")
        if run.meta.get("dtype") == "float64" and settings.get("x64") is False:
            yield f"{who} is said to be float64, but x64 is off: JAX computes in float32"
        on_gpu = run.meta.get("device") not in (None, "cpu")
        if on_gpu and run.meta.get("dtype") == "float32" and in_tf32(settings):
            yield f"TF32 is on in {who}: float32 products keep ten bits"


def _other_order(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Batches that are not the other run's, and the first of them where both recorded its rows."""
    ours, theirs = a.meta.get("batch_order"), b.meta.get("batch_order")
    if ours is None or theirs is None or ours == theirs:
        return
    for number, (epoch, batch) in enumerate(places(a)):
        mine, other = (run.steps.get(f"{number}/rows") for run in (a, b))
        if mine is None or other is None:
            yield f"the order of the batches differs: SHA-256 {ours[:8]}… and {theirs[:8]}…"
            return
        if not np.array_equal(mine, other):
            rows = f"{rows_in_words(mine)} and {rows_in_words(other)}"
            alike = ", the same in another order" if np.array_equal(np.sort(mine), np.sort(other)) else ""
            yield f"the order of the batches differs: epoch {epoch}, batch {batch} has the rows {rows}{alike}"
            return


def _other_beginning(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Initial parameters that are not those of the other run, as far as the narrower dtype can tell."""
    for name in a.params:
        if name in b.params and a.params[name].shape[1:] == b.params[name].shape[1:]:
            narrow = max((run.meta.get("dtype", run.params[name].dtype.name) for run in (a, b)), key=unit)
            ours, theirs = (rounded(np.asarray(run.params[name][0]), narrow) for run in (a, b))
            if not np.array_equal(ours, theirs, equal_nan=True):
                apart = np.max(np.abs(ours.astype(np.float64) - theirs))
                yield f"initial {name} differs" + (f", by up to {apart:.3g}" if np.isfinite(apart) else "")


def recorded_floor(folder: Path, run: Trajectory) -> Floor | None:
    """The noise floor that ``parity run`` left beside a trajectory, None where there is none of this very run."""
    lockstep = run.meta.get("lockstep")
    name = file_name(folder.resolve().parent.name, lockstep, run.meta["dtype"])
    mark = run.meta.get("floor")
    floors = load(folder.resolve().parent.parent / "floors" / name, mark) if isinstance(mark, str) else None
    if floors is None or run.meta["dtype"] not in floors:
        return None
    floor = floors[run.meta["dtype"]].until(len(run.loss), len(run.epochs))
    if set(floor.params) != set(run.params) or floor.loss.shape[1:] != run.loss.shape[1:]:
        return None
    return floor


def _lengths(floor: Floor) -> tuple[int, int]:
    return len(floor.loss), len(next(iter(floor.params.values()), ()))


def least_floor(run: Trajectory) -> Floor:
    """The part of the noise floor that needs no measurement: four roundings of the largest value so far."""
    return floor_of((), run, run.meta["dtype"])


def repetitions(ours: Trajectory, theirs: Trajectory, noise: Sequence[Path]) -> list[Repetition]:
    """Each of these runs beside that one of the two whose repetition it is: the nearer one.

    TrajectoryError where one cannot be read or held against them.
    """
    found = []
    for folder in noise:
        run = read(folder)
        if doubt := incomparable(run, ours):
            raise TrajectoryError(f"{folder}: shows no noise of these runs: {doubt}")
        judged = [(judge(run, base, least_floor(base)), base) for base in (ours, theirs)]
        nearer, base = min(judged, key=lambda pair: np.inf if pair[0].ratio is None else pair[0].ratio)
        distances = nearer.evidence[0].distances
        if not any(values.any() for values in distances.values()):
            raise TrajectoryError(
                f"{folder}: shows no noise: it is one of these runs to the bit, where a repetition begins from values "
                "that parity.tolerance.stir has moved (it leaves zeros as they are)"
            )
        for name, values in base.params.items():
            begun = np.asarray(values[0], np.float64)
            if not distances[name][0] <= 4 * FACTOR * unit(run.meta["dtype"]) * np.max(np.abs(begun), initial=0.0):
                raise TrajectoryError(
                    f"{folder}: shows no noise of these runs: {name} begins {distances[name][0]:.3g} away from both, "
                    "which is no rounding"
                )
        found.append(Repetition(run, base, distances))
    return found


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
    """dtype and stretch from a folder's name ``<implementation>-<dtype>-<device>[-lockstepN]``.

    The dtype from the run itself where a user gave it another name.
    """
    parts = folder.name.split("-")
    start = next((place for place, part in enumerate(parts) if part in (*KNOWN, "checked")), None)
    if start is None:
        return (str(read_manifest(folder)["dtype"]),)
    return tuple(part for place, part in enumerate(parts[start:]) if place != 1)
