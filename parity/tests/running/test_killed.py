"""A run that is killed between any two operations on files goes on, and ends byte for byte as one never stopped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from parity.recording.places import partial_path
from parity.recording.reader import read
from parity.running.jobs import CellName, Record
from parity.running.workers.messages import Task, write
from parity.running.workers.started import worker_environment
from parity.tests.running.test_resume import assert_same

pytestmark = pytest.mark.slow  # each starts processes of its own

# Every chunk is a snapshot, written at once. The worker kills itself before the operation whose number it is told.
WORKER = """
import os, signal, sys
from parity import trainer
from parity.recording import writer
from parity.running.workers import messages

writer.SHARD_SECONDS, trainer.CHUNK_EPOCHS = 0.0, 1
job, count, last = messages.read(sys.argv[1]).job, 0, int(sys.argv[2])

def counted(whole):
    def call(*arguments, **named):
        global count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(*arguments, **named)
    return call

for name in ("open", "fsync", "replace", "rename", "unlink", "rmdir", "mkdir"):
    setattr(os, name, counted(getattr(os, name)))
job.run(lambda progress: None)
print(count)
"""
EPOCHS = 40
SEED = 3


def work(folder: Path, kill: int = 0) -> int:
    """Record a run until its worker is killed; how many operations on files there were, 0 if it was killed."""
    cell = CellName("impls", "char-gru", None, "numpy", "float32", "cpu")
    job = Record(
        cell, cell.environment, cell.resources, EPOCHS, str(folder), {"dtype": "float32", "key": "k"}, resume=True
    )
    done = subprocess.run(
        [sys.executable, "-c", WORKER, write(Task(1, job)), str(kill)],
        env=worker_environment("numpy", sys.path),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return 0 if done.returncode else int(done.stdout)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A run that was never stopped, and the number of its operations."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, work(folder)


@pytest.mark.parametrize("number", [0, 1, *(pytest.param(number, marks=pytest.mark.slow) for number in range(2, 14))])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(
    whole: tuple[Path, int], tmp_path: Path, number: int
) -> None:
    folder, operations = whole
    random = Random(f"{SEED} {number}")
    stopped = tmp_path / "run"
    # The first places are spread over the whole run, the others are where chance will have them.
    for kill in (1 + operations * number // 14 + random.randrange(4), random.randrange(1, operations)):
        if work(stopped, kill):
            break
    else:
        assert work(stopped)
    assert_same(read(stopped), read(folder))
    assert sorted(os.listdir(stopped)) == sorted(os.listdir(folder))
    for path in folder.glob("*.safetensors"):
        assert (stopped / path.name).read_bytes() == path.read_bytes()
    assert not partial_path(stopped).exists()
    assert os.listdir(tmp_path) == ["run"]
