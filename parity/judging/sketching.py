"""A checkpoint sketched as it is read: once, in blocks, several tensors at a time."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np

from parity.dtypes import packed
from parity.judging.checkpoints import Begin, unwatched
from parity.judging.streamed import BYTES, THREADS, Progress, numbers_of
from parity.recording.artefacts import Artefact
from parity.recording.artefacts.artefact import Entry
from parity.recording.artefacts.sketched import Sketch, Sketched
from parity.recording.limits import Budget
from parity.recording.placed import Placed, blocks_of, size_of
from parity.recording.projected import BUCKETS, ROWS, Projection
from parity.trajectory import TrajectoryError
from parity.typing import Array


def sketch_of(artefact: Artefact, budget: Budget, begin: Begin = unwatched) -> Sketch:
    """Sketch a checkpoint's tensors; not the optimizer's state.

    Args:
        artefact: The checkpoint.
        budget: What its reading took, which streams.
        begin: Is told how many bytes will be read.

    Returns:
        The sketch, which does not depend on the format of the file, nor on the blocks in which it is read.

    Raises:
        TrajectoryError: If it holds no tensor of a model, a file was changed meanwhile, or holds less than it claims.
    """
    entries = artefact.tensors.entries
    if not entries:
        raise TrajectoryError(f"{artefact.path}: holds no tensor of a model: name a checkpoint")
    places = {name: entry.placed() for name, entry in entries.items()}
    size = sum(map(size_of, places.values()))
    budget.check_streamed(artefact.path, size)
    progress, stopped = begin(size), Event()
    # A hash is made in order, so a tensor is one thread's. The largest come first, or they would be waited for.
    order = sorted(entries, key=lambda name: size_of(places[name]), reverse=True)
    with ThreadPoolExecutor(THREADS) as pool:
        made = {name: pool.submit(_sketched, name, entries[name], places[name], progress, stopped) for name in order}
        try:
            found = {name: made[name].result() for name in entries}
        except BaseException:  # an error of one thread, or Ctrl-C: the others are to end soon, too
            stopped.set()
            raise
    for file in {file for place in places.values() for file in place.files()}:
        file.end()
    return Sketch(found, artefact.notes)


def _sketched(name: str, entry: Entry, place: Placed, progress: Progress, stopped: Event) -> Sketched:
    floats = entry.dtype.kind == "f"
    digest, projection, largest, nonfinite = hashlib.sha256(), Projection(), 0.0, 0
    out = np.empty(BYTES // place.dtype.itemsize, place.dtype)
    with np.errstate(all="ignore"):
        for block in blocks_of(place.shape, out.size):
            if stopped.is_set():
                break
            read = out[: block.size]
            place.read(block, read)
            numbers = numbers_of(read, place.narrow)
            digest.update(_stored(packed(numbers) if entry.narrow and not place.narrow else read))
            values = numbers.astype(np.float64)
            most = float(np.abs(values).max())
            if not np.isfinite(most):
                odd = ~np.isfinite(values)
                nonfinite += int(odd.sum())
                values[odd] = 0
                most = float(np.abs(values).max())
            largest = max(largest, most)
            if floats:
                projection.add(values)
            progress(read.nbytes, name)
    rows = projection.finished() if floats else np.zeros((ROWS, BUCKETS))
    dtype = "bfloat16" if entry.narrow else entry.dtype.name
    return Sketched(dtype, entry.shape, digest.digest(), largest, nonfinite, rows)


def _stored(values: Array) -> memoryview:
    """The bytes of numbers as they are hashed."""
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return memoryview(little.view(np.uint8))  # type: ignore[arg-type] # NumPy's arrays are buffers
