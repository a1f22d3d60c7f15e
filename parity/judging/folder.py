"""A folder of recorded runs, judged as ``parity run`` judges them: from what lies there, with no framework."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from parity.dtypes import KNOWN
from parity.judging.floor import Floor, recorded_floor
from parity.judging.outcome import Outcome, compares_params
from parity.judging.published import Figure, figures
from parity.judging.verdict import Judgement, Verdict, judge_run
from parity.recording.format import MANIFEST
from parity.recording.places import (
    CHECKED,
    LOCKSTEP,
    RUN,
    Place,
    agrees_with_its_name,
    failure_path,
    folder_name,
    is_run,
    kept_explanation,
    kept_failure,
    partial_path,
)
from parity.recording.reader import read, superseded
from parity.suite import Entry, Suite, rank
from parity.trajectory import Trajectory, TrajectoryError


def recorded(root: Path, suite: Suite) -> list[Outcome]:
    """Every run below ``root``, as ``--out`` names it, judged; in the suite's order, then by name.

    A run that is damaged, unfinished or has no reference beside it is INCONCLUSIVE and says why. TrajectoryError
    where ``root`` holds no runs.
    """
    if not root.is_dir():
        raise TrajectoryError(f"{root} is not a folder: name the folder of runs that 'parity run --out' wrote")
    if (root / MANIFEST).exists():
        raise TrajectoryError(f"{root} is one trajectory: name the folder of runs, as 'parity run --out' does")
    case_order = {name: place for place, name in enumerate(suite.entries)}
    dtype_order = {name: place for place, name in enumerate(KNOWN)}
    try:
        cases = [case for case in sorted(root.iterdir()) if case.is_dir() and not case.name.startswith(".")]
        outcomes = [outcome for case in cases for outcome in _Runs(case, suite).judged()]
    except OSError as error:
        raise TrajectoryError(f"{str(error.filename or root)!r}: cannot be read: {error.strerror}") from error
    if not outcomes:
        raise TrajectoryError(f"{root} holds no recorded runs: 'parity run --out {root}' makes some")
    return sorted(
        outcomes,
        key=lambda o: (
            case_order.get(o.case, len(case_order)),
            o.folder,
            o.implementation != suite.reference,
            rank(o.implementation),
            dtype_order.get(o.dtype, len(dtype_order)),
            o.device,
        ),
    )


class _Runs:
    """The runs of one case."""

    def __init__(self, folder: Path, suite: Suite) -> None:
        self.folder, self.suite = folder, suite
        self.entry = _entry(folder.name, suite)
        self._read: dict[Path, Trajectory | TrajectoryError] = {}

    def judged(self) -> Iterator[Outcome]:
        for place in self._places():
            yield self._outcome(place)

    def read(self, folder: Path) -> Trajectory:
        """A run, read once; TrajectoryError says what is wrong with it, or that the last attempt at it failed."""
        if folder not in self._read:
            try:
                if reason := kept_failure(folder):
                    raise TrajectoryError(f"{folder.name}: the last run failed: {reason}")
                run = read(folder)
                if superseded(folder, run):
                    raise TrajectoryError(f"{folder}: a newer run was begun and not finished: run it again")
                self._read[folder] = run
            except TrajectoryError as error:
                self._read[folder] = error
        found = self._read[folder]
        if isinstance(found, TrajectoryError):
            raise found
        return found

    @cached_property
    def names(self) -> list[str]:
        """The runs' folders, those among them that an attempt should have left."""
        found = {path.name for path in self.folder.iterdir() if path.is_dir() and is_run(path)}
        # An attempt that was not finished, or failed, has the name that its run would have had.
        for attempt, kind in ((partial_path, Path.is_dir), (failure_path, Path.is_file)):
            before, after = attempt(self.folder / "*").name.split("*")
            left = [path.name for path in self.folder.glob(f"{before}*{after}") if kind(path)]
            found |= {name.removeprefix(before).removesuffix(after) for name in left}
        return sorted(found)

    def _places(self) -> Iterator[Place]:
        for name in self.names:
            lockstep = LOCKSTEP.fullmatch(name)
            if lockstep is not None and RUN.fullmatch(lockstep["run"]):
                continue  # Judged with the free run that it belongs to.
            named = RUN.fullmatch(name)
            if named is None:
                yield self._own(name)
            elif named["dtype"] != CHECKED:
                yield Place(self.folder / name, named["implementation"], named["dtype"], named["device"])

    def _own(self, name: str) -> Place:
        """A run under a name of the user's own: it says itself what it is."""
        try:
            meta = self.read(self.folder / name).meta
        except TrajectoryError:
            return Place(self.folder / name, name, "?", "?")
        return Place(self.folder / name, name, meta["dtype"], meta.get("device", "?"))

    def _outcome(self, place: Place) -> Outcome:
        outcome = Outcome(
            self.folder.name,
            place.implementation,
            place.dtype,
            place.device,
            Judgement(Verdict.INCONCLUSIVE),
            cached=True,
            checked=(place.implementation, place.dtype, place.device) == (self.suite.reference, "float64", "cpu"),
            entry=self.entry,
        )
        try:
            run = self.read(place.folder)
            outcome = replace(outcome, run=run)
            agrees_with_its_name(place, run)
            reference = self.read(self._reference())
            outcome = replace(outcome, reference=reference)
            floor = recorded_floor(place.folder, run)
            if floor is None:
                raise TrajectoryError(f"{place.folder}: its noise floor is not in {self.folder.parent / 'floors'}")
            judgement = self._judge(place, outcome, run, reference, floor)
            found = self._figures(run, place.dtype, floor)
        except TrajectoryError as error:
            return replace(outcome, judgement=Judgement(Verdict.INCONCLUSIVE, reason=str(error)))
        explanation = kept_explanation(place.folder, judgement.reason) if judgement.verdict is Verdict.FAIL else None
        return replace(outcome, judgement=judgement, figures=found, explanation=explanation)

    def _reference(self) -> Path:
        name = folder_name(self.suite.reference, "float64", "cpu")
        if name not in self.names:
            raise TrajectoryError(
                f"{self.folder} holds no reference run {name}: nothing was compared; 'parity diff' holds any two runs "
                "against each other"
            )
        return self.folder / name

    def _judge(self, place: Place, outcome: Outcome, run: Trajectory, reference: Trajectory, floor: Floor) -> Judgement:
        checked = place.beside(folder_name(self.suite.reference, CHECKED, "cpu"))
        rule = run.meta.get("float32_parameters", "free")
        params = compares_params(place.dtype, rule)
        held = self._lockstep(checked if outcome.checked else place.folder, run)
        if held is None and not params:
            raise TrajectoryError(
                f"{place.folder}: this case's {place.dtype} parameters are compared in lockstep, and no such run of "
                "the same code lies beside it: run it again"
            )

        def stretches() -> tuple[int, Trajectory, Floor]:
            assert held is not None
            length, folder = held
            other = self.read(folder)
            allowed = recorded_floor(folder, other)
            if allowed is None:
                raise TrajectoryError(f"{folder}: its noise floor is not in {self.folder.parent / 'floors'}")
            return length, other, allowed

        return judge_run(
            run,
            reference,
            floor,
            check=self.read(checked) if outcome.checked else None,
            params=params,
            stretches=stretches if held else None,
        )

    def _lockstep(self, free: Path, run: Trajectory) -> tuple[int, Path] | None:
        """The run in lockstep that belongs to a free one: of several, the one with the shortest stretches.

        One of another length, or of other code, was recorded for another run.
        """
        found = []
        for name in self.names:
            match = LOCKSTEP.fullmatch(name)
            if match is not None and match["run"] == free.name:
                folder = self.folder / name
                held = self.read(folder)
                same = held.meta.get("origin") == run.meta.get("origin")
                if same and np.array_equal(held.epochs, run.epochs):
                    found.append((int(match["length"]), folder))
        return min(found, default=None)

    def _figures(self, run: Trajectory, dtype: str, floor: Floor) -> tuple[Figure, ...]:
        if self.entry is None:
            return ()
        try:
            return tuple(figures(self.entry.case, run, dtype, floor))
        except (KeyError, IndexError, ValueError) as error:
            raise TrajectoryError(f"{self.folder.name}: the run lacks what its source published: {error}") from error


def _entry(name: str, suite: Suite) -> Entry | None:
    """The case that a folder is named after, as the suite has it. Data that a user brought are not looked for."""
    case, _, variant = name.partition("@")
    if case not in suite.entries:
        return None
    entry = suite.entry(case)
    if not variant or variant in entry.case.variants:
        return suite.entry(case, variant or None)
    return replace(entry, case=entry.case.on_other_data(f"on other data, {variant}"), variant=variant)
