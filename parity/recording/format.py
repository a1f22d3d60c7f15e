"""The format of a recorded run on disk: its files, their contents and the values that they may hold.

A recorded run is a folder: ``trajectory.json`` and the safetensors shards that it names. A shard holds a
stretch of snapshots, in order:

    epochs                  (S,) int64, the epoch of each snapshot; the first shard begins with epoch 0
    loss                    (epochs trained since the shard before, batches): each batch's loss before its update
    params/<layer>/<role>   (S, *shape) in the declared dtype: float64, float32, float16 or bfloat16
    metrics/<name>          (S,) float64, optional

A shard may also hold ``slots/...``, shaped as ``params``, and ``steps/...`` (see ``parity.recording.steps``), each
tensor of them in one shard, no matter which. ``trajectory.json`` must have ``schema``, ``version``, ``complete``,
``dtype`` and ``shards``, a list of ``{"file", "sha256"}`` in order. ``OPTIONAL`` and ``SHARD_OPTIONAL`` list the other
keys that a reader understands. It keeps any further key as it is.

A file may come from anyone, so a reader checks everything in it before use.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from parity.spec import Schedule
from parity.trajectory import TrajectoryError
from parity.typing import Array

SCHEMA = "parity-trajectory"
VERSION = 1
MANIFEST = "trajectory.json"
MANIFEST_BYTES = 16 << 20
"""The size of the largest ``trajectory.json`` that is read. It has room for more than 50,000 shards."""
VALUES = 1 << 19
"""The values of the largest JSON that is parsed: a shard's entry has five, a tensor's eight or so."""
DEPTH = 16
"""So deep may the objects and arrays of a manifest lie in each other."""
LEAST, MOST = -(2**63), 2**63 - 1
"""The integers that a manifest may hold: those of 64 bits."""
HEADER_BYTES = 4 << 20
"""The size of the largest shard header that is parsed. It has room for more than 30,000 tensors."""
FLOATS = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}
"""The dtypes that a run may declare, and their names in safetensors. In memory float32 holds bfloat16 exactly."""
OPTIONAL: Mapping[str, tuple[type, ...]] = {
    "case": (str,),
    "implementation": (str,),
    "device": (str,),
    "versions": (dict,),
    "platform": (dict,),
    "threads": (int,),
    "settings": (dict,),
    "batch_order": (str, type(None)),
    "key": (str, type(None)),
    "origin": (str,),
    "lockstep": (int, type(None)),
    "deep": (int,),
    "floor": (str, type(None)),
    "seconds": (int, float),
    "timings": (dict,),
    "depends": (dict,),
    "layers": (list,),
    "buffers": (list,),
    "tied": (dict,),
    "notes": (list,),
    "followed": (dict,),
    "unit": (str,),
    "random": (str,),
}
"""The optional keys of ``trajectory.json`` and their types. ``versions`` maps names to texts."""
COUNTS = ("threads", "lockstep", "deep")
"""The optional keys that count something: integers from 0 on."""
SHARD_OPTIONAL = ("bytes", "first_epoch", "last_epoch")
"""The optional keys of an entry of ``shards``: integers from 0 on."""
CODES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
STORED: dict[str, np.dtype[Any]] = {name: np.dtype(code) for name, code in CODES.items()}
SHARD_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9_.-]+"
NAMES = "a name is parts of letters, digits, _ . - between slashes"
TENSOR_NAME = re.compile(rf"epochs|loss|(?:params|metrics|slots|steps)(?:/{_PART})+")

STEP = re.compile(r"steps/[0-9]+/(rows|loss|trained)")
"""Tensors of a step of which a reader checks the shape: rows have one axis, the others are one number."""


def batch_order_hash(schedule: Schedule, rows: int, epochs: int) -> str:
    """Hash the rows of every batch of the first ``epochs`` epochs: SHA-256, in hex.

    The hash covers the digests of the epochs. An epoch's digest covers each batch's length and row indices, all as
    little-endian int64.
    """
    order = hashlib.sha256()
    previous, digest = None, b""
    for _, batches in zip(range(epochs), schedule.epochs(rows), strict=False):
        if batches is not previous:
            previous, digest = batches, order_of_epoch(batches)
        order.update(digest)
    return order.hexdigest()


def order_of_epoch(batches: Sequence[Array]) -> bytes:
    """Digest the batches of one epoch for ``batch_order_hash``."""
    epoch = hashlib.sha256()
    for batch in batches:
        epoch.update(len(batch).to_bytes(8, "little"))
        epoch.update(np.asarray(batch, "<i8").tobytes())
    return epoch.digest()


def made(meta: Mapping[str, Any]) -> str:
    """A hash of the run that a manifest is of: its key, and the checksum of every shard; SHA-256, in hexadecimal.

    A run that is made again, and comes out the same, has the same.
    """
    shards = [shard["sha256"] for shard in meta["shards"]]
    return hashlib.sha256(repr((meta.get("key"), meta.get("depends"), shards)).encode()).hexdigest()


def check_optional(meta: Mapping[str, Any], where: Path) -> None:
    """Refuse optional keys of a wrong type, and what is not plain: TrajectoryError, which names ``where``."""
    check_plain(meta, where)
    for key, kinds in OPTIONAL.items():
        if key in meta and type(meta[key]) not in kinds:
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise TrajectoryError(f"{where}: {key} must be {wanted}, not {meta[key]!r:.80}")
    if not all(isinstance(value, str) for value in meta.get("versions", {}).values()):
        raise TrajectoryError(f"{where}: versions must map names to texts")
    for key in COUNTS:
        value = meta.get(key)
        if value is not None and not (counted(value) and value <= MOST):
            raise TrajectoryError(f"{where}: {key} must be an integer from 0 on, not {value!r:.80}")
    order = meta.get("batch_order")
    if order is not None and not SHA256.fullmatch(order):
        raise TrajectoryError(f"{where}: batch_order must be 64 lower-case hexadecimal digits")


def check_plain(meta: Mapping[str, Any], where: Path) -> None:
    """Refuse what other programs could not read or write: TrajectoryError, which names ``where``.

    That is an integer of more than 64 bits, a number that is not finite, a text with half a surrogate pair, and what
    lies in more than ``DEPTH`` objects and arrays.
    """

    def refuse(what: str) -> NoReturn:
        raise TrajectoryError(f"{where}: holds {what}")

    left: list[tuple[Any, int]] = [(meta, 0)]  # not by recursion, which would have an end of its own
    while left:
        value, depth = left.pop()
        if isinstance(value, dict | list | tuple):
            if depth == DEPTH:
                refuse(f"a value in more than {DEPTH} objects and arrays")
            inner = (*value, *value.values()) if isinstance(value, dict) else value
            left += [(one, depth + 1) for one in inner]
        elif isinstance(value, int) and not LEAST <= value <= MOST:
            refuse(f"an integer of {value.bit_length()} bits: it may have 64")
        elif isinstance(value, float) and not math.isfinite(value):
            refuse("a number that is not finite")
        elif isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                refuse(f"the text {value!r:.80}, which cannot be encoded")


def counted(value: Any) -> bool:
    """Say whether a value is an integer from 0 on, as a count is."""
    return type(value) is int and value >= 0


def check_steps(steps: Mapping[str, Array]) -> None:
    """Refuse recorded steps that a reader would refuse: ValueError."""
    for name, value in steps.items():
        if not TENSOR_NAME.fullmatch(f"steps/{name}") or value.dtype not in STORED.values():
            raise ValueError(f"{name} cannot be kept as {value.dtype} under that name: {NAMES}")
