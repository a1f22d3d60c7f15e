"""One at a time: what is being written to a place is waited for by whoever wants to write there too."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # where files cannot be locked, nobody waits
    LOCKING = False
else:
    LOCKING = True
PAUSE = 0.5
"""Seconds between two tries."""


@contextlib.contextmanager
def alone(place: Path, waiting: Callable[[], None] = lambda: None, pause: float = PAUSE) -> Iterator[bool]:
    """Be the only one, of all processes, that writes to a place; gives whether another had to be waited for.

    The lock is the kernel's, on a file beside the place: it ends with its process, however that ends. ``waiting`` is
    called before each pause.
    """
    path = place.with_name(f".{place.name}.lock")
    waited = False
    while (handle := _taken(path)) is None:
        waited = True
        waiting()
        time.sleep(pause)
    try:
        yield waited
    finally:
        if handle >= 0:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(handle)


def tidy(place: Path) -> None:
    """Take away the file of a lock that its holder, which was ended, has left; not one that is held."""
    path = place.with_name(f".{place.name}.lock")
    if path.exists() and (handle := _taken(path)) is not None and handle >= 0:
        path.unlink(missing_ok=True)
        os.close(handle)


def _taken(path: Path) -> int | None:
    """The open file whose lock is ours now; -1 where there are no locks, None where another has it."""
    if not LOCKING:
        return -1
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(path)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass  # held by another, or taken away by it just now
    except OSError:  # a file system without locks
        os.close(handle)
        return -1
    os.close(handle)
    return None
