"""A suite's knowledge of recorded runs: their cases, and the noise floors that they are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.judging.floors.floor import Floor, mark_of, recorded_floor
from parity.recording.limits import Budget
from parity.recording.places import floor_name
from parity.suite import Entry, Suite, SuiteError, named
from parity.trajectory import Trajectory, TrajectoryError

Mark = Callable[[Suite, Entry, int], str]
"""``(suite, entry, epochs)`` to the mark that such runs' noise floor bears today: ``parity.running.keys.mark``."""


@dataclass(frozen=True)
class Known:
    """A suite that answers for recordings. Without a suite, only the files beside a run are known."""

    suite: Suite | None = None
    mark: Mark | None = None
    _marks: dict[tuple[str, int], str] = field(default_factory=dict, repr=False, compare=False)

    def entry(self, folder: str) -> Entry | None:
        """The case that a folder of runs is named after; None if the suite has no case of that name.

        A user's own data are not looked for: on them the case has no published figures.
        """
        name, variant, seed = named(folder)
        if self.suite is None or name not in self.suite.entries:
            return None
        entry = self.suite.entry(name)
        if not variant or variant in entry.case.variants:
            return self.suite.entry(name, variant, seed)
        case = entry.case.on_other_data(f"on other data, {variant}")
        return replace(entry, case=case if seed is None else case.seeded(seed), variant=variant, seed=seed)

    def entry_of(self, run: Trajectory) -> Entry | None:
        """The case that a recording names; None if it names none, or has other parameters than that case."""
        entry = self.entry(str(run.meta.get("case", "")))
        if entry is None:
            return None
        shapes = {name: value.shape for name, value in entry.case.initial().items()}
        return entry if shapes == {name: values.shape[1:] for name, values in run.params.items()} else None

    def floor(self, folder: Path, run: Trajectory, budget: Budget | None = None) -> Floor | None:
        """The noise floor of a run in ``folder``: the suite's own, else the one beside the run; None without any.

        ``budget`` is what the reading may take together with others.

        TrajectoryError if the suite has its own and the run was recorded on other data than the case has today, or
        beside another reference. A floor beside such a run is not believed, because it came with the run.
        """
        case = folder.resolve().parent.name
        own = self._own(case, run)
        shipped = None if own is None else mark_of(own)
        if own is None or shipped is None:
            return recorded_floor(folder, run, budget=budget)
        if shipped == run.meta.get("floor"):
            return recorded_floor(folder, run, own.parent, budget)
        if run.meta.get("floor") == self._today(case, run):
            return recorded_floor(folder, run, budget=budget)  # The suite has changed since its floor was shipped.
        raise TrajectoryError(
            f"{folder}: was recorded on other data, or beside another reference, than {case} has in this suite, so "
            "that its noise floor is not the suite's: record it again with 'parity run'"
        )

    def _own(self, case: str, run: Trajectory) -> Path | None:
        """The path at which the suite keeps the noise floor of such a run; None if it keeps none."""
        if self.suite is None or self.suite.floors is None or self.entry(case) is None:
            return None
        return self.suite.floors / floor_name(case, run.meta.get("lockstep"), run.meta["dtype"])

    def _today(self, case: str, run: Trajectory) -> str | None:
        """The mark that the noise floor of such a run bears today; None if that is unknown."""
        entry = self.entry(case)
        if entry is None or self.suite is None or self.mark is None:
            return None
        length = entry.case.floor_length(max(len(run.loss), entry.case.epochs))
        if (case, length) not in self._marks:
            try:
                self._marks[case, length] = self.mark(self.suite, entry, length)
            except SuiteError:  # The case's data are not here, so its mark is unknown.
                return None
        return self._marks[case, length]


NOTHING = Known()
"""No suite: nothing is known of any run."""
