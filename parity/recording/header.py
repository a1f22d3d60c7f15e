"""The header of a safetensors file: which tensors are in it, and where; checked before anything else of it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError, safe_open

from parity.recording.format import HEADER_BYTES
from parity.recording.limits import Budget
from parity.recording.manifest import parsed
from parity.trajectory import TrajectoryError


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
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER_BYTES:
        raise TrajectoryError(f"{path}: its header claims {length} bytes, more than {HEADER_BYTES >> 20} MiB: {mend}")
    said = file.read(length)
    try:
        # safetensors checks types, bounds, gaps and overlaps. Its arrays would be copies, so the file is mapped too.
        with safe_open(target, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is no valid safetensors file ({reason:.200}): {mend}") from error
    header: dict[str, Any] = parsed(said, path)
    header.pop("__metadata__", None)
    budget.spend(path, tensors=len(header))
    return header, 8 + length
