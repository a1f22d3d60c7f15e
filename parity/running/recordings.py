"""The recordings in a matrix's folder: which need not be made again, and which are what their jobs have left."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path

from parity.frameworks import framework_of
from parity.judging.cell import Runs
from parity.judging.floors.known import Known
from parity.recording.format import made
from parity.recording.limits import FOLDER, Budget
from parity.recording.reader import read
from parity.running.cells import Cell, Options
from parity.running.executor import Environment
from parity.running.jobs import OnDisk
from parity.running.keyring import Keyring
from parity.running.keys import mark
from parity.running.packages import Reach, own_path
from parity.running.reading.dependencies import fresh, searched
from parity.running.workers.started import foreign_environment, worker_environment
from parity.trajectory import Trajectory, TrajectoryError

AGAIN, PAUSE = 3, 0.1
"""So many times a run is looked for that was just written, with so many seconds between them."""


class Recordings:
    """The runs of a matrix's cells, each read once. ``reach`` is what its workers find."""

    def __init__(self, options: Options, keys: Keyring, reach: Reach) -> None:
        self.options, self._keys, self._reach = options, keys, reach
        self._known = Known(options.suite, mark)
        self._runs: dict[str, Runs] = {}
        self._taken: set[Path] = set()
        self._budget = Budget(FOLDER)  # for what the runs depend on
        self._files: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, cell: Cell) -> Runs:
        """The recordings of a cell's case, for all of its cells."""
        if cell.entry.folder not in self._runs:
            folder = cell.folder(self.options.out).parent
            self._runs[cell.entry.folder] = Runs(folder, self._known, self.options.suite.reference, cell.entry)
        return self._runs[cell.entry.folder]

    def forget(self, cell: Cell) -> None:
        """Let go of the recordings of a cell's case, when all of its cells are judged."""
        self._runs.pop(cell.entry.folder, None)

    def has(self, cell: Cell, lockstep: int | None, deep: int) -> bool:
        """Whether a run on disk is the one that is wanted. Only then is it kept: any other will be made again."""
        folder = cell.folder(self.options.out, lockstep)
        try:
            run = read(folder)
        except (OSError, TrajectoryError):
            return False
        same = run.meta.get("key") == self._keys.key(cell, lockstep) and run.meta.get("deep", 0) >= deep
        fits = bool(same and self._fresh(cell, run))
        if fits:
            self.of(cell).keep(folder, run)
        return fits

    def take(self, cell: Cell, lockstep: int | None, left: OnDisk) -> None:
        """Read what a job has left, once: TrajectoryError if what lies there is not what it has written.

        An earlier run may lie there still, where the implementation wrote elsewhere, or something else has been put
        there since.
        """
        folder = cell.folder(self.options.out, lockstep)
        if not left.made or folder in self._taken:
            return  # it was read when it was found to be there
        run = self._read(folder)
        if run.meta.get("key") != self._keys.key(cell, lockstep) or made(run.meta) != left.made:
            raise TrajectoryError(
                f"{folder}: what lies there is not what this run has written, and says nothing of it: let nothing else "
                "write there, and run it again"
            )
        self._taken.add(folder)
        self.of(cell).keep(folder, run)

    def _fresh(self, cell: Cell, run: Trajectory) -> bool:
        """Whether all that a run has read is as it was."""
        environment, reach = Environment(framework_of(cell.implementation).name, cell.device), self._reach
        variables = worker_environment(environment.framework, device=environment.device)
        if environment.framework in self.options.pythons:
            variables = foreign_environment(variables)
        else:
            reach = replace(reach, folders=(*reach.folders, *own_path()))
        folders = searched(reach)
        known = self._files.setdefault(folders, {})
        return fresh(run.meta.get("depends"), variables, folders, known, self._budget)

    def _read(self, folder: Path) -> Trajectory:
        """Read what a job has left. Another process that makes the same run puts its own in its place."""
        for _ in range(AGAIN):
            with contextlib.suppress(OSError, TrajectoryError):
                return read(folder)
            time.sleep(PAUSE)
        check_there(self.options.out, folder)
        return read(folder)


def check_there(out: Path, *paths: Path) -> None:
    """Refuse to judge what has been in a folder of results and is not any more: TrajectoryError.

    The whole folder may have been taken away, and made again by the next job that writes there.
    """
    if not out.is_dir():
        raise TrajectoryError(f"{out} was taken away while its runs were made: run it again")
    for path in paths:
        if not path.exists():
            raise TrajectoryError(
                f"{path} was there and is not any more: {out} was emptied, or taken away and made again, while its "
                "runs were made: run it again"
            )
