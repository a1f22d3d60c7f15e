"""The header of a safetensors file: which tensors are in it, and where; checked before anything else of it is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load

from parity.recording.files import in_words, opened, target_of
from parity.recording.format import HEADER_BYTES
from parity.recording.limits import MORE, Budget, LimitError
from parity.recording.manifest import parsed
from parity.trajectory import TrajectoryError
from parity.typing import Params

About = Mapping[str, str]
"""The metadata of a file."""
Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor in a file, by name."""


def read_header(file: BinaryIO, path: Path, target: Path, budget: Budget, mend: str) -> tuple[dict[str, Any], int]:
    """Read the header of a file that is open at its beginning.

    Args:
        file: The file.
        path: What errors call it.
        target: Where it is.
        budget: What is left for the reading; its tensors are spent.
        mend: What to do about a file that is unsound, at the end of an error.

    Returns:
        What it says of each tensor, by name, and the place in the file where the tensors begin.

    Raises:
        TrajectoryError: If it is no header of safetensors, or larger than one is read.
    """
    header, start = _parsed(file, path, target, mend)
    header.pop("__metadata__", None)
    budget.spend(path, tensors=len(header))
    return header, start


def read_tensors(
    path: Path,
    most: float,
    root: Path | None = None,
    wanted: Callable[[About, Shapes], bool] = lambda about, shapes: True,
    budget: Budget | None = None,
) -> tuple[dict[str, str], Params] | None:
    """Read the metadata and the tensors of a safetensors file. Its header decides whether its tensors are read at all.

    Args:
        path: The file.
        most: No larger file is read.
        root: The folder that no link may leave.
        wanted: Says of the metadata and the shapes of the tensors whether the tensors are wanted.
        budget: What is left for the reading; the size of a file that is wanted is spent.

    Returns:
        The metadata and the tensors; None if they are not wanted.

    Raises:
        OSError: If the file cannot be opened, with FileNotFoundError.
        TrajectoryError: If it is damaged, or no regular file in the folder; LimitError if it is larger than it may be.
    """
    budget, mend = budget or Budget(), "it is damaged"
    target = target_of(path, root)
    with opened(path, root) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise LimitError(f"{path}: is larger than {in_words(int(most))}: if you trust it, {MORE}")
        header, _ = _parsed(file, path, target, mend)
        about = header.pop("__metadata__", None) or {}  # null counts as none
        budget.spend(path, tensors=len(header))
        if not wanted(about, {name: tuple(said["shape"]) for name, said in header.items()}):
            return None
        budget.spend(path, size=size)
        file.seek(0)
        data = file.read(size)
    try:
        return dict(about), load(data)
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        # All but the first for a dtype or a shape that NumPy lacks.
        raise _invalid(path, error, mend) from error


def _parsed(file: BinaryIO, path: Path, target: Path, mend: str) -> tuple[dict[str, Any], int]:
    """The whole header of a file that is open at its beginning, and the place where the tensors begin."""
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER_BYTES:
        raise TrajectoryError(f"{path}: its header claims {length} bytes, more than {HEADER_BYTES >> 20} MiB: {mend}")
    said = file.read(length)
    try:
        # safetensors checks types, bounds, gaps and overlaps. Its arrays would be copies, so the file is mapped too.
        with safe_open(target, framework="numpy"):
            pass
    except SafetensorError as error:
        raise _invalid(path, error, mend) from error
    header: dict[str, Any] = parsed(said, path)
    return header, 8 + length


def _invalid(path: Path, error: Exception, mend: str) -> TrajectoryError:
    reason = " ".join(str(error).split())
    return TrajectoryError(f"{path}: is no valid safetensors file ({reason:.200}): {mend}")
