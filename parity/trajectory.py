"""Trajectories: what a run recorded, in memory and on disk.

On disk a trajectory is a folder: ``trajectory.json`` and the safetensors shards that it names. A shard holds a
stretch of snapshots, in order:

    epochs                  (S,) int64, the epoch of each snapshot; the first of the first shard is 0
    loss                    (epochs trained since the shard before, batches): each batch's loss before its update
    params/<layer>/<role>   (S, *shape) in the declared dtype: float64, float32, float16 or bfloat16
    metrics/<name>          (S,) float64, optional

``slots/...`` (shaped as ``params``) and ``steps/...`` (see ``parity.deep``; each in one shard, whichever) may stand
beside them. ``trajectory.json`` must have
``schema``, ``version``, ``complete``, ``dtype`` and ``shards``, a list of ``{"file", "sha256"}`` in order;
``OPTIONAL`` and ``SHARD_OPTIONAL`` list what else is understood. Anything more is kept as it is.

A file that is read may come from anywhere: nothing in it is believed before it was checked.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import mmap
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, overload

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from parity import checkpoint
from parity.dtypes import carrier, packed, unpacked
from parity.spec import Array, Schedule
from parity.trainer import Chunk, State

SCHEMA = "parity-trajectory"
VERSION = 1
MANIFEST = "trajectory.json"

MANIFEST_BYTES = 16 << 20
"""No ``trajectory.json`` larger than this is read: room for more than 50,000 shards."""
HEADER_BYTES = 4 << 20
"""No shard header larger than this is parsed: room for more than 30,000 tensors."""
SHARD_BYTES = 8 << 20
SHARD_SECONDS = 5.0

FLOATS = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16"}
"""The dtypes that a run may declare, and what safetensors calls them. In memory bfloat16 is exact in float32."""

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
}
"""What ``trajectory.json`` may say beside what it must, with the types. ``versions`` maps names to texts."""

SHARD_OPTIONAL = ("bytes", "first_epoch", "last_epoch")

_CODES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I64": "<i8"}
_DTYPES: dict[str, np.dtype[Any]] = {name: np.dtype(code) for name, code in _CODES.items()}
_FILE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.safetensors")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PART = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9_.-]+"
NAMES = "a name is parts of letters, digits, _ . - between slashes"
_TENSOR = re.compile(rf"epochs|loss|(?:params|metrics|slots|steps)(?:/{_PART})+")


class TrajectoryError(ValueError):
    """A trajectory that cannot be used. The message is one line: where, what is wrong, what to do."""


class Stack(Protocol):
    """A tensor's snapshots along the first axis: an array, or one that stays on disk until it is sliced."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, key: int, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> Array: ...


