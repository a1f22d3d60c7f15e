"""Files that a library in C reads: in a process of its own, which may crash, hang or grow and harms nobody.

HDF5 and TensorStore were written for files that one trusts. The process gives what it read as a safetensors file in a
folder that goes when the last tensor goes.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parity.recording.artefacts.artefact import NAME, Entry
from parity.recording.artefacts.safetensors_files import DTYPES, entries_of
from parity.recording.format import HEADER_BYTES
from parity.recording.limits import Budget
from parity.recording.placed import Placed, Region
from parity.trajectory import TrajectoryError
from parity.typing import Array

CODES = {np.dtype(code): name for name, code in DTYPES.items() if code != "bfloat16"}
ROOM = 1 << 30
"""The memory that the process may take beside its tensors, in bytes."""
REFUSED = 3
"""The status of the process where it found a reason, which it wrote."""


class Found(NamedTuple):
    """A tensor that a reader found: what it is, and how to load it."""

    name: str
    shape: tuple[int, ...]
    code: str
    """Its dtype in safetensors."""
    load: Callable[[], Array]


class Scratch:
    """A folder that goes when nobody holds it any more."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="parity-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def read_apart(module: str, library: str, extra: str, path: Path, source: Path, budget: Budget) -> dict[str, Entry]:
    """Read a file by one of our modules in a process of its own.

    ``module`` has ``find(source, budget)``, a context that gives the tensors. ``source`` is what it opens, ``path``
    what the user named. TrajectoryError if the ``library`` that it needs is missing, with the ``extra`` that brings it,
    or if the file is damaged, or takes more than is allowed.
    """
    if importlib.util.find_spec(library) is None:
        raise TrajectoryError(
            f"{path}: to read it takes {library}: python -m pip install 'cross-framework-parity[{extra}]'"
        )
    scratch = Scratch()
    out = scratch.path / "tensors.safetensors"
    # HDF5 would look for filters of its own there, which are code.
    environment = {**os.environ, "PYTHONPATH": _search(), "HDF5_PLUGIN_PRELOAD": "::", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-m", __name__, module, str(path.absolute()), str(source.absolute()), str(out)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=budget.seconds, check=False)
    except subprocess.TimeoutExpired:
        raise TrajectoryError(f"{path}: {library} took more than {budget.seconds:.0f} seconds to read it") from None
    except ValueError as error:  # a zero byte in a name
        raise TrajectoryError(f"{path!s:.200}: is no name of a file: choose another") from error
    if done.returncode == REFUSED:
        raise TrajectoryError(done.stdout.decode(errors="replace").rstrip("\n").rpartition("\n")[2])
    if done.returncode:
        raise TrajectoryError(f"{path}: {library} ended on it with status {done.returncode}: write the file again")
    entries, _ = entries_of(out, budget)
    return {
        name: entry._replace(load=partial(_load, entry, scratch), place=_kept(entry.place, scratch))
        for name, entry in entries.items()
    }


def _load(entry: Entry, scratch: Scratch) -> Array:
    """Load a tensor from a folder that is there as long as this is called for."""
    return entry.load()


def _kept(place: Placed | None, scratch: Scratch) -> Placed:
    """A tensor's place, in a folder that is there as long as this is."""
    assert isinstance(place, Region)
    return replace(place, owner=scratch)


def _search() -> str:
    """Where the process finds packages: where this one does, but for the current folder, which may be anyone's."""
    own, here = str(Path(__file__).parents[3]), Path.cwd()
    return os.pathsep.join(entry for entry in sys.path if entry and (entry == own or Path(entry) != here))


def main(module: str, path: str, source: str, out: str) -> int:
    """Read ``source`` and write its tensors to ``out``: what the process does."""
    budget = Budget()
    _bound(budget)
    try:
        with budget.reading(), importlib.import_module(module).find(Path(source), budget) as found:
            write_tensors(Path(out), found)
    except TrajectoryError as error:
        reason = str(error).replace(source, path)
    except Exception as error:  # whatever the library says of a damaged file, and the memory that ran out
        what = " ".join(f"{type(error).__name__}: {error}".split())
        reason = f"{path}: cannot be read ({what!r:.200}): write it again"
    else:
        return 0
    print(reason[:1000] if reason.isprintable() else ascii(reason)[1:1000])
    return REFUSED


def write_tensors(out: Path, found: list[Found]) -> None:
    """Write a safetensors file, one tensor after the other in memory. TrajectoryError if its header is too large."""
    header, start = {}, 0
    for name, shape, code, _ in found:
        end = start + int(np.prod(shape, dtype=object)) * (2 if code == "BF16" else np.dtype(DTYPES[code]).itemsize)
        header[name] = {"dtype": code, "shape": shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_BYTES:
        raise TrajectoryError(f"{out}: would name too many tensors")
    with open(out, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for one in found:
            file.write(np.ascontiguousarray(one.load()).tobytes())


def of_numbers(name: str, shape: Any, dtype: np.dtype[Any], load: Callable[[], Array]) -> Iterator[Found]:
    """A tensor, if it is of numbers that NumPy or we have; else none."""
    name, shape = name[: NAME + 1], tuple(int(axis) for axis in shape)
    if dtype.name == "bfloat16":
        yield Found(name, shape, "BF16", lambda: load().view(np.uint16))
    elif (little := dtype.newbyteorder("<")) in CODES:
        yield Found(name, shape, CODES[little], lambda: load().astype(little, copy=False))


def _bound(budget: Budget) -> None:
    if os.name == "posix":
        import resource

        size = int(budget.most["size"])
        for limit, most in (
            (resource.RLIMIT_DATA, size + ROOM),
            (resource.RLIMIT_CPU, int(budget.seconds) + 1),
            (resource.RLIMIT_FSIZE, size + HEADER_BYTES),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(limit)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (most, most))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
