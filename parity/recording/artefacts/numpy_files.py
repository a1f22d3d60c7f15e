"""NumPy's own files: .npy and .npz. Objects in them are pickles, and are refused."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import IO, Any

import numpy as np

from parity.recording.artefacts.artefact import Artefact, Entry, checkpoint, values_of
from parity.recording.artefacts.stored import archive_of, entry_of, loaded
from parity.recording.files import opened, target_of
from parity.recording.limits import Budget
from parity.recording.mapped import File
from parity.trajectory import TrajectoryError

HEADER = 1 << 17
"""The bytes of the header of an array are fewer."""
MAGIC = b"\x93NUMPY"
DESCR = re.compile(rb"'descr': *'([<>|=]?[A-Za-z?][0-9]{0,3})'")
ORDER = re.compile(rb"'fortran_order': *(True|False)")
SHAPE = re.compile(rb"'shape': *\(([0-9, ]{0,400})\)")


def read_npy(path: Path, budget: Budget) -> Artefact:
    """Read one array. It has the name of its file."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        budget.spend_file(path, file)
        budget.spend(path, tensors=1)
        shape, order, dtype, start = _header(path, path.stem, file, size)
        kept = File(path, target_of(path, None), file)
    return checkpoint(path, "NumPy array", {path.stem: _in_order(kept, start, shape, order, dtype)})


def read_npz(path: Path, budget: Budget) -> Artefact:
    """Read an archive of arrays. They stay on disk, but those that are compressed."""
    found = {}
    with archive_of(path, budget) as archive:
        for file, info in archive.entries.items():
            if not file.endswith(".npy"):
                raise archive.damaged(f"{file!r:.80} is no array")
            name, start = file.removesuffix(".npy"), archive.place(file)
            if start is None:
                data = archive.read(file, int(budget.most["kept"]))
                shape, order, dtype, start = _header(path, name, io.BytesIO(data), len(data))
                values = np.frombuffer(data, dtype, values_of(path, name, shape), start)
                found[name] = loaded(values.reshape(shape, order=order))
            else:
                with opened(path) as plain:
                    plain.seek(start)
                    head = io.BytesIO(plain.read(min(info.file_size, HEADER)))
                shape, order, dtype, after = _header(path, name, head, info.file_size)
                found[name] = _in_order(archive.kept, start + after, shape, order, dtype)
    return checkpoint(path, "NumPy archive", found)


def _header(path: Path, name: str, file: IO[bytes], size: int) -> tuple[tuple[int, ...], Any, np.dtype[Any], int]:
    """Shape, order and dtype of an array, and where its values begin. TrajectoryError if they do not fill the file."""

    def refused(what: str) -> TrajectoryError:
        return TrajectoryError(f"{path}: {name!r:.80} {what}")

    magic = file.read(8)
    width = {1: 2, 2: 4, 3: 4}.get(magic[6]) if len(magic) == 8 and magic[:6] == MAGIC else None
    if width is None:
        raise refused("is no array of NumPy's: write the file again")
    length = int.from_bytes(file.read(width), "little")
    text = file.read(length) if length < HEADER else b""
    found = [re.findall(pattern, text) for pattern in (DESCR, ORDER, SHAPE)]
    if any(len(each) != 1 for each in found):
        raise refused("has no plain array's header: save arrays of numbers only, no objects and no records")
    (descr,), (order,), (shape,) = found
    try:
        dtype, axes = np.dtype(descr.decode()), tuple(int(axis) for axis in shape.replace(b",", b" ").split())
    except (TypeError, ValueError, SyntaxError) as error:
        raise refused("has a damaged header: write the file again") from error
    if dtype.kind not in "fiub":
        what = "objects, which are pickled" if dtype.hasobject else f"{descr.decode()!r}"
        raise refused(f"holds {what}: save numbers that NumPy has")
    start = 8 + width + length
    if values_of(path, name, axes) * dtype.itemsize != size - start:
        raise refused("holds another number of values than it says: write the file again")
    return axes, "F" if order == b"True" else "C", dtype, start


def _in_order(kept: File, start: int, shape: tuple[int, ...], order: str, dtype: np.dtype[Any]) -> Entry:
    if order == "C":
        return entry_of(kept, start, shape, dtype)
    turned = entry_of(kept, start, shape[::-1], dtype)
    return Entry(shape, dtype, lambda: turned.load().T)
