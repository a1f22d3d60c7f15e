"""How much a reading may take: a few bytes from a stranger must not cost hours, or all of the memory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from parity.recording.files import in_words
from parity.trajectory import TrajectoryError

VARIABLE = "PARITY_LIMITS"
"""The environment variable that raises all limits together: a number, as 4 for four times as much."""
OPTION = "--limits"
"""The option of the commands that read recordings which sets it for one call."""
MORE = f"set {VARIABLE}=N for N times as much, or call diff, explain, match or report with {OPTION} N"
"""How to allow more, at the end of an error."""
SIZE = 4 << 30
"""The bytes of shards that one reading takes: about five runs of 10⁸ values in float64."""
TENSORS = 1_000_000
"""The tensors that one reading takes, those of each shard counted anew."""
KEPT = 512 << 20
"""The bytes of losses, metrics, epochs and noise floors, which are kept in memory."""
SECONDS = 120.0
"""A reading takes no longer. Files of ``SIZE`` bytes are read in time from a disk that gives 40 MB a second."""
FOLDER = 10.0
"""A folder of runs is given so many times what one run is."""


class LimitError(TrajectoryError):
    """A reading would take more than it may: what is read may be sound, and only large."""


class Budget:
    """What is left for the reading of a run, or of several; threads spend it together.

    ``runs`` multiplies what one run is given, as for a folder of many. What is spent is taken from a budget that this
    one lies ``within``, too. Time counts during ``reading``.

    Where values are streamed, through memory of a fixed size, a file is charged nothing for how large it is:
    ``on_disk`` adds up what really lies there, and ``check_streamed`` bounds the work by it.
    """

    def __init__(self, runs: float = 1.0, within: Budget | None = None, streams: bool = False) -> None:
        times = runs * allowed()
        self.streams: bool = streams or (within is not None and within.streams)
        self._files: dict[tuple[int, int], int] = {}
        self.seconds = SECONDS * times
        self.most = {"size": SIZE * times, "tensors": TENSORS * times, "kept": KEPT * times}
        self._left = dict(self.most)
        self._within = within
        self._taken, self._since, self._lock = 0.0, time.monotonic(), Lock()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Let time count."""
        self._since = time.monotonic()
        try:
            with self._within.reading() if self._within else contextlib.nullcontext():
                yield
        finally:
            self._taken += time.monotonic() - self._since

    @property
    def on_disk(self) -> int:
        """The bytes that the files take on their disks, each counted once; holes take none."""
        return sum(self._files.values())

    def spend_file(self, where: Path, file: BinaryIO) -> None:
        """Take the size of an open file from what is left; where values are streamed, note what it takes on disk."""
        found = os.fstat(file.fileno())
        self._note(found)
        if not self.streams:
            self.spend(where, size=found.st_size)

    def _note(self, found: os.stat_result) -> None:
        if self._within:
            self._within._note(found)
        with self._lock:
            # Windows does not say how many blocks a file has.
            self._files[found.st_dev, found.st_ino] = min(found.st_size, 512 * getattr(found, "st_blocks", 1 << 62))

    def check_streamed(self, where: Path, size: int) -> None:
        """Refuse to stream more than lies on disk and one reading may take beside it: LimitError.

        A file of a few bytes may have holes of terabytes, and many tensors may look at the same numbers. Other work is
        in proportion to what was written, and is not bounded.
        """
        if size > self.on_disk + self.most["size"]:
            raise LimitError(
                f"{where}: its tensors have {in_words(size)}, and {in_words(self.on_disk)} lie on disk: if you trust "
                f"it, {MORE}"
            )

    def spend(self, where: Path, *, size: int = 0, tensors: int = 0, kept: int = 0) -> None:
        """Take from what is left. LimitError if that is not enough, or time is up."""
        if self._within:
            self._within.spend(where, size=size, tensors=tensors, kept=kept)
        with self._lock:
            for what, count in (("size", size), ("tensors", tensors), ("kept", kept)):
                self._left[what] -= count
            over = next((what for what, left in self._left.items() if left < 0), "")
        if not over and self._taken + time.monotonic() - self._since > self.seconds:
            over = "seconds"
        if over:
            limit = {
                "size": f"{in_words(int(self.most['size']))} of shards",
                "tensors": f"{self.most['tensors']:,.0f} tensors",
                "kept": f"{in_words(int(self.most['kept']))} of losses and metrics",
                "seconds": f"{self.seconds:,.0f} seconds",
            }[over]
            raise LimitError(f"{where}: with it this reading takes more than {limit}: if you trust the folder, {MORE}")


def allowed() -> float:
    """How many times each limit is allowed, as the environment says. TrajectoryError if that is no such number."""
    said = os.environ.get(VARIABLE, "").strip()
    try:
        times = float(said or 1)
    except ValueError:
        times = 0.0
    if not 0 < times < 1e6:
        raise TrajectoryError(f"{VARIABLE} must be a number above 0 and below a million, not {said!r:.80}")
    return times