class Shards:
    """A stack in several pieces ``(S_i, *shape)``. Slices within a piece are views, others are joined copies."""

    def __init__(self, pieces: Sequence[Array | Widened]) -> None:
        self._pieces = tuple(pieces)
        self._ends = list(itertools.accumulate(len(piece) for piece in pieces))
        self.shape: tuple[int, ...] = (int(self._ends[-1]), *pieces[0].shape[1:])
        self.dtype = pieces[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        if not isinstance(key, slice):
            place = range(len(self))[key]
            number = bisect.bisect_right(self._ends, place)
            return self._pieces[number][place - self._ends[number]]
        wanted = range(len(self))[key]
        if not wanted:
            return self._pieces[0][:0]
        low, high = min(wanted[0], wanted[-1]), max(wanted[0], wanted[-1]) + 1
        parts = []
        for piece, end in zip(self._pieces, self._ends, strict=True):
            start = end - len(piece)
            if start < high and low < end:
                parts.append(piece[max(low - start, 0) : high - start])
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined[:: wanted.step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a stack in several pieces cannot become one array without a copy")
        return np.concatenate([piece[:] for piece in self._pieces]).astype(dtype or self.dtype, copy=False)


class Widened:
    """A stack of bfloat16 numbers, given by their bits ``(S, *shape)``; what is sliced from it is float32."""

    dtype = np.dtype(np.float32)

    def __init__(self, bits: Array) -> None:
        self._bits = bits
        self.shape = bits.shape

    def __len__(self) -> int:
        return len(self._bits)

    def __getitem__(self, key: int | slice) -> Any:
        return unpacked(self._bits[key])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("bfloat16 numbers cannot become an array without a copy")
        values: Array = self[:].astype(dtype or self.dtype, copy=False)
        return values


@dataclass
class Trajectory:
    """A run: ``epochs`` (S,) int64 from 0 on, strictly increasing; ``loss`` (E, batches) where E is the last epoch.

    ``params`` maps canonical names to stacks ``(S, *shape)``, ``metrics`` names to (S,) float64. ``meta`` is what
    ``trajectory.json`` says. ``steps`` is what a deep recording holds, without the ``steps/`` of its names.
    """

    meta: dict[str, Any]
    epochs: Array
    loss: Array
    params: Mapping[str, Stack]
    metrics: dict[str, Array]
    steps: Mapping[str, Array] = field(default_factory=dict)

    def until(self, epoch: int) -> Trajectory:
        """The run as it stood after ``epoch`` epochs."""
        snapshots = int(np.searchsorted(self.epochs, epoch, "right"))
        return Trajectory(
            {**self.meta, "batch_order": None},
            self.epochs[:snapshots],
            self.loss[:epoch],
            {name: values[:snapshots] for name, values in self.params.items()},
            {name: values[:snapshots] for name, values in self.metrics.items()},
            self.steps,
        )


def gather(chunks: Iterable[Chunk], meta: Mapping[str, Any] | None = None) -> Trajectory:
    """A whole run in memory, from what ``parity.trainer.record`` yields. ValueError where chunks do not join."""
    kept: list[Chunk] = []
    for chunk in chunks:
        _check_chunk(chunk, kept[-1] if kept else None)
        kept.append(chunk)
    if not kept:
        raise ValueError("a trajectory needs at least the snapshot of epoch 0")
    whole = _merge(kept)
    return Trajectory(dict(meta or {}), whole.epochs, whole.losses, whole.params, whole.metrics)


def batch_order_hash(schedule: Schedule, rows: int, epochs: int) -> str:
    """SHA-256, in hex, of the rows in every batch of the first ``epochs`` epochs.

    The hash of the epochs' own digests; an epoch's digest is over each batch's length and its row indices, all as
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
    """One epoch's digest in ``batch_order_hash``."""
    epoch = hashlib.sha256()
    for batch in batches:
        epoch.update(len(batch).to_bytes(8, "little"))
        epoch.update(np.asarray(batch, "<i8").tobytes())
    return epoch.digest()


# Writing


def partial_path(folder: str | os.PathLike[str]) -> Path:
    """Where a run that is to end in ``folder`` is written until it is complete."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.partial")


def failure_path(folder: Path) -> Path:
    """Where it is kept why the last attempt at a run failed: what an earlier one left there is not its result."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.failed")


def keep_failure(folder: Path, reason: str) -> None:
    """Leave why a run failed, or take that away where ``reason`` is "" because it did not."""
    path = failure_path(folder)
    if reason:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason, encoding="utf-8", errors="backslashreplace")
    else:
        path.unlink(missing_ok=True)


def kept_failure(folder: Path) -> str:
    """Why the last attempt at a run failed; "" where it did not."""
    try:
        with failure_path(folder).open("rb") as file:
            return " ".join(file.read(4096).decode(errors="replace").split())
    except OSError:
        return ""


