"""A sketch of a checkpoint: of each tensor a hash, a projection and a few numbers, in a file of two kilobytes a tensor.

The file is one of safetensors with ``schema`` and ``version`` in its metadata, and these tensors, with T the number of
tensors in the checkpoint:

    about        (bytes,) uint8: JSON, an object with ``tensors``, the list of [name, dtype, shape], and ``notes``
    digests      (T, 32) uint8: SHA-256 of the numbers, little-endian in their own dtype, in C order
    projections  (T, ROWS, BUCKETS) float64: see ``parity.recording.projected``
    largest      (T,) float64: the largest magnitude of the finite numbers
    nonfinite    (T,) int64: how many are not finite

``parity.recording.sketch`` is for batches and activations: it is short, and bounds no distance.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save

from parity.recording.artefacts.artefact import check_name, values_of
from parity.recording.files import opened
from parity.recording.format import HEADER_BYTES
from parity.recording.header import About, Shapes, read_tensors
from parity.recording.limits import Budget
from parity.recording.manifest import parsed
from parity.recording.projected import BUCKETS, ROWS
from parity.trajectory import TrajectoryError
from parity.typing import Array

SCHEMA = "parity-sketch"
VERSION = 1
MOST = 1 << 16
"""A sketch has no more tensors."""
DTYPES = frozenset({"bfloat16", *(np.dtype(code).name for code in "?bBhHiIlLqQefdg")})
_KINDS = {
    "about": (np.uint8, 1),
    "digests": (np.uint8, 2),
    "projections": (np.float64, 3),
    "largest": (np.float64, 1),
    "nonfinite": (np.int64, 1),
}
"""The dtype of each tensor of the file, and how many axes it has."""


class Sketched(NamedTuple):
    """A tensor in a few numbers."""

    dtype: str
    """NumPy's name of its dtype, or bfloat16."""
    shape: tuple[int, ...]
    digest: bytes
    """SHA-256, 32 bytes."""
    largest: float
    nonfinite: int
    projection: Array
    """float64 (ROWS, BUCKETS); zeros of what is no floating-point tensor."""

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def floats(self) -> bool:
        """Whether they are floating-point numbers."""
        return self.dtype == "bfloat16" or np.dtype(self.dtype).kind == "f"


@dataclass(frozen=True)
class Sketch:
    """A checkpoint in a few numbers a tensor.

    Attributes:
        tensors: The model's tensors by name.
        notes: What was left out of it, and why.
    """

    tensors: Mapping[str, Sketched]
    notes: tuple[str, ...] = ()

    def as_file(self) -> bytes:
        """Give the bytes of its file.

        Raises:
            TrajectoryError: If it has more tensors than are read.
        """
        if len(self.tensors) > MOST:
            raise TrajectoryError(f"{len(self.tensors):,} tensors are more than the {MOST:,} of a sketch: split them")
        all_of = self.tensors.values()
        about = {
            "tensors": [[name, one.dtype, list(one.shape)] for name, one in self.tensors.items()],
            "notes": list(self.notes),
        }
        count = len(self.tensors)
        columns = {
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            "digests": np.frombuffer(b"".join(one.digest for one in all_of), np.uint8).reshape(count, 32),
            "projections": np.array([one.projection for one in all_of]).reshape(count, ROWS, BUCKETS),
            "largest": np.array([one.largest for one in all_of], np.float64),
            "nonfinite": np.array([one.nonfinite for one in all_of], np.int64),
        }
        return bytes(save(columns, {"schema": SCHEMA, "version": str(VERSION)}))


def is_sketch(path: str | os.PathLike[str]) -> bool:
    """Say whether a file is a sketch, by its content. A file that cannot be read is none."""
    if not os.path.isfile(path):
        return False
    try:
        with opened(Path(path)) as file:
            length = int.from_bytes(file.read(8), "little")
            said = file.read(length) if length <= HEADER_BYTES else b""
        return SCHEMA.encode() in said and bool(parsed(said, Path(path))["__metadata__"]["schema"] == SCHEMA)
    except (OSError, TrajectoryError, KeyError, TypeError):
        return False


def read_sketch(path: Path, budget: Budget | None = None) -> Sketch:
    """Read a sketch without trust. TrajectoryError if it is damaged, or too large: see ``Budget``."""
    budget = budget or Budget()

    def wanted(about: About, shapes: Shapes) -> bool:
        if about.get("schema") != SCHEMA:
            raise TrajectoryError(f"{path}: is no sketch: 'parity sketch' makes one of a checkpoint")
        if about.get("version") != str(VERSION):
            said = f"{about.get('version')!s:.20}"
            raise TrajectoryError(f"{path}: is version {said} of a sketch, this program reads {VERSION}: update it")
        return True

    try:
        with budget.reading():
            found = read_tensors(path, budget.most["kept"], None, wanted, budget)
    except OSError as error:
        raise TrajectoryError(f"{str(path)!r}: cannot be read: {error.strerror}") from error
    assert found is not None
    kinds = {name: (values.dtype, values.ndim) for name, values in found[1].items()}
    if kinds != {name: (np.dtype(dtype), axes) for name, (dtype, axes) in _KINDS.items()}:
        raise _damaged(path, "does not hold the tensors of a sketch")
    columns = found[1]
    about = parsed(columns["about"].tobytes(), path)
    named, notes = _about(path, about)
    shapes = [values.shape for name, values in columns.items() if name != "about"]
    count = len(named)
    wanted_shapes = [(count, 32), (count, ROWS, BUCKETS), (count,), (count,)]
    if sorted(shapes) != sorted(wanted_shapes):
        raise _damaged(path, "has more or fewer numbers than tensors")
    tensors: dict[str, Sketched] = {}
    for place, (name, dtype, shape) in enumerate(named):
        size = values_of(path, name, shape)
        largest, nonfinite = float(columns["largest"][place]), int(columns["nonfinite"][place])
        if not (0 <= largest < math.inf and 0 <= nonfinite <= size) or name in tensors:
            raise _damaged(path, f"{name!r:.80} is there twice, or has impossible numbers")
        digest, projection = columns["digests"][place].tobytes(), columns["projections"][place]
        tensors[name] = Sketched(dtype, tuple(shape), digest, largest, nonfinite, projection)
    return Sketch(tensors, tuple(notes))


def _about(path: Path, about: Any) -> tuple[list[tuple[str, str, list[int]]], list[str]]:
    """The names, dtypes and shapes of the tensors, and the notes. TrajectoryError if they are none."""
    tensors, notes = (about.get(key) for key in ("tensors", "notes")) if isinstance(about, dict) else (None, None)
    if not isinstance(tensors, list) or not isinstance(notes, list) or len(tensors) > MOST:
        raise _damaged(path, "does not say what it holds")
    if not all(isinstance(note, str) for note in notes):
        raise _damaged(path, "has a note that is no text")
    for each in tensors:
        good = isinstance(each, list) and len(each) == 3 and isinstance(each[0], str) and isinstance(each[2], list)
        if not good or not isinstance(each[1], str) or each[1] not in DTYPES:
            raise _damaged(path, f"{each!r:.80} is no tensor's name, dtype and shape")
        check_name(path, each[0])
    return [(name, dtype, shape) for name, dtype, shape in tensors], notes


def _damaged(path: Path, what: str) -> TrajectoryError:
    return TrajectoryError(f"{path}: {what}: make the sketch again with 'parity sketch'")
