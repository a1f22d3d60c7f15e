"""Judge one cell from its folder: the only way to do so, for the matrix and for the report of a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from parity.judging.floors.floor import Floor, too_narrow
from parity.judging.floors.known import Known
from parity.judging.outcome import Outcome
from parity.judging.policy import asserts_parameters
from parity.judging.published import Figure, figures
from parity.judging.verdict import Judgement, Verdict, judge_run
from parity.recording.files import target_of
from parity.recording.limits import Budget
from parity.recording.places import (
    CHECKED,
    LOCKSTEP,
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
from parity.suite import Entry
from parity.trajectory import Trajectory, TrajectoryError


class Runs:
    """The recordings of one case, each read once.

    ``folder`` is that of the case. ``entry`` is the case as its suite has it; None if the suite does not know it.
    ``reference`` is the label of the implementation that the others are held against. ``budget`` is what reading them
    may take together.
    """

    def __init__(
        self, folder: Path, known: Known, reference: str, entry: Entry | None, budget: Budget | None = None
    ) -> None:
        self.folder, self.known, self.reference, self.entry, self.budget = folder, known, reference, entry, budget
        self._read: dict[Path, Trajectory | TrajectoryError] = {}

    def keep(self, folder: Path, run: Trajectory) -> None:
        """Keep a run that the caller has read from ``folder`` and found to be the right one."""
        self._read[folder] = run

    def read(self, folder: Path) -> Trajectory:
        """Read a run once. TrajectoryError if it cannot be used, is superseded, or the last attempt at it failed."""
        if folder not in self._read:
            try:
                if reason := kept_failure(folder):
                    raise TrajectoryError(f"{folder.name}: the last run failed: {reason}")
                target_of(folder, self.folder.parent)
                run = read(folder, budget=self.budget)
                if superseded(folder, run):
                    raise TrajectoryError(f"{folder}: a newer run was begun and not finished: run it again")
                self._read[folder] = run
            except TrajectoryError as error:
                self._read[folder] = error
        found = self._read[folder]
        if isinstance(found, TrajectoryError):
            raise found
        return found

    @property
    def names(self) -> list[str]:
        """The names of all runs' folders, including those that an unfinished attempt would have left."""
        found = {path.name for path in self.folder.iterdir() if path.is_dir() and is_run(path)}
        # The names of a partial folder and of a file with a failure hold the name of the run.
        for attempt, kind in ((partial_path, Path.is_dir), (failure_path, Path.is_file)):
            before, after = attempt(self.folder / "*").name.split("*")
            left = [path.name for path in self.folder.glob(f"{before}*{after}") if kind(path)]
            found |= {name.removeprefix(before).removesuffix(after) for name in left}
        return sorted(found)

    def floor(self, folder: Path, run: Trajectory) -> Floor:
        """The noise floor of a run; TrajectoryError if there is none that can be believed."""
        floor = self.known.floor(folder, run, self.budget)
        if floor is None:
            raise TrajectoryError(f"{folder}: its noise floor is not in {self.folder.parent / 'floors'}")
        return floor

    def reference_run(self) -> Trajectory:
        """The run that the others are held against; TrajectoryError if it is missing."""
        name = folder_name(self.reference, "float64", "cpu")
        if name not in self.names:
            raise TrajectoryError(
                f"{self.folder} holds no reference run {name}: nothing was compared; 'parity diff' holds any two runs "
                "against each other"
            )
        return self.read(self.folder / name)

    def stretches(self, free: Path, run: Trajectory) -> tuple[int, Path] | None:
        """The run in lockstep that belongs to a free one, as the length of its stretches and its folder, or None.

        Of several, the one with the shortest stretches. A run of other epochs or other code belongs to another run.
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


@np.errstate(all="ignore")  # a recording may hold any numbers, a NaN that signals too
def judge_cell(runs: Runs, place: Place) -> Outcome:
    """Judge one recorded run against the reference beside it, on its noise floor, with its published figures.

    A run that is damaged or unfinished, or lacks its reference or noise floor, is INCONCLUSIVE and says why.
    """
    outcome = Outcome(
        runs.folder.name,
        place.implementation,
        place.dtype,
        place.device,
        Judgement(Verdict.INCONCLUSIVE),
        checked=(place.implementation, place.dtype, place.device) == (runs.reference, "float64", "cpu"),
        entry=runs.entry,
    )
    try:
        run = runs.read(place.folder)
        outcome = replace(outcome, run=run)
        agrees_with_its_name(place, run)
        outcome = replace(outcome, reference=runs.reference_run())
        floor = runs.floor(place.folder, run)
        judgement = _judge(runs, place, outcome, floor)
        found = _figures(runs, run, place.dtype, floor)
    except TrajectoryError as error:
        return replace(outcome, judgement=Judgement(Verdict.INCONCLUSIVE, reason=str(error)))
    explanation = kept_explanation(place.folder, judgement.reason) if judgement.verdict is Verdict.FAIL else None
    return replace(outcome, judgement=judgement, figures=found, explanation=explanation)


def _judge(runs: Runs, place: Place, outcome: Outcome, floor: Floor) -> Judgement:
    run, reference = outcome.run, outcome.reference
    assert run is not None
    assert reference is not None
    checked = place.beside(folder_name(runs.reference, CHECKED, "cpu"))
    params = asserts_parameters(runs.entry.case if runs.entry else None, place.dtype)
    held = runs.stretches(checked if outcome.checked else place.folder, run)
    if held is None and not params:
        raise TrajectoryError(
            f"{place.folder}: this case's {place.dtype} parameters are compared in lockstep, and no such run of "
            "the same code lies beside it: run it again"
        )

    if doubt := too_narrow(floor, reference, run.meta["dtype"]):
        raise TrajectoryError(f"{place.folder}: {doubt}")

    def stretches() -> tuple[int, Trajectory, Floor]:
        assert held is not None
        length, folder = held
        allowed = runs.floor(folder, runs.read(folder))
        if doubt := too_narrow(allowed, reference, run.meta["dtype"]):
            raise TrajectoryError(f"{folder}: {doubt}")
        return length, runs.read(folder), allowed

    return judge_run(
        run,
        reference,
        floor,
        check=runs.read(checked) if outcome.checked else None,
        params=params,
        stretches=stretches if held else None,
    )


def _figures(runs: Runs, run: Trajectory, dtype: str, floor: Floor) -> tuple[Figure, ...]:
    if runs.entry is None:
        return ()
    try:
        return tuple(figures(runs.entry.case, run, dtype, floor))
    except (KeyError, IndexError, ValueError) as error:
        raise TrajectoryError(f"{runs.folder.name}: the run lacks what its source published: {error}") from error