class Writer:
    """Writes a run to ``folder``, a chunk at a time; a context manager.

    Shards go to ``partial_path(folder)``, each whole, and ``trajectory.json`` there names those that are. Small
    chunks wait in memory until they make a shard of ``SHARD_BYTES`` or are ``SHARD_SECONDS`` old. ``finish`` puts
    the folder in its place; an earlier result stays as it was until then. Leaving the context finishes, or, on an
    exception, writes out what waits and leaves an incomplete trajectory where it is. A new writer for the same
    folder begins anew. TrajectoryError where the folder holds something else, or ``meta`` what readers refuse.

    ``state`` gives the state after the last chunk, or None where that cannot be had exactly: it is kept with the
    shards. With ``resume`` a writer takes over what another left under the same ``meta["key"]``; ``start`` is the
    epoch and ``resumed`` the state to go on from, 0 and None where there was nothing to take over.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        meta: Mapping[str, Any],
        state: Callable[[], State | None] = lambda: None,
        resume: bool = False,
    ) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.partial = partial_path(folder)
        self._old = self.folder.with_name(f".{self.folder.name}.old")
        self._meta = dict(meta)
        _check_optional(self._meta, self.folder)
        json.dumps(self._meta, allow_nan=False)
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MANIFEST).exists():
            raise TrajectoryError(f"{self.folder}: holds other things than a trajectory: choose another folder")
        self._shards: list[dict[str, Any]] = []
        self._waiting: list[Chunk] = []
        self._steps: dict[str, Array] = {}
        self._bytes, self._since = 0, 0.0
        self._last: Chunk | None = None
        self._finished = False
        self._state = state
        self.start = 0
        self.resumed: State | None = None
        if self._old.exists() and not self.folder.exists():
            os.rename(self._old, self.folder)
        _remove(self._old)
        if resume:
            self._take_over()
        if self.resumed is None:
            self._shards, self._last = [], None
            _remove(self.partial)
            self.partial.mkdir(parents=True)

    def add(self, chunk: Chunk, steps: Mapping[str, Array] | None = None) -> None:
        """Take one chunk, and what was recorded of its ``steps``.

        ValueError where it does not follow the one before or cannot be stored.
        """
        if self._finished:
            raise ValueError(f"{self.folder} is finished: nothing can be added")
        self.check(chunk)
        check_steps(steps or {})
        if not self._waiting:
            self._since = time.monotonic()
        self._waiting.append(chunk)
        self._last = chunk
        self._steps |= steps or {}
        new = (chunk.losses, *chunk.params.values(), *(steps or {}).values())
        self._bytes += sum(value.nbytes for value in new)
        if self._bytes >= SHARD_BYTES or time.monotonic() - self._since >= SHARD_SECONDS:
            self.flush()
            epoch, key = int(chunk.epochs[-1]), self._meta.get("key")
            state = self._state()
            if epoch and key is not None and state is not None:
                packed = checkpoint.pack(state, epoch, key)
                _write_atomically(self.partial / checkpoint.FILE, packed)

    def check(self, chunk: Chunk) -> None:
        """ValueError where a chunk does not follow the one before or cannot be stored."""
        _check_chunk(chunk, self._last)
        self._check_storable(chunk)

    def flush(self) -> None:
        """Write what waits as a shard."""
        if self._waiting:
            self._write_shard()
            self._write_manifest(complete=False)

    def finish(self, **meta: Any) -> None:
        """Complete the trajectory, with ``meta`` added to what it says of itself, and put it in its place."""
        _check_optional(meta, self.folder)
        self._meta |= meta
        if self._waiting:
            self._write_shard()
        if not self._shards:
            raise ValueError(f"{self.folder}: a trajectory needs at least the snapshot of epoch 0")
        self._write_manifest(complete=True)
        if self.folder.exists():
            os.rename(self.folder, self._old)
        os.rename(self.partial, self.folder)
        self._finished = True
        (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        _remove(self._old)
        keep_failure(self.folder, "")

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished:
            return
        if kind is None:
            self.finish()
            return
        self.flush()
        if self._shards:
            self._write_manifest(complete=False)

    def _take_over(self) -> None:
        found = checkpoint.unpack(self.partial / checkpoint.FILE, self._meta["key"])
        if found is None:
            return
        epoch, state = found
        try:
            # A shard may have been written after the last checkpoint: its epochs are trained again.
            shards = read_manifest(self.partial)["shards"]
            self._shards = [shard for shard in shards if shard.get("last_epoch", epoch + 1) <= epoch]
            self._write_manifest(complete=False)
            run = read(self.partial, partial=True)
        except (OSError, TrajectoryError):
            return
        if run.epochs[-1] != epoch:
            return
        for file in self.partial.glob("*.safetensors"):
            if file.name not in (checkpoint.FILE, *(shard["file"] for shard in self._shards)):
                file.unlink()
        last = slice(len(run.epochs) - 1, None)
        params = {name: values[last] for name, values in run.params.items()}
        metrics = {name: values[last] for name, values in run.metrics.items()}
        self._last = Chunk(run.epochs[last], run.loss[-1:], params, metrics)
        self.start, self.resumed = epoch, state

    def _check_storable(self, chunk: Chunk) -> None:
        dtypes = {value.dtype.name for value in chunk.params.values()}
        declared = self._meta.setdefault("dtype", min(dtypes))
        if declared not in FLOATS or dtypes != {carrier(declared).name}:
            raise ValueError(f"parameters are {', '.join(sorted(dtypes))} where the run declares {declared!r}")
        if len(chunk.losses) and chunk.losses.dtype.name not in FLOATS:
            raise ValueError(f"losses are {chunk.losses.dtype.name}: only {', '.join(FLOATS)} can be stored")
        if declared == "bfloat16":
            for name, value in {"loss": chunk.losses, **chunk.params}.items():
                try:
                    packed(value)
                except ValueError as error:
                    raise ValueError(f"{name} cannot be stored as the run declares: {error}") from error
        for name in (*chunk.params, *chunk.metrics):
            if not _TENSOR.fullmatch(f"params/{name}"):
                raise ValueError(f"{name!r} is no tensor name: {NAMES}")

    def _write_shard(self) -> None:
        """Write what waits as a shard, which ``trajectory.json`` does not name yet."""
        whole = _merge(self._waiting)
        tensors = {"epochs": whole.epochs.astype(np.int64, copy=False)}
        dtype = self._meta["dtype"]
        tensors["loss"] = whole.losses if len(whole.losses) else np.zeros((0, 0), carrier(dtype))
        tensors |= {f"params/{name}": value for name, value in whole.params.items()}
        tensors |= {f"metrics/{name}": value.astype(np.float64, copy=False) for name, value in whole.metrics.items()}
        tensors |= {f"steps/{name}": value for name, value in self._steps.items()}
        halves = [name for name in tensors if dtype == "bfloat16" and name.startswith(("loss", "params/"))]
        tensors |= {name: packed(tensors[name]) for name in halves}
        data = _as_bfloat16(save({name: np.asarray(value, order="C") for name, value in tensors.items()}), halves)
        if int.from_bytes(data[:8], "little") > HEADER_BYTES:
            raise ValueError(
                f"{len(tensors)} tensors in one shard could not be read again: record fewer updates deeply"
            )
        name = f"{len(self._shards):05d}.safetensors"
        _write_atomically(self.partial / name, data)
        shard = {
            "file": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "bytes": len(data),
            "first_epoch": int(whole.epochs[0]),
            "last_epoch": int(whole.epochs[-1]),
        }
        # Together, so that an interrupt finds the chunks either waiting or written.
        self._shards, self._waiting, self._steps, self._bytes = [*self._shards, shard], [], {}, 0

    def _write_manifest(self, complete: bool) -> None:
        first = {"schema": SCHEMA, "version": VERSION, "complete": complete}
        meta = {key: value for key, value in self._meta.items() if key not in (*first, "shards")}
        text = json.dumps({**first, **meta, "shards": self._shards}, indent=1, allow_nan=False)
        _write_atomically(self.partial / MANIFEST, text.encode())


def write(
    folder: str | os.PathLike[str],
    epochs: Array,
    loss: Array,
    params: Mapping[str, Stack],
    metrics: Mapping[str, Array] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> None:
    """Write a whole run from arrays or stacks. Shapes as in ``Trajectory``; ValueError where they do not fit."""
    epochs, metrics = np.asarray(epochs), metrics or {}
    lengths = {len(value) for value in (epochs, *params.values(), *metrics.values())}
    if len(lengths) != 1:
        raise ValueError(f"epochs, parameters and metrics have different numbers of snapshots: {sorted(lengths)}")
    if len(epochs) and len(loss) != epochs[-1]:
        raise ValueError(f"the loss has {len(loss)} rows where {epochs[-1]} epochs were trained")
    each = sum(math.prod(value.shape[1:]) * value.dtype.itemsize for value in params.values())
    step = max(1, SHARD_BYTES // max(1, each))
    done = 0
    with Writer(folder, meta or {}) as writer:
        for start in range(0, len(epochs), step):
            part = slice(start, start + step)
            end = int(epochs[part][-1])
            writer.add(
                Chunk(
                    epochs[part],
                    loss[done:end],
                    {name: value[part] for name, value in params.items()},
                    {name: value[part] for name, value in metrics.items()},
                )
            )
            done = end


def _check_optional(meta: Mapping[str, Any], where: Path) -> None:
    """TrajectoryError unless what ``meta`` says beyond the necessary has the types that readers expect."""
    for key, kinds in OPTIONAL.items():
        if key in meta and type(meta[key]) not in kinds:
            wanted = " or ".join("null" if kind is type(None) else kind.__name__ for kind in kinds)
            raise TrajectoryError(f"{where}: {key} must be {wanted}, not {meta[key]!r:.80}")
    if not all(isinstance(value, str) for value in meta.get("versions", {}).values()):
        raise TrajectoryError(f"{where}: versions must map names to texts")
    order = meta.get("batch_order")
    if order is not None and not _SHA256.fullmatch(order):
        raise TrajectoryError(f"{where}: batch_order must be 64 lower-case hexadecimal digits")


def check_steps(steps: Mapping[str, Array]) -> None:
    """ValueError where what is recorded of steps could not be read again."""
    for name, value in steps.items():
        if not _TENSOR.fullmatch(f"steps/{name}") or value.dtype not in _DTYPES.values():
            raise ValueError(f"{name} cannot be kept as {value.dtype} under that name: {NAMES}")


def _check_chunk(chunk: Chunk, before: Chunk | None) -> None:
    """ValueError unless ``chunk`` is whole and follows ``before``; None stands for the beginning of a run."""
    epochs = np.asarray(chunk.epochs)
    if epochs.ndim != 1 or not len(epochs) or epochs.dtype.kind != "i":
        raise ValueError("a chunk holds at least one snapshot, and its epochs are integers in one dimension")
    if before is None and epochs[0] != 0:
        raise ValueError(f"a trajectory begins at epoch 0, not at {epochs[0]}")
    last = 0 if before is None else int(before.epochs[-1])
    if (np.diff(epochs) <= 0).any() or (before is not None and epochs[0] <= last):
        raise ValueError(f"epochs must increase: {epochs.tolist()[:5]} after {last}")
    if chunk.losses.ndim != 2 or len(chunk.losses) != epochs[-1] - last:
        raise ValueError(f"losses have shape {chunk.losses.shape} where {epochs[-1] - last} epochs were trained")
    if len(chunk.losses) and not chunk.losses.shape[1]:
        raise ValueError("losses hold no batch")
    if not chunk.params:
        raise ValueError("a chunk without parameters says nothing")
    for name, value in (*chunk.params.items(), *chunk.metrics.items()):
        if not value.shape or len(value) != len(epochs):
            raise ValueError(f"{name} has shape {value.shape} where the chunk holds {len(epochs)} snapshots")
    if any(value.ndim != 1 for value in chunk.metrics.values()):
        raise ValueError("a metric is one number a snapshot")
    if before is None:
        return
    for what, ours, theirs in (
        ("parameters", chunk.params.keys(), before.params.keys()),
        ("metrics", chunk.metrics.keys(), before.metrics.keys()),
    ):
        if other := sorted(ours ^ theirs):
            raise ValueError(f"{what} are not those of the snapshot before: {other[0]} is in one of them alone")
    for name, value in chunk.params.items():
        if value.shape[1:] != before.params[name].shape[1:] or value.dtype != before.params[name].dtype:
            raise ValueError(f"{name} has another shape or dtype than in the chunk before")
    if len(before.losses) and (
        chunk.losses.shape[1] != before.losses.shape[1] or chunk.losses.dtype != before.losses.dtype
    ):
        raise ValueError("losses have another number of batches or another dtype than in the chunk before")


def _merge(chunks: Sequence[Chunk]) -> Chunk:
    """One chunk of several that follow each other."""
    if len(chunks) == 1:
        return chunks[0]
    first = chunks[0]
    losses = [chunk.losses for chunk in chunks if len(chunk.losses)]
    return Chunk(
        np.concatenate([chunk.epochs for chunk in chunks]),
        np.concatenate(losses) if losses else first.losses,
        {name: np.concatenate([chunk.params[name] for chunk in chunks]) for name in first.params},
        {name: np.concatenate([chunk.metrics[name] for chunk in chunks]) for name in first.metrics},
    )


def _as_bfloat16(data: bytes, names: Sequence[str]) -> bytes:
    """A safetensors file in which the named tensors, of two-byte integers, are said to be bfloat16.

    safetensors can write the type, but takes it from NumPy, which has none.
    """
    if not names:
        return data
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    for name in names:
        header[name]["dtype"] = "BF16"
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _write_atomically(path: Path, data: bytes) -> None:
    """Put a file in its place whole: a reader sees the old one or the new one, after a power cut too.

    TrajectoryError where the folder was taken away, as another writer to the same place does.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except FileNotFoundError as error:
        raise TrajectoryError(
            f"{path.parent} was taken away while this run was written there: let no other run write to the same "
            "folder, and record it again"
        ) from error


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


