"""A worker that hangs, asks for a word or loses its parent costs its own cell and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from parity.judging.verdict import EXIT_STATUS, Verdict
from parity.recording.reader import read
from parity.running.deadlines import LEAST, PATIENCE, UNKNOWN, Deadlines
from parity.running.executor import Progress, WorkerError
from parity.running.workers.pool import Pool
from parity.running.workers.started import LAST_WORDS, last_words
from parity.tests import suites
from parity.tests.command import Parity
from parity.tests.running.test_pool import WAIT, alive, job, suite, wait_for
from parity.tests.suites import CASE, strict_json, write_suite

__all__ = ["suite"]  # a fixture
INCONCLUSIVE = EXIT_STATUS[Verdict.INCONCLUSIVE]


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    return eventually(lambda: not alive(pid))


def eventually(holds: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 10
    while not holds():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def test_nothing_is_given_up_before_the_least_silence() -> None:
    patient = Deadlines()
    patient.learn("a", 0.01)
    assert patient.silence("a") == LEAST
    assert not patient.why_over("a", running=1e6, silent=LEAST - 1)
    assert "not heard of for 600 s" in patient.why_over("a", running=LEAST, silent=LEAST)


def test_a_job_may_take_a_multiple_of_what_others_about_the_same_took() -> None:
    patient = Deadlines(recorded={"recorded": 50.0, "damaged": float("nan")}.get)
    assert patient.silence("a") == UNKNOWN
    for seconds in (60.0, 30.0):
        patient.learn("a", seconds)
    assert patient.silence("a") == PATIENCE * 60
    assert patient.silence("recorded") == PATIENCE * 50
    patient.learn("recorded", 70.0)
    assert patient.silence("recorded") == PATIENCE * 70
    assert patient.silence("damaged") == UNKNOWN


def test_a_timeout_counts_from_the_start_however_much_is_heard() -> None:
    strict = Deadlines(timeout=3)
    strict.learn("a", 1000.0)
    assert not strict.why_over("a", running=2.9, silent=2.9)
    assert strict.why_over("a", running=3.0, silent=0.0) == "not done within 3 s"


@pytest.mark.slow
def test_a_job_that_hangs_is_given_up_when_others_of_its_case_are_long_done(suite: str, tmp_path: Path) -> None:
    with Pool(1, deadlines=Deadlines(least=3.0, patience=0.0)) as pool:
        other = pool.submit(job(suite, tmp_path / "a"))
        stuck = pool.submit(job(suite, tmp_path / "b", "numpy-stuck"))
        after = pool.submit(job(suite, tmp_path / "c"))
        pid = int(wait_for(tmp_path / suite / "toy" / "pid", stuck))
        with pytest.raises(WorkerError, match=r"the numpy worker was not heard of for 3 s, which --timeout may change"):
            stuck.result(WAIT)
        assert not alive(pid)
        other.result(WAIT)
        after.result(WAIT)


@pytest.mark.slow
def test_a_job_that_says_how_far_it_is_is_not_given_up(suite: str, tmp_path: Path) -> None:
    """Its silence counts, and not how long it takes in all."""
    heard: list[Progress] = []
    with Pool(1, deadlines=Deadlines(least=2.0, patience=0.0)) as pool:
        pool.submit(job(suite, tmp_path / "a")).result(WAIT)
        pool.submit(job(suite, tmp_path / "b", "numpy-slow", epochs=10), heard.append).result(WAIT)
    assert len(heard) == 11


@pytest.mark.slow
def test_a_worker_that_hangs_costs_its_cell_alone(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_hangs=suites.HANGS, numpy_mine=suites.HONEST)
    begun = time.monotonic()
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    result = parity(*command, "--timeout", "5", "--jobs", "2")
    assert time.monotonic() - begun < 60
    assert result.status == INCONCLUSIVE
    cells = {cell["implementation"]: cell for cell in strict_json(result.out)["cells"]}
    verdicts = {name: cell["verdict"] for name, cell in cells.items()}
    assert verdicts == {"numpy": "PASS", "numpy-mine": "PASS", "numpy-hangs": "INCONCLUSIVE"}
    reason = cells["numpy-hangs"]["reason"]
    assert "the numpy worker was not done within 5 s, and was ended" in reason
    assert "its last words: waiting for a lock that nobody gives back" in reason
    # What it had started ends with it.
    assert gone(int((tmp_path / package / "toy" / "children").read_text()))
    assert read(tmp_path / "out" / CASE / "numpy-mine-float64-cpu").meta["complete"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (suites.ASKS, "EOFError: EOF when reading a line"),
        (suites.STOPS, "BdbQuit"),
    ],
    ids=["input", "breakpoint"],
)
def test_an_implementation_that_waits_for_somebody_ends_with_its_words(
    parity: Parity, tmp_path: Path, source: str, words: str
) -> None:
    """It would take the next jobs for the answer, which then nobody does."""
    package = write_suite(tmp_path, numpy_asks=source, numpy_mine=suites.HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    result = parity(*command)
    assert result.status == INCONCLUSIVE
    cells = {cell["implementation"]: cell for cell in strict_json(result.out)["cells"]}
    assert cells["numpy-asks"]["reason"] == words
    assert [cells[name]["verdict"] for name in ("numpy", "numpy-mine")] == ["PASS", "PASS"]


@pytest.mark.slow
def test_floors_texts_and_proofs_are_not_waited_for_either(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy=suites.HANGS)
    (tmp_path / package / "__init__.py").write_text("from pathlib import Path\nFLOORS = Path(__file__).parent\n")
    measured = parity("floor", "--suite", package, "--out", "out", "--timeout", "1")
    assert measured.status == INCONCLUSIVE
    assert "failed, the numpy worker was not done within 1 s" in measured.out
    proved = parity("prove", "--suite", package, "--timeout", "1")
    assert proved.status == 2
    assert "the numpy worker was not done within 1 s" in proved.err
    assert "--timeout" in parity("sample", "--help").out


def killed_meanwhile(root: Path, package: str, said: str) -> list[int]:
    """Kill a run once a worker of its has said in a file which processes there are; which these are."""
    command = ["run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "parity", *command],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )
    with process:
        pids = root / package / "toy" / said
        assert eventually(lambda: pids.exists() or process.poll() is not None)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    return [int(pid) for pid in pids.read_text().split()]


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_stuck=suites.STUCK)
    for pid in killed_meanwhile(tmp_path, package, "pid"):
        assert gone(pid)


# Leaves a copy of itself and another process, and says who they are.
FAMILY = """
import os, subprocess, sys, time
from pathlib import Path

def build(case, dtype, device):
    forked = os.fork()
    if forked:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        scratch = Path(__file__).with_name("pids.partial")
        scratch.write_text(f"{os.getpid()} {forked} {child.pid}")
        scratch.replace(scratch.with_name("pids"))
    while True:
        time.sleep(0.01)
"""


def test_what_a_worker_has_started_dies_with_its_parent_too(tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_family=FAMILY)
    for pid in killed_meanwhile(tmp_path, package, "pids"):
        assert gone(pid)


def test_a_worker_that_ends_itself_is_reported_with_its_last_words(suite: str, tmp_path: Path) -> None:
    with Pool(1) as pool, pytest.raises(WorkerError) as caught:
        pool.submit(job(suite, tmp_path / "a", "numpy-talks")).result(WAIT)
    assert str(caught.value) == "the numpy worker ended with status 3: the last line"
    assert caught.value.trace.endswith("the last line\n")
    assert len(caught.value.trace) == LAST_WORDS


def test_a_long_log_is_not_read_whole_for_its_last_words(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w+b") as log:
        log.truncate(64 << 20)
        log.seek(0, os.SEEK_END)
        log.write(b"the last line")
        tracemalloc.start()
        try:
            assert last_words(log).endswith("the last line")
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()
