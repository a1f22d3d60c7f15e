"""Made-up runs on disk, and how they are damaged with checksums that fit all the same."""

import contextlib
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from safetensors.numpy import load, save_file

from parity.dtypes import rounded
from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.recording.writer import Writer
from parity.trajectory import Chunk, Trajectory, TrajectoryError

exhaustive = settings(derandomize=True, deadline=None, max_examples=40, database=None)
META = {"case": "made-up", "implementation": "numpy", "device": "cpu", "threads": 1, "versions": {"numpy": "2"}}


def make(snapshots=6, every=1, dtype="float32", batches=3, seed=0) -> Trajectory:
    generator = np.random.default_rng(seed)
    epochs = np.arange(snapshots) * every
    params = {
        "dense/kernel": rounded(generator.normal(size=(snapshots, 4, 2)), dtype),
        "dense/bias": rounded(generator.normal(size=(snapshots, 2)), dtype),
        "scale": rounded(generator.normal(size=snapshots), dtype),
        "empty/kernel": rounded(np.zeros((snapshots, 0, 2)), dtype),
    }
    loss = rounded(generator.normal(size=(int(epochs[-1]), batches if snapshots > 1 else 0)), dtype)
    # Only bfloat16 must be declared: NumPy shows it in float32.
    meta = {**META, "dtype": dtype} if dtype == "bfloat16" else META
    return Trajectory(meta, epochs, loss, params, {"accuracy": generator.normal(size=snapshots)})


def chunks_of(run: Trajectory, cuts) -> list[Chunk]:
    result, done = [], 0
    bounds = [0, *cuts, len(run.epochs)]
    for start, end in itertools.pairwise(bounds):
        last = int(run.epochs[end - 1])
        result.append(
            Chunk(
                run.epochs[start:end],
                run.loss[done:last],
                {name: value[start:end] for name, value in run.params.items()},
                {name: value[start:end] for name, value in run.metrics.items()},
            )
        )
        done = last
    return result


def save_run(folder: Path, run: Trajectory, cuts=(), finish=True) -> None:
    """One shard for each piece."""
    writer = Writer(folder, META)
    for chunk in chunks_of(run, cuts):
        writer.add(chunk)
        writer.flush()
    if finish:
        writer.finish()


def assert_same(ours: Trajectory, theirs: Trajectory) -> None:
    assert ours.epochs.tolist() == theirs.epochs.tolist()
    assert ours.epochs.dtype == np.int64
    pairs = [(ours.loss, theirs.loss)]
    for ones, others in ((ours.params, theirs.params), (ours.metrics, theirs.metrics)):
        assert set(ones) == set(others)
        pairs += [(np.asarray(ones[name]), np.asarray(others[name])) for name in ones]
    for mine, other in pairs:
        assert (mine.shape, mine.dtype) == (other.shape, other.dtype)
        assert mine.tobytes() == other.tobytes()


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


def rewrite(folder: Path, **changes) -> None:
    (folder / MANIFEST).write_text(json.dumps(manifest(folder) | changes))


def seal(folder: Path, name: str = "00000.safetensors") -> None:
    """Give a shard that was changed the checksum and size that it has now."""
    data = (folder / name).read_bytes()
    meta = manifest(folder)
    for shard in meta["shards"]:
        if shard["file"] == name:
            shard |= {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    (folder / MANIFEST).write_text(json.dumps(meta))


def alter(folder: Path, change, name: str = "00000.safetensors") -> None:
    """Put other tensors into a shard, everything else in order."""
    tensors = load((folder / name).read_bytes())
    change(tensors)
    save_file(tensors, folder / name)
    seal(folder, name)


def reseal_header(folder: Path, change) -> None:
    """Put another header text into the first shard, everything else in order."""
    path = folder / "00000.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = change(data[8 : 8 + length])
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    seal(folder)


def refused(folder: Path, match: str, **options) -> None:
    with pytest.raises(TrajectoryError, match=match) as caught:
        read(folder, **options)
    assert "\n" not in str(caught.value)


def refused_or_sound(folder: Path) -> None:
    with contextlib.suppress(TrajectoryError):
        run = read(folder, partial=True)
        snapshots = len(run.epochs)
        assert run.epochs[0] == 0
        assert len(run.loss) == run.epochs[-1]
        assert all(len(value) == snapshots for value in (*run.params.values(), *run.metrics.values()))
