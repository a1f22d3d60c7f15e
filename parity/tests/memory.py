"""How much memory a process of its own has taken, for tests that bound it."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak() -> int:
    """The most bytes that this process has had in memory.

    Not the maximum among its resources, where the system says more: Linux counts there what it was forked from.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found is not None:
        return int(found[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)
