"""The exact state from which a stopped run continues: a safetensors file beside its shards."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from parity.recording.format import HEADER_BYTES
from parity.recording.header import About, Shapes, read_tensors
from parity.recording.limits import SIZE, Budget, allowed
from parity.trainer import State
from parity.trajectory import TrajectoryError
from parity.typing import Params

FILE = "checkpoint.safetensors"
MOST = 1 << 30
"""No checkpoint of more bytes is read where nothing is known of its run."""
SLOTS = 16
"""A state has as many bytes for each of its parameters, in float64, and for its slots, at most."""


def pack(state: State, epoch: int, key: str) -> bytes:
    """Serialize the state after ``epoch`` epochs of the run that ``key`` names, with a checksum.

    Arrays keep their dtypes.
    """
    tensors = {f"params/{name}": np.asarray(value, order="C") for name, value in state.params.items()}
    tensors |= {f"slots/{name}": np.asarray(value, order="C") for name, value in state.slots.items()}
    about = {"key": key, "epoch": str(epoch), "step": str(state.step), "slot_scale": state.slot_scale.hex()}
    packed: bytes = save(tensors, about | {"sha256": _checksum(tensors, about)})
    return packed


def unpack(path: Path, key: str, shapes: Shapes | None = None) -> tuple[int, State] | None:
    """The epoch and the state in a checkpoint; None if it is missing, damaged in a single bit, or of another run.

    Its header must bear the key before anything else of it is read. ``shapes`` are those of the run's parameters, which
    it must have, and which say how large it can be.
    """
    values = None if shapes is None else sum(map(math.prod, shapes.values()))
    most = MOST * allowed() if values is None else HEADER_BYTES + 8 + 8 * SLOTS * values

    def wanted(about: About, found: Shapes) -> bool:
        params = {name.removeprefix("params/"): each for name, each in found.items() if name.startswith("params/")}
        return about.get("key") == key and (shapes is None or params == shapes)

    try:
        # What a run needs it is given, however large it is: its size alone limits it.
        kept = read_tensors(path, most, path.parent, wanted, Budget(max(1.0, most / SIZE)))
    except (FileNotFoundError, TrajectoryError):
        return None
    if kept is None:
        return None
    about, tensors = kept
    if about.pop("sha256", "") != _checksum(tensors, about):
        return None
    parts = {
        part: {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}
        for part in ("params", "slots")
    }
    try:
        step, epoch, scale = int(about["step"]), int(about["epoch"]), float.fromhex(about["slot_scale"])
    except (KeyError, ValueError, OverflowError):
        return None
    return epoch, State(parts["params"], parts["slots"], step, scale)


def _checksum(tensors: Params, about: Mapping[str, str]) -> str:
    """A SHA-256 of all that a checkpoint holds, in hexadecimal."""
    digest = hashlib.sha256(repr(sorted(about.items())).encode())
    for name, value in sorted(tensors.items()):
        digest.update(repr((name, value.dtype.str, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()
