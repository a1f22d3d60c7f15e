"""Read a run from its folder, and check everything in it before use."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.format import MANIFEST
from parity.recording.limits import Budget
from parity.recording.manifest import read_manifest
from parity.recording.mapped import Steps
from parity.recording.places import partial_path
from parity.recording.shard import Shard, read_shard
from parity.trajectory import Shards, Trajectory, TrajectoryError

AHEAD = 4
"""So many shards are read ahead of the one that is looked at."""
FEW = 1 << 20
"""Shards of fewer bytes in all are read before threads would have started."""


def read(folder: str | os.PathLike[str], partial: bool = False, budget: Budget | None = None) -> Trajectory:
    """Read a recorded run from its folder, whoever wrote it.

    Nothing in the folder is trusted: names, shapes and checksums are checked, and nothing is unpickled. Parameters stay
    on disk until they are sliced. Values that are not finite are no defect here. A reading takes at most 4 GiB of
    shards, a million tensors and two minutes; ``PARITY_LIMITS=4`` in the environment allows four times as much.

    Args:
        folder: The folder that holds ``trajectory.json``.
        partial: Whether to read a run that was not finished.
        budget: What several readings may take together, if this is one of them.

    Returns:
        The run, with parameters in the declared dtype, bfloat16 in float32.

    Raises:
        TrajectoryError: If anything is missing, damaged or not of the format. The message names the file and says what
            to do.

    Examples:
        >>> import numpy as np
        >>> from parity import Recorder, read
        >>> with Recorder("runs/one", "float32") as run:
        ...     run.snapshot({"dense/bias": np.zeros(3, np.float32)})
        >>> read("runs/one").params["dense/bias"].shape
        (1, 3)
    """
    folder, budget = Path(folder), Budget(within=budget)
    try:
        meta = read_manifest(folder)
        if not meta["complete"] and not partial:
            raise TrajectoryError(
                f"{folder}: this run was not finished: run it again, or read what there is of it in Python, with "
                "parity.read(folder, partial=True)"
            )
        if not meta["shards"]:
            raise TrajectoryError(f"{folder / MANIFEST}: names no shard: record the run again")
        with budget.reading():
            shards = list(_in_sequence(folder, meta, budget))
    except OSError as error:
        # As a literal, so that any file name leaves the message on one line.
        raise TrajectoryError(f"{str(error.filename or folder)!r}: cannot be read: {error.strerror}") from error
    stretches = [shard for shard in shards if len(shard.epochs)]
    losses = [shard.loss for shard in stretches if len(shard.loss)]
    return Trajectory(
        meta,
        np.concatenate([shard.epochs for shard in stretches]),
        np.concatenate(losses) if losses else stretches[0].loss,
        {name: Shards([shard.params[name] for shard in stretches]) for name in stretches[0].params},
        {name: np.concatenate([shard.metrics[name] for shard in stretches]) for name in stretches[0].metrics},
        Steps({name: stored for shard in shards for name, stored in shard.steps.items()}),
    )


def _in_sequence(folder: Path, meta: Mapping[str, Any], budget: Budget) -> Iterator[Shard]:
    """Read the shards in order. The first that does not follow the one before ends the reading: TrajectoryError."""
    first, last, batches = None, 0, None
    entries = meta["shards"]
    for entry, shard in zip(entries, _read_ahead(folder, entries, meta["dtype"], budget), strict=True):
        batches = _check_follows(folder / entry["file"], entry, shard, first, last, batches)
        first, last = first or shard, int(shard.epochs[-1]) if len(shard.epochs) else last
        yield shard


def _read_ahead(folder: Path, entries: Sequence[Mapping[str, Any]], dtype: str, budget: Budget) -> Iterator[Shard]:
    """Read each shard, several threads a few ahead of the one that is looked at: checksums take most of the time."""
    if sum(entry.get("bytes", FEW) for entry in entries) < FEW:
        yield from (read_shard(folder, entry, dtype, budget) for entry in entries)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        waiting: deque[Future[Shard]] = deque()
        try:
            for entry in entries:
                waiting.append(pool.submit(read_shard, folder, entry, dtype, budget))
                if len(waiting) == AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _check_follows(
    path: Path,
    entry: Mapping[str, Any],
    shard: Shard,
    first: Shard | None,
    last: int,
    batches: tuple[int, np.dtype[Any]] | None,
) -> tuple[int, np.dtype[Any]] | None:
    """Refuse a shard that is sound in itself and does not follow the one before it: TrajectoryError.

    ``first`` is the run's first shard, None for itself; ``last`` the last epoch before, ``batches`` the width and the
    dtype of the losses so far. Returns those with this shard.
    """

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}: record the run again")

    epochs, loss = shard.epochs, shard.loss
    if not len(epochs):
        require(first is not None, "the first shard holds no snapshot, a trajectory begins with one")
        require(not len(loss), "loss has rows where no epoch was trained")
        require(not {"first_epoch", "last_epoch"} & entry.keys(), f"holds no epoch where {MANIFEST} says otherwise")
        return batches
    begin, end = int(epochs[0]), int(epochs[-1])
    if first is None:
        require(begin == 0, f"the first snapshot is of epoch {begin}, a trajectory begins at 0")
    else:
        require(begin > last, f"begins at epoch {begin} where the shard before ends at {last}")
    require(bool((epochs[1:] > epochs[:-1]).all()), "epochs do not increase")
    claimed = entry.get("first_epoch", begin), entry.get("last_epoch", end)
    require(claimed == (begin, end), f"holds epochs {begin} to {end} where {MANIFEST} says otherwise")
    trained = end - last
    require(len(loss) == trained, f"loss has {len(loss)} rows where {trained} epochs were trained")
    if trained:
        require(loss.shape[1] > 0, "loss holds no batch")
        batches = batches or (loss.shape[1], loss.dtype)
        require(batches == (loss.shape[1], loss.dtype), "loss has another width or dtype than in the shard before")
    same = first is None or shard.shapes == first.shapes
    require(same, "tensors or shapes differ from those of the first shard")
    return batches


def superseded(folder: Path, run: Trajectory) -> bool:
    """Say whether a newer run was begun beside a finished one, from other code or settings as far as one can tell."""
    newer, key = partial_path(folder), run.meta.get("key")
    try:
        return newer.exists() and (read_manifest(newer).get("key") != key or key is None)
    except TrajectoryError:
        return False  # No snapshot of it was recorded yet.
