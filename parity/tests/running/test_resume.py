"""A run whose worker is killed goes on where it was, and ends bit for bit as one that was never stopped."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from parity.recording import checkpoint
from parity.recording.checkpoint import FILE, pack, unpack
from parity.recording.places import partial_path
from parity.recording.reader import read
from parity.running.jobs import CellName, Record
from parity.running.workers.messages import Task, write
from parity.running.workers.started import worker_environment
from parity.trainer import State
from parity.trajectory import Trajectory
from parity.typing import Params

# Every chunk is a snapshot, written at once. "epoch N" kills the worker when it says that epoch N is done,
# "pack N" when the shard of epoch N is on disk and its checkpoint is not.
WORKER = """
import os, signal, sys
from parity import trainer
from parity.recording import checkpoint, writer
from parity.running.workers import messages

writer.SHARD_SECONDS, trainer.CHUNK_EPOCHS = 0.0, 1
where, _, at = sys.argv[2].partition(" ")
whole_pack = checkpoint.pack

def emit(progress):
    print(progress.done, flush=True)
    if where == "epoch" and progress.done == int(at):
        os.kill(os.getpid(), signal.SIGKILL)

def pack(state, epoch, key):
    if where == "pack" and epoch == int(at):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole_pack(state, epoch, key)

checkpoint.pack = pack
messages.read(sys.argv[1]).job.run(emit)
"""
EPOCHS = 40


def work(folder: Path, kill: str = "", key: str = "k", lockstep: int | None = None, depends: Any = None) -> list[int]:
    """Record char-gru in NumPy, a snapshot every 10 epochs; the epochs that the worker said it had done."""
    cell = CellName("impls", "char-gru", None, "numpy", "float32", "cpu")
    meta = {"dtype": "float32", "key": key} | ({"depends": depends} if depends else {})
    job = Record(cell, cell.environment, cell.resources, EPOCHS, str(folder), meta, lockstep, resume=True)
    done = subprocess.run(
        [sys.executable, "-c", WORKER, write(Task(1, job)), kill],
        env=worker_environment("numpy", sys.path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == (-9 if kill else 0), done.stderr
    return [int(epoch) for epoch in done.stdout.split()]


def assert_same(ours: Trajectory, theirs: Trajectory) -> None:
    assert ours.epochs.tolist() == theirs.epochs.tolist()
    assert ours.loss.tobytes() == theirs.loss.tobytes()
    for name, values in theirs.params.items():
        assert np.asarray(ours.params[name]).tobytes() == np.asarray(values).tobytes(), name


def stopped_and_resumed(kill: str, lockstep: int | None, folder: str) -> tuple[str, bool, list[int]]:
    """Where a run lies that was never stopped, and one that was; what the stop left; and the epochs done after it."""
    assert work(Path(folder, "whole"), lockstep=lockstep) == [0, 10, 20, 30, 40]
    stopped = Path(folder, "stopped")
    work(stopped, kill, lockstep=lockstep)
    return folder, partial_path(stopped).exists() and not stopped.exists(), work(stopped, lockstep=lockstep)


# Three processes each, one after another, beside the other tests.
@pytest.mark.asks(question=stopped_and_resumed, framework="numpy", apart="killed runs")
@pytest.mark.parametrize(
    ("kill", "lockstep", "goes_on"),
    [
        ("epoch 20", None, [30, 40]),
        ("pack 20", None, [20, 30, 40]),  # the shard of epoch 20 has no checkpoint
        ("epoch 20", 10, [30, 40]),
        ("epoch 30", 4, [30, 40]),  # epoch 30 is in the middle of a stretch, 20 is the end of one
        ("epoch 10", 4, [0, 10, 20, 30, 40]),  # no stretch has ended with a snapshot yet
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(
    kill: str, lockstep: int | None, goes_on: list[int], answer: tuple[str, bool, tuple[int, ...]]
) -> None:
    folder, left, went_on = answer
    stopped = Path(folder, "stopped")
    assert left
    assert list(went_on) == goes_on
    assert_same(read(stopped), read(Path(folder, "whole")))
    assert not (stopped / FILE).exists()
    assert not partial_path(stopped).exists()


def test_what_was_left_under_another_key_is_discarded(tmp_path: Path) -> None:
    work(tmp_path / "run", "epoch 20", key="old")
    assert work(tmp_path / "run", key="new") == [0, 10, 20, 30, 40]


def test_what_a_run_has_left_that_read_something_else_is_discarded(tmp_path: Path) -> None:
    before, after = ({"files": {"rates.py": content}, "variables": {}} for content in ("one", "two"))
    work(tmp_path / "run", "epoch 20", depends=before)
    work(tmp_path / "same", "epoch 20", depends=before)
    assert work(tmp_path / "run", depends=after) == [0, 10, 20, 30, 40]
    assert work(tmp_path / "same", depends=before) == [30, 40]


def test_a_damaged_shard_is_not_taken_over(tmp_path: Path) -> None:
    work(tmp_path / "run", "epoch 20")
    shard = sorted(partial_path(tmp_path / "run").glob("0*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert work(tmp_path / "run") == [0, 10, 20, 30, 40]


def signed(params: Params, about: dict[str, str]) -> bytes:
    """A checkpoint that nothing is wrong with but what ``about`` says or does not say."""
    tensors = {f"params/{name}": np.asarray(value) for name, value in params.items()}
    data: bytes = save(tensors, about | {"sha256": checkpoint._checksum(tensors, about)})
    return data


def test_no_bit_of_a_checkpoint_can_flip_unseen(tmp_path: Path) -> None:
    params = {"dense/kernel": np.arange(6.0).reshape(3, 2), "dense/bias": np.float64(0.5)}
    state = State(params, {f"momentum/{name}": value * 3 for name, value in params.items()}, 7, -0.1)
    whole, path = pack(state, 5, "k"), tmp_path / FILE
    # All bits of every third byte, one bit of each of the others.
    taken = []
    for place in range(len(whole)):
        for bit in range(8) if place % 3 == 0 else (place % 8,):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            if unpack(path, "k") is not None:
                taken.append((place, bit))
    assert not taken


def test_a_state_survives_the_disk(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    params = {"dense/kernel": generator.normal(size=(3, 2)), "scale": np.float64(generator.normal(size=()))}
    state = State(params, {f"momentum/{name}": value * 3 for name, value in params.items()}, 7, -0.1)
    path = tmp_path / FILE
    assert unpack(path, "k") is None
    path.write_bytes(pack(state, 5, "k"))
    epoch, found = unpack(path, "k")
    assert (epoch, found.step, found.slot_scale) == (5, 7, -0.1)
    for ours, theirs in ((found.params, state.params), (found.slots, state.slots)):
        assert {name: value.tobytes() for name, value in ours.items()} == {n: v.tobytes() for n, v in theirs.items()}
    assert unpack(path, "another") is None
    about = {"key": "k", "epoch": "5", "step": "7", "slot_scale": (-0.1).hex()}
    for wrong in ({"epoch": None}, {"step": None}, {"slot_scale": None}, {"step": "7.5"}, {"slot_scale": "wide"}):
        words = {name: word for name, word in (about | wrong).items() if word is not None}
        (tmp_path / "other").write_bytes(signed(params, words))
        assert unpack(tmp_path / "other", "k") is None, words
    (tmp_path / "other").write_bytes(signed(params, about))
    assert unpack(tmp_path / "other", "k") is not None
    path.write_bytes(path.read_bytes()[:-1])
    assert unpack(path, "k") is None
