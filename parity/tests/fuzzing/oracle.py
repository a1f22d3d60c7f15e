"""May a changed run pass against the one that it was? Said without the reader and without the judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.format import CODES

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
ALLOWED = 2 * 16 * 4
"""The roundings of the largest value so far that two runs without noise floors may be apart: both runs' own, added."""


def may_pass(changed: Path, original: Path) -> bool:
    """Whether all losses and parameters of both folders are the same but for roundings.

    A parameter may have another name, shape or order of axes: then its values, sorted, are those of one of the other's.
    """
    (ours, dtype), (theirs, other) = _values(changed), _values(original)
    unit = max(UNITS[dtype], UNITS[other])
    alike = {name for name in ours.keys() & theirs.keys() if _near(ours[name], theirs[name], unit)}
    mine, left = ([name for name in of if name not in alike] for of in (ours, theirs))
    for name in mine:
        if not name.startswith("params/"):
            return False
        partner = next((one for one in left if _near(_sorted(ours[name]), _sorted(theirs[one]), unit)), None)
        if partner is None:
            return False
        left.remove(partner)
    return not left


def _sorted(values: Any) -> Any:
    """The values of each snapshot in ascending order."""
    return np.sort(values.reshape(len(values), -1), axis=1) if values.ndim else values


def _near(a: Any, b: Any, unit: float) -> bool:
    if a.shape != b.shape:
        return False
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return False
    if not a.size:
        return True
    rows = (max(1, len(a)), -1)
    sizes = np.maximum.accumulate(np.maximum(np.abs(a.reshape(rows)).max(1), np.abs(b.reshape(rows)).max(1)))
    with np.errstate(over="ignore"):
        apart = np.abs(a - b).reshape(rows).max(1)
    return bool((apart <= ALLOWED * unit * sizes * (1 + 1e-6)).all())


def _values(folder: Path) -> tuple[dict[str, Any], str]:
    """Every tensor that counts, in float64, along the whole run, and the dtype that the run declares."""
    meta = json.loads((folder / "trajectory.json").read_text())
    found: dict[str, list[Any]] = {}
    for shard in meta["shards"]:
        data = (folder / shard["file"]).read_bytes()
        length = int.from_bytes(data[:8], "little")
        for name, tensor in json.loads(data[8 : 8 + length]).items():
            if name in ("epochs", "loss") or name.startswith("params/"):
                start, end = tensor["data_offsets"]
                values = np.frombuffer(data[8 + length + start : 8 + length + end], CODES[tensor["dtype"]])
                if tensor["dtype"] == "BF16":
                    values = (values.astype(np.uint32) << 16).view(np.float32)
                values = values.reshape(tensor["shape"])
                if name != "loss" or len(values):
                    found.setdefault(name, []).append(values.astype(np.float64))
    return {name: np.concatenate(pieces) for name, pieces in found.items()}, meta["dtype"]
