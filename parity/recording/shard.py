"""One shard of a recording: its bytes held against their checksum, and every tensor in it checked by itself."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from parity.dtypes import unpacked
from parity.recording.files import opened, target_of
from parity.recording.format import FLOATS, MANIFEST, STEP, STORED, TENSOR_NAME
from parity.recording.header import read_header
from parity.recording.limits import Budget
from parity.recording.manifest import missing
from parity.recording.mapped import File, Stored
from parity.trajectory import TrajectoryError, Widened
from parity.typing import Array

ALONE = ("epochs", "loss", "steps/")
"""What a shard of updates alone holds."""
MEND = "copy the file anew or record the run again"
Require = Callable[[bool, str], None]


@dataclass(frozen=True)
class Shard:
    """What a shard holds. Parameters and steps stay on disk."""

    epochs: Array
    """(S,) int64; none where it holds updates alone."""
    loss: Array
    """(epochs trained, batches), bfloat16 in float32."""
    params: dict[str, Stored | Widened]
    metrics: dict[str, Array]
    steps: dict[str, tuple[Stored, bool]]
    """Each tensor, and whether it is bfloat16."""
    shapes: dict[str, tuple[int, ...]]
    """The shape of a snapshot of each parameter, slot and metric, by whole name."""


def read_shard(folder: Path, entry: Mapping[str, Any], dtype: str, budget: Budget) -> Shard:
    """Read one shard and check it. TrajectoryError if the file or a tensor by itself is unsound."""
    path = folder / entry["file"]

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}: {MEND}")

    try:
        target = target_of(path, folder)
        file = opened(path, folder)
    except FileNotFoundError:
        raise missing(folder, entry["file"]) from None
    with file:
        size = os.fstat(file.fileno()).st_size
        expected = entry.get("bytes", size)
        require(size == expected, f"has {size} bytes where {MANIFEST} says {expected}")
        require(size > 8, "is too short for a safetensors file")
        budget.spend(path, size=size)
        found = File(path, target, file)
        require(_checksum(file, path, budget) == entry["sha256"], "does not match its checksum")
        file.seek(0)
        header, start = read_header(file, path, target, budget, MEND)
    tensors = {name: _tensor(path, found, name, about, dtype, start, require) for name, about in header.items()}
    snapshots = _check(tensors, require)

    def whole(name: str) -> Array:
        value = tensors[name].array()
        budget.spend(path, kept=value.nbytes)
        return unpacked(value) if header[name]["dtype"] == "BF16" else value.copy()

    params: dict[str, Stored | Widened] = {}
    metrics: dict[str, Array] = {}
    steps: dict[str, tuple[Stored, bool]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        half = header[name]["dtype"] == "BF16"
        if group == "params":
            params[rest] = Widened(tensor) if half else tensor
        elif group == "metrics":
            metrics[rest] = whole(name)
        elif group == "steps":
            steps[rest] = tensor, half
    epochs, loss = whole("epochs"), whole("loss")
    return Shard(epochs, loss, params, metrics, steps, snapshots)


def _checksum(file: BinaryIO, path: Path, budget: Budget) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest, block = hashlib.sha256(), memoryview(bytearray(1 << 20))
    while count := file.readinto(block):  # type: ignore[attr-defined]
        digest.update(block[:count])
        budget.spend(path)  # a slow disk is not waited for without end
    return digest.hexdigest()


def _tensor(
    path: Path, file: File, name: str, about: Mapping[str, Any], dtype: str, start: int, require: Require
) -> Stored:
    """A tensor that a header describes, if its name, dtype and shape are of the format."""
    require(bool(TENSOR_NAME.fullmatch(name)), f"tensor name {name!r:.80} is not one of this format's")
    code, shape = about["dtype"], tuple(about["shape"])
    group = name.split("/", 1)[0]
    wanted = {"epochs": ("I64",), "metrics": ("F64",), "params": (FLOATS[dtype],), "slots": (FLOATS[dtype],)}
    allowed = wanted.get(group, tuple(FLOATS.values()) if group == "loss" else tuple(STORED))
    require(code in allowed, f"{name} is {code}, it must be {' or '.join(allowed)}")
    tensor = Stored(file, start + about["data_offsets"][0], shape, STORED[code])
    try:
        tensor.array()
    except (ValueError, OverflowError, TypeError) as error:
        if isinstance(error, TrajectoryError):
            raise
        raise TrajectoryError(f"{path}: {name} has the impossible shape {shape!s:.80}") from error
    return tensor


def _check(tensors: Mapping[str, Stored], require: Require) -> dict[str, tuple[int, ...]]:
    """Refuse tensors that are no snapshots of a run; the shapes of a snapshot's."""
    for name, axes in (("epochs", 1), ("loss", 2)):
        require(name in tensors, f"has no {name!r}")
        require(len(tensors[name].shape) == axes, f"{name} must have {axes} axes, not {len(tensors[name].shape)}")
    snapshots = tensors["epochs"].shape[0]
    if snapshots:
        require(any(name.startswith("params/") for name in tensors), "has no 'params/...'")
    else:
        require(any(name.startswith("steps/") for name in tensors), "holds no snapshot and no update")
        require(all(name.startswith(ALONE) for name in tensors), "has parameters, and no snapshot of them")
    shapes = {}
    for name, tensor in tensors.items():
        if name.startswith(("params/", "slots/", "metrics/")):
            good = tensor.shape[:1] == (snapshots,)
            require(good, f"{name} has shape {tensor.shape} where there are {snapshots} epochs")
            require(len(tensor.shape) == 1 or not name.startswith("metrics/"), f"{name} must be one number a snapshot")
            shapes[name] = tensor.shape[1:]
        elif (step := STEP.fullmatch(name)) and step[1] == "rows":
            good = len(tensor.shape) == 1 and tensor.dtype == STORED["I64"]
            require(good, f"{name} must be int64 with one axis, not {tensor.dtype} of shape {tensor.shape}")
        elif step:
            require(math.prod(tensor.shape) == 1, f"{name} must be one number, not of shape {tensor.shape}")
    return shapes
