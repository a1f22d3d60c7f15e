"""How long a job is waited for: a worker that hangs says nothing, and costs its own cell alone."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

LEAST = 600.0
"""No job is given up that has been silent for fewer seconds: a framework's import from a cold disk takes minutes, and
so does a compilation."""
PATIENCE = 100.0
"""So many times what others about the same case took: one implementation may take twenty times as long as another, and
its way up the ladder as long as five runs."""
UNKNOWN = 3600.0
"""The seconds of silence where nothing about the same case has ended yet."""


class Deadlines:
    """When jobs are to be given up.

    ``timeout`` is in seconds from a job's start. Without one a job may be silent, since it began or last said how far
    it is, for ``patience`` times the longest that any about the same case has taken, of those that ended here and of
    those of which ``recorded`` knows the seconds from earlier; but never for less than ``least`` seconds.
    """

    def __init__(
        self,
        timeout: float | None = None,
        recorded: Callable[[str], float | None] = lambda about: None,
        least: float = LEAST,
        patience: float = PATIENCE,
    ) -> None:
        self.timeout, self._recorded, self._least, self._patience = timeout, recorded, least, patience
        self._longest: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, about: str, seconds: float) -> None:
        """A job about this has ended after so many seconds."""
        with self._lock:
            self._longest[about] = max(seconds, self._longest.get(about, 0.0))

    def silence(self, about: str) -> float:
        """For how many seconds a job about this may say nothing."""
        with self._lock:
            known = [self._longest.get(about), self._recorded(about)]
        longest = max((seconds for seconds in known if seconds is not None and math.isfinite(seconds)), default=None)
        return UNKNOWN if longest is None else max(self._least, self._patience * longest)

    def why_over(self, about: str, running: float, silent: float) -> str:
        """Why a job is given up that has run and been silent for so many seconds; "" where it is not."""
        if self.timeout is not None:
            return f"not done within {self.timeout:g} s" if running >= self.timeout else ""
        # What was recorded is looked at only where it matters: none is given up sooner.
        if silent < self._least or silent < self.silence(about):
            return ""
        return f"not heard of for {silent:.0f} s, which --timeout may change"
