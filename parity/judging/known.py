"""What a suite knows of recorded runs: which case they are of, and which noise floor they are held to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from parity.judging.floor import Floor, fits, load, mark_of, recorded_floor
from parity.recording.places import floor_name
from parity.suite import Entry, Suite, SuiteError
from parity.trajectory import Trajectory, TrajectoryError

Mark = Callable[[Suite, Entry, int], str]
"""The mark that the noise floor of a case bears today, for runs of so many epochs: ``parity.running.keys.mark``."""


@dataclass(frozen=True)
class Known:
    """A suite, asked about recordings. Without one, nothing is known, and what lies beside a run is all there is."""

    suite: Suite | None = None
    mark: Mark | None = None
    _marks: dict[tuple[str, int], str] = field(default_factory=dict, repr=False, compare=False)

    def entry(self, folder: str) -> Entry | None:
        """The case that a folder of runs is named after; None where the suite has none of that name.

        Data that a user brought are not looked for: of such a case no published figure is known.
        """
        name, _, variant = folder.partition("@")
        if self.suite is None or name not in self.suite.entries:
            return None
        entry = self.suite.entry(name)
        if not variant or variant in entry.case.variants:
            return self.suite.entry(name, variant or None)
        return replace(entry, case=entry.case.on_other_data(f"on other data, {variant}"), variant=variant)

    def entry_of(self, run: Trajectory) -> Entry | None:
        """The case that a recording says it is of; None where it says none, or has other parameters than that case."""
        entry = self.entry(str(run.meta.get("case", "")))
        if entry is None:
            return None
        shapes = {name: value.shape for name, value in entry.case.initial().items()}
        return entry if shapes == {name: values.shape[1:] for name, values in run.params.items()} else None

    def floor(self, folder: Path, run: Trajectory) -> Floor | None:
        """The noise floor of a run in ``folder``: the suite's own first, then what lies beside it; None without any.

        TrajectoryError where the suite has one of its own and the run was recorded on something else: on other data
        than the case has today, or beside another reference. What lies beside such a run is not believed, because it
        came with the run.
        """
        case = folder.resolve().parent.name
        own = self._own(case, run)
        if own is None or mark_of(own) is None:
            return recorded_floor(folder, run)
        if mark_of(own) == run.meta.get("floor"):
            floors = load(own, str(run.meta["floor"]))
            return None if floors is None else fits(floors.get(run.meta["dtype"]), run)
        if run.meta.get("floor") == self._today(case, run):
            return recorded_floor(folder, run)  # The suite has changed since its floor was shipped.
        raise TrajectoryError(
            f"{folder}: was recorded on other data, or beside another reference, than {case} has in this suite, so "
            "that its noise floor is not the suite's: record it again with 'parity run'"
        )

    def _own(self, case: str, run: Trajectory) -> Path | None:
        """Where the suite keeps the noise floor of such a run, if it keeps any."""
        if self.suite is None or self.suite.floors is None or self.entry(case) is None:
            return None
        return self.suite.floors / floor_name(case, run.meta.get("lockstep"), run.meta["dtype"])

    def _today(self, case: str, run: Trajectory) -> str | None:
        entry = self.entry(case)
        if entry is None or self.suite is None or self.mark is None:
            return None
        length = entry.case.floor_length(max(len(run.loss), entry.case.epochs))
        if (case, length) not in self._marks:
            try:
                self._marks[case, length] = self.mark(self.suite, entry, length)
            except SuiteError:  # Its data are not here: nothing can be said of them.
                return None
        return self._marks[case, length]


NOTHING = Known()
"""No suite: nothing is known of any run."""
