"""The exact state from which a stopped run continues: a safetensors file beside its shards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from parity.trainer import State

FILE = "checkpoint.safetensors"


def pack(state: State, epoch: int, key: str) -> bytes:
    """Serialize the state after ``epoch`` epochs of the run that ``key`` names. Arrays keep their dtypes."""
    tensors = {f"params/{name}": np.asarray(value, order="C") for name, value in state.params.items()}
    tensors |= {f"slots/{name}": np.asarray(value, order="C") for name, value in state.slots.items()}
    about = {"key": key, "epoch": str(epoch), "step": str(state.step), "slot_scale": state.slot_scale.hex()}
    packed: bytes = save(tensors, about)
    return packed


def unpack(path: Path, key: str) -> tuple[int, State] | None:
    """The epoch and the state in a checkpoint; None if it is missing, damaged or of another run."""
    try:
        with safe_open(path, "numpy") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (FileNotFoundError, SafetensorError):
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