# Reading


def read(folder: str | os.PathLike[str], partial: bool = False) -> Trajectory:
    """Read a trajectory. Parameters stay on disk, mapped, until they are sliced; checksums are taken in a stream.

    An incomplete one is read only where ``partial`` is true. Values that are not finite are no defect here.
    TrajectoryError says what is wrong, in which file, and what to do.
    """
    folder = Path(folder)
    try:
        meta = read_manifest(folder)
        if not meta["complete"] and not partial:
            raise TrajectoryError(
                f"{folder}: this run was not finished: run it again, or read what there is of it in Python, with "
                "parity.trajectory.read(folder, partial=True)"
            )
        if not meta["shards"]:
            raise TrajectoryError(f"{folder / MANIFEST}: names no shard: record the run again")
        # Most of the time goes into checksums, which run beside each other.
        with ThreadPoolExecutor() as pool:
            shards = list(pool.map(lambda entry: _read_shard(folder, entry, meta["dtype"]), meta["shards"]))
    except OSError as error:
        # One line, whatever the file name holds.
        raise TrajectoryError(f"{str(error.filename or folder)!r}: cannot be read: {error.strerror}") from error
    _check_sequence(folder, meta, shards)
    names = list(shards[0])
    stacks = {name: [shard[name] for shard in shards] for name in names if name.startswith(("params/", "metrics/"))}
    losses = [shard["loss"] for shard in shards if len(shard["loss"])]
    return Trajectory(
        meta,
        np.concatenate([shard["epochs"] for shard in shards]),
        np.concatenate(losses) if losses else shards[0]["loss"],
        {
            name.removeprefix("params/"): pieces[0] if len(pieces) == 1 else Shards(pieces)
            for name, pieces in stacks.items()
            if name.startswith("params/")
        },
        {
            name.removeprefix("metrics/"): np.concatenate(pieces)
            for name, pieces in stacks.items()
            if name.startswith("metrics/")
        },
        {
            name.removeprefix("steps/"): value
            for shard in shards
            for name, value in shard.items()
            if name.startswith("steps/")
        },
    )


