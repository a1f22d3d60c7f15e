"""Write a run to its folder, a chunk at a time, so that a reader sees it whole or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from parity.dtypes import carrier, packed
from parity.recording import checkpoint
from parity.recording.files import remove, write_pieces, write_whole
from parity.recording.format import (
    FLOATS,
    HEADER_BYTES,
    MANIFEST,
    NAMES,
    SCHEMA,
    TENSOR_NAME,
    VERSION,
    check_optional,
    check_steps,
    made,
)
from parity.recording.manifest import read_manifest
from parity.recording.pieces import pieces_of
from parity.recording.places import keep_failure, old_path, partial_path, put_in_place
from parity.recording.reader import read
from parity.trainer import State
from parity.trajectory import Chunk, Stack, TrajectoryError, check_chunk, merged
from parity.typing import Array

SHARD_BYTES = 8 << 20
SHARD_SECONDS = 5.0
BESIDE_BYTES = 256 << 20
"""A shard of up to so many bytes is written while the run goes on. A larger one is waited for: it is in memory, and the
next would be beside it."""


class Writer:
    """Writes a run to ``folder``, a chunk at a time; a context manager.

    Shards go to ``partial_path(folder)``, where ``trajectory.json`` names only whole ones. Small chunks wait in memory
    until they fill a shard of ``SHARD_BYTES`` or the first of them is ``SHARD_SECONDS`` old. A thread writes a shard of
    updates alone while the run goes on; if it cannot, the error is raised when the next shard is due, or at the end.
    ``finish`` moves the folder to its place; an earlier result stays there until then. Leaving the context calls
    ``finish``. On an exception it writes the waiting chunks instead and leaves the incomplete trajectory in the partial
    folder. A new writer for the same folder discards such a trajectory unless it resumes it. TrajectoryError if the
    folder holds anything but a trajectory, or if readers would refuse ``meta``.

    ``state`` gives the state after the last chunk, or None if the state cannot be stored exactly; it is written beside
    the shards. With ``resume`` a writer continues the trajectory that another writer left under the same
    ``meta["key"]`` and ``meta["depends"]``. ``start`` is the epoch to continue from and ``resumed`` the state there;
    they are 0 and None if there was nothing to continue. ``shapes`` are those of the run's parameters, if they are
    known beforehand: no other state is continued.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        meta: Mapping[str, Any],
        state: Callable[[], State | None] = lambda: None,
        resume: bool = False,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.folder = Path(os.path.abspath(folder))
        self.partial = partial_path(folder)
        self._old = old_path(folder)
        self._meta = dict(meta)
        self._mark = _mark(self._meta)
        check_optional(self._meta, self.folder)
        json.dumps(self._meta, allow_nan=False)  # fails here and not after the first shard was trained
        if self.folder.exists() and any(self.folder.iterdir()) and not (self.folder / MANIFEST).exists():
            raise TrajectoryError(f"{self.folder}: holds other things than a trajectory: choose another folder")
        self._shards: list[dict[str, Any]] = []
        self._waiting: list[Chunk] = []
        self._steps: dict[str, Array] = {}
        self._bytes, self._since = 0, 0.0
        self._thread = ThreadPoolExecutor(1, "parity-writer")
        self._written: tuple[list[Chunk], dict[str, Array], Future[None]] | None = None
        self._last: Chunk | None = None
        self._finished = False
        self._state = state
        # Nothing is written through a link, nor taken away behind one.
        for place in (self.partial, self._old):
            if place.is_symlink():
                place.unlink()
        self.start = 0
        self.resumed: State | None = None
        if self._old.exists() and not self.folder.exists():
            os.rename(self._old, self.folder)
        remove(self._old)
        if resume:
            self._take_over(shapes)
        if self.resumed is None:
            self._shards, self._last = [], None
            remove(self.partial)
            self.partial.mkdir(parents=True)

    def add(self, chunk: Chunk, steps: Mapping[str, Array] | None = None) -> None:
        """Take one chunk, and the ``steps`` that were recorded with it: see ``parity.recording.steps``.

        ValueError if the chunk does not follow the one before or cannot be stored.
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
                _write_atomically(self.partial / checkpoint.FILE, checkpoint.pack(state, epoch, self._mark))

    def add_steps(self, steps: Mapping[str, Array]) -> None:
        """Take what was recorded of updates whose snapshot is still to come, so that it need not wait in memory.

        ValueError if there is no snapshot yet, or the steps cannot be stored.
        """
        if self._finished or self._last is None:
            raise ValueError(f"{self.folder}: updates stand between the snapshots of a run")
        check_steps(steps)
        self._steps |= steps
        self._bytes += sum(value.nbytes for value in steps.values())
        if self._bytes >= BESIDE_BYTES:
            self.flush()
        elif self._bytes >= SHARD_BYTES:
            self._hand_over()

    def check(self, chunk: Chunk) -> None:
        """Refuse a chunk that does not follow the one before or cannot be stored: ValueError."""
        check_chunk(chunk, self._last)
        self._check_storable(chunk)

    def flush(self) -> None:
        """Write the waiting chunks and steps as a shard, and wait for it."""
        self._settle()
        if self._waiting or self._steps:
            self._hand_over()
            self._settle()

    def finish(self, **meta: Any) -> None:
        """Add ``meta`` to the trajectory's own, complete it and move it to its place. ValueError if it has no chunk."""
        check_optional(meta, self.folder)
        self._meta |= meta
        self.flush()
        if not self._shards:
            raise ValueError(f"{self.folder}: a trajectory needs at least the snapshot of epoch 0")
        self._thread.shutdown()
        self._write_manifest(complete=True)
        try:
            put_in_place(self.partial, self.folder)
        finally:
            self._finished = not self.partial.exists()
        (self.folder / checkpoint.FILE).unlink(missing_ok=True)
        keep_failure(self.folder, "")

    @property
    def made(self) -> str:
        """What this writer has made of the run, as ``parity.recording.format.made`` says it of a manifest."""
        return made({**self._meta, "shards": self._shards})

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
        try:
            self.flush()
        finally:
            self._thread.shutdown()
        if self._shards:
            # The exception may have come between a shard and the manifest that names it.
            self._write_manifest(complete=False)

    def _take_over(self, shapes: Mapping[str, tuple[int, ...]] | None) -> None:
        """Continue the trajectory in the partial folder, if it is sound and its checkpoint bears the same key."""
        found = checkpoint.unpack(self.partial / checkpoint.FILE, self._mark, shapes)
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
        # Later shards, and what was left half written.
        kept = {MANIFEST, checkpoint.FILE, *(shard["file"] for shard in self._shards)}
        for file in self.partial.iterdir():
            if file.name not in kept:
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
            if not TENSOR_NAME.fullmatch(f"params/{name}"):
                raise ValueError(f"{name!r} is no tensor name: {NAMES}")

    def _hand_over(self) -> None:
        """Let the thread write what waits; a shard before it is waited for."""
        self._settle()
        chunks, steps = self._waiting, self._steps
        # In one assignment, so that an interrupt finds them either waiting or handed over.
        self._written, self._waiting, self._steps, self._bytes = (
            (chunks, steps, self._thread.submit(self._write, chunks, steps)),
            [],
            {},
            0,
        )

    def _settle(self) -> None:
        """Wait for the shard that is being written. If that failed, its chunks wait again and the error is raised."""
        if self._written is None:
            return
        chunks, steps, written = self._written
        wait([written])  # an interrupt here changes nothing
        self._written, error = None, written.exception()
        if error is not None:
            self._waiting, self._steps = [*chunks, *self._waiting], steps | self._steps
            raise error

    def _write(self, chunks: Sequence[Chunk], steps: Mapping[str, Array]) -> None:
        self._write_shard(chunks, steps)
        self._write_manifest(complete=False)

    def _write_shard(self, chunks: Sequence[Chunk], steps: Mapping[str, Array]) -> None:
        """Write chunks and steps as a shard; ``_write_manifest`` must then name it."""
        dtype = self._meta["dtype"]
        tensors = {"epochs": np.zeros(0, np.int64), "loss": np.zeros((0, 0), carrier(dtype))}
        ends: dict[str, int] = {}
        if chunks:
            whole = merged(chunks)
            tensors["epochs"] = whole.epochs.astype(np.int64, copy=False)
            if len(whole.losses):
                tensors["loss"] = whole.losses
            tensors |= {f"params/{name}": value for name, value in whole.params.items()}
            tensors |= {f"metrics/{name}": each.astype(np.float64, copy=False) for name, each in whole.metrics.items()}
            ends = {"first_epoch": int(whole.epochs[0]), "last_epoch": int(whole.epochs[-1])}
        tensors |= {f"steps/{name}": value for name, value in steps.items()}
        halves = {name for name in tensors if dtype == "bfloat16" and name.startswith(("loss", "params/"))}
        tensors |= {name: packed(tensors[name]) for name in halves}
        header, pieces = pieces_of(tensors, halves)
        if len(header) - 8 > HEADER_BYTES:
            raise ValueError(
                f"{len(tensors)} tensors in one shard could not be read again: record fewer updates deeply"
            )
        name, size, seen = f"{len(self._shards):05d}.safetensors", 0, hashlib.sha256()

        def passing() -> Iterator[bytes | memoryview]:
            nonlocal size
            for piece in itertools.chain[bytes | memoryview]((header,), pieces):
                seen.update(piece)
                size += len(piece)
                yield piece

        _in_its_place(write_pieces, self.partial / name, passing())
        shard = {"file": name, "sha256": seen.hexdigest(), "bytes": size, **ends}
        self._shards = [*self._shards, shard]

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
    """Write a whole run from arrays or stacks, shaped as in ``Trajectory``. ValueError if the shapes do not fit."""
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


def _mark(meta: Mapping[str, Any]) -> str:
    """What a checkpoint bears, so that it is taken by a run of the same key alone that depends on the same files."""
    depends = json.dumps(meta.get("depends"), sort_keys=True)
    return f"{meta.get('key')} {hashlib.sha256(depends.encode()).hexdigest()}"


def _write_atomically(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old file or the new one, even after a power cut."""
    _in_its_place(write_whole, path, data)


def _in_its_place(write: Callable[[Path, Any], None], path: Path, data: Any) -> None:
    """Write a file by one of ``parity.recording.files``.

    TrajectoryError if the folder is gone, as when another writer to the same place removed it.
    """
    try:
        write(path, data)
    except FileNotFoundError as error:
        raise TrajectoryError(
            f"{path.parent} was taken away while this run was written there: let no other run write to the same "
            "folder, and record it again"
        ) from error
