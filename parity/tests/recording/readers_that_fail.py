"""Readers as ``read_apart`` takes them, which do what a library in C may do on a file that was made for it."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from parity.recording.artefacts.apart import Found
from parity.recording.limits import Budget


@contextmanager
def find(source: Path, budget: Budget) -> Iterator[list[Found]]:
    what = source.read_text()
    if what == "crash":
        ctypes.string_at(0)
    if what == "hang":
        time.sleep(60)
    if what == "grow":
        bytearray(1 << 40)
    if what == "write":
        (source.parent / "out").write_bytes(b"")
        with open(source.parent / "out", "r+b") as file:
            file.truncate(1 << 40)
    yield []