def _inside(folder: Path, name: str) -> Path:
    """The path of a regular file in ``folder``; links must not lead out of it."""
    path = folder / name
    try:
        target, root = path.resolve(), folder.resolve()
    except RuntimeError as error:
        raise TrajectoryError(f"{path}: is a link that leads back to itself: replace it by the file") from error
    if not target.is_relative_to(root):
        raise TrajectoryError(f"{path}: is a link that leaves the folder: replace it by the file")
    if not target.is_file():
        there = "is no regular file" if target.exists() else "is missing"
        hint = "copy the folder whole or record the run again"
        if name == MANIFEST and (partial_path(folder) / MANIFEST).is_file():
            hint = f"a run that was not finished is in {partial_path(folder)}"
        raise TrajectoryError(f"{path}: {there}: {hint}")
    return target


def superseded(folder: Path, run: Trajectory) -> bool:
    """Whether beside a finished run lies the beginning of another one: of other code or settings, for all one knows."""
    newer, key = partial_path(folder), run.meta.get("key")
    try:
        return newer.exists() and (read(newer, partial=True).meta.get("key") != key or key is None)
    except TrajectoryError:
        return False  # Nothing of it was recorded yet.


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _parse(data: bytes, where: Path | str) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        what = "too deeply nested" if isinstance(error, RecursionError) else error
        raise TrajectoryError(f"{where}: is no valid JSON ({what}): record the run again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """What ``trajectory.json`` says, checked; TrajectoryError where it says what it must not, or not what it must."""
    path = folder / MANIFEST
    with open(_inside(folder, MANIFEST), "rb") as file:
        data = file.read(MANIFEST_BYTES + 1)
    if len(data) > MANIFEST_BYTES:
        raise TrajectoryError(f"{path}: is larger than {MANIFEST_BYTES >> 20} MiB: this is no trajectory of ours")
    meta = _parse(data, path)

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}")

    if not isinstance(meta, dict):
        raise TrajectoryError(f"{path}: must hold a JSON object")
    require(meta.get("schema") == SCHEMA, f"schema must be {SCHEMA!r}, not {meta.get('schema')!r:.80}")
    version = meta.get("version")
    require(type(version) is int, f"version must be an integer, not {version!r:.80}")
    require(version == VERSION, f"is version {version!s:.20} of the format, this program reads {VERSION}: update it")
    require(type(meta.get("complete")) is bool, "complete must be true or false")
    dtype = meta.get("dtype")
    require(isinstance(dtype, str) and dtype in FLOATS, f"dtype must be {' or '.join(FLOATS)}, not {dtype!r:.80}")
    _check_optional(meta, path)
    require(isinstance(meta.get("shards"), list), "shards must be a list")
    for entry in meta["shards"]:
        require(isinstance(entry, dict), "each shard must be an object with file and sha256")
        name, checksum = entry.get("file"), entry.get("sha256")
        good = isinstance(name, str) and bool(_FILE.fullmatch(name))
        require(good, f"shard file {name!r:.80} must be a plain name that ends in .safetensors, in this folder")
        good = isinstance(checksum, str) and bool(_SHA256.fullmatch(checksum))
        require(good, f"the sha256 of {name} must be 64 lower-case hexadecimal digits")
        for key in SHARD_OPTIONAL:
            good = type(entry.get(key, 0)) is int and entry.get(key, 0) >= 0
            require(good, f"{key} of {name} must be an integer from 0 on")
    return meta


def _read_shard(folder: Path, entry: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Map one shard: its tensors by name, each checked by itself."""
    path = folder / entry["file"]
    target = _inside(folder, entry["file"])

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}: copy the file anew or record the run again")

    with open(target, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        expected = entry.get("bytes", size)
        require(size == expected, f"has {size} bytes where {MANIFEST} says {expected}")
        require(size > 8, "is too short for a safetensors file")
        require(hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"], "does not match its checksum")
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[:8], "little")
    require(length <= HEADER_BYTES, f"its header claims {length} bytes, more than {HEADER_BYTES >> 20} MiB")
    try:
        # Types, bounds, gaps and overlaps are safetensors' own rules. Its arrays are copies, hence the map.
        with safe_open(target, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is no valid safetensors file ({reason:.200}): record the run again") from error
    header = _parse(mapped[8 : 8 + length], path)

    tensors = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        require(bool(_TENSOR.fullmatch(name)), f"tensor name {name!r:.80} is not one of this format's")
        code, shape = tensor["dtype"], tensor["shape"]
        group = name.split("/", 1)[0]
        wanted = {"epochs": ("I64",), "metrics": ("F64",), "params": (FLOATS[dtype],), "slots": (FLOATS[dtype],)}
        allowed = wanted.get(group, tuple(FLOATS.values()) if group == "loss" else tuple(_DTYPES))
        require(code in allowed, f"{name} is {code}, it must be {' or '.join(allowed)}")
        try:
            tensors[name] = np.ndarray(shape, _DTYPES[code], mapped, 8 + length + tensor["data_offsets"][0])
        except (ValueError, OverflowError, TypeError) as error:
            raise TrajectoryError(f"{path}: {name} has the impossible shape {shape!s:.80}") from error
    _check_shard(tensors, require)
    halves = {name: Widened(value) for name, value in tensors.items() if header[name]["dtype"] == "BF16"}
    # Only parameters are large enough to stay on disk.
    return tensors | {name: value if name.startswith("params/") else value[:] for name, value in halves.items()}


def _check_shard(tensors: Mapping[str, Array], require: Any) -> None:
    for name, axes in (("epochs", 1), ("loss", 2)):
        require(name in tensors, f"has no {name!r}")
        require(tensors[name].ndim == axes, f"{name} must have {axes} axes, not {tensors[name].ndim}")
    require(any(name.startswith("params/") for name in tensors), "has no 'params/...'")
    snapshots = len(tensors["epochs"])
    require(snapshots > 0, "holds no snapshot")
    for name, value in tensors.items():
        if name.startswith(("params/", "slots/", "metrics/")):
            good = value.ndim > 0 and len(value) == snapshots
            require(good, f"{name} has shape {value.shape} where there are {snapshots} epochs")
            require(value.ndim == 1 or not name.startswith("metrics/"), f"{name} must be one number a snapshot")


def _check_sequence(folder: Path, meta: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> None:
    """That the shards, each sound in itself, make one run."""
    last, batches = 0, None

    def per_snapshot(shard: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        return {name: value.shape[1:] for name, value in shard.items() if "/" in name and not name.startswith("steps/")}

    for number, (entry, shard) in enumerate(zip(meta["shards"], shards, strict=True)):

        def require(holds: bool, what: str, file: str = entry["file"]) -> None:
            if not holds:
                raise TrajectoryError(f"{folder / file}: {what}: record the run again")

        epochs, loss = shard["epochs"], shard["loss"]
        first, final = int(epochs[0]), int(epochs[-1])
        if number == 0:
            require(first == 0, f"the first snapshot is of epoch {first}, a trajectory begins at 0")
        else:
            require(first > last, f"begins at epoch {first} where the shard before ends at {last}")
        require(bool((epochs[1:] > epochs[:-1]).all()), "epochs do not increase")
        claimed = entry.get("first_epoch", first), entry.get("last_epoch", final)
        require(claimed == (first, final), f"holds epochs {first} to {final} where {MANIFEST} says otherwise")
        trained = final - last
        require(len(loss) == trained, f"loss has {len(loss)} rows where {trained} epochs were trained")
        if trained:
            require(loss.shape[1] > 0, "loss holds no batch")
            batches = batches or (loss.shape[1], loss.dtype)
            require(batches == (loss.shape[1], loss.dtype), "loss has another width or dtype than in the shard before")
        require(
            per_snapshot(shard) == per_snapshot(shards[0]), "tensors or shapes differ from those of the first shard"
        )
        last = final
