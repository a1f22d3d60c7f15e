"""Worker processes: used again, replaced after a crash, and never left behind."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import COMMON, FRAMEWORKS
from parity.recording.format import made
from parity.recording.manifest import read_manifest
from parity.recording.reader import read
from parity.running.executor import Environment, Progress, UnrunError, WorkerError
from parity.running.jobs import CellName, OnDisk, Record
from parity.running.workers.pool import Pool
from parity.running.workers.started import worker_environment
from parity.tests import suites

WAIT = 60


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    return suites.write_suite(
        tmp_path,
        numpy_counted=suites.COUNTED,
        numpy_raises=suites.RAISES,
        numpy_aborts=suites.ABORTS,
        numpy_slow=suites.SLOW,
        numpy_stuck=suites.STUCK,
        numpy_talks=suites.TALKS,
    )


@pytest.fixture
def pool(suite: str) -> Iterator[Pool]:
    with Pool(1) as pool:
        yield pool


def job(
    suite: str, folder: Path, implementation: str = "numpy-counted", epochs: int = 3, framework: str = "numpy"
) -> Record:
    cell = CellName(suite, suites.CASE, None, implementation, "float64", "cpu")
    meta = {"case": suites.CASE, "dtype": "float64"}
    return Record(cell, Environment(framework), cell.resources, epochs, str(folder), meta)


def pids(tmp_path: Path) -> list[int]:
    (file,) = tmp_path.glob("*/toy/pids")
    return [int(line) for line in file.read_text().split()]


def on_disk(folder: Path) -> OnDisk:
    """What a job says that has recorded a run there."""
    return OnDisk(made=made(read_manifest(folder)))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(path: Path, future: Future[Any]) -> str:
    limit = time.monotonic() + WAIT
    while not path.exists():
        assert not future.done(), future.exception()
        assert time.monotonic() < limit, f"{path} was never written"
        time.sleep(0.01)
    return path.read_text()


def test_a_worker_serves_one_job_after_another_and_ends_with_its_pool(suite: str, tmp_path: Path) -> None:
    with Pool(1) as pool:
        futures = [pool.submit(job(suite, tmp_path / name)) for name in ("a", "b", "c")]
        for future, name in zip(futures, ("a", "b", "c"), strict=True):
            assert future.result(WAIT) == on_disk(tmp_path / name)
    first, second, third = pids(tmp_path)
    assert first == second == third != os.getpid()
    assert not alive(first)
    runs = [read(tmp_path / name) for name in ("a", "b", "c")]
    assert [run.epochs.tolist() for run in runs] == 3 * [[0, 1, 2, 3]]


def test_events_say_how_far_a_job_is(suite: str, tmp_path: Path, pool: Pool) -> None:
    events: list[Progress] = []
    pool.submit(job(suite, tmp_path / "a", epochs=5), events.append).result(WAIT)
    assert (events[0], events[-1]) == (Progress(0, 5), Progress(5, 5))
    assert {event.of for event in events} == {5}


def test_an_exception_costs_its_job_alone(suite: str, tmp_path: Path, pool: Pool) -> None:
    before = pool.submit(job(suite, tmp_path / "a"))
    failing = pool.submit(job(suite, tmp_path / "b", "numpy-raises"))
    after = pool.submit(job(suite, tmp_path / "c"))
    with pytest.raises(WorkerError, match=r"^ValueError: no such layer$") as caught:
        failing.result(WAIT)
    assert "toy_numpy_raises.py" in caught.value.trace
    assert [before.result(WAIT), after.result(WAIT)] == [on_disk(tmp_path / name) for name in ("a", "c")]
    first, second = pids(tmp_path)
    assert first == second


def test_an_exception_in_a_callback_costs_its_job_and_its_process(suite: str, tmp_path: Path, pool: Pool) -> None:
    """What the process answers after that belongs to the job that is lost, and to no other."""

    def broken(progress: Progress) -> None:
        raise OSError("the terminal was closed")

    failing = pool.submit(job(suite, tmp_path / "a"), broken)
    after = [pool.submit(job(suite, tmp_path / name)) for name in ("b", "c")]
    with pytest.raises(OSError, match="the terminal was closed"):
        failing.result(WAIT)
    for future, name in zip(after, ("b", "c"), strict=True):
        future.result(WAIT)
        assert read(tmp_path / name).epochs.tolist() == [0, 1, 2, 3]
    first, second, third = pids(tmp_path)
    assert first != second == third
    assert not alive(first)


SAYING = """
import os
from dataclasses import dataclass
from parity.running.executor import Environment, Progress, Resources
from parity.running.workers.messages import Done, Told, write

@dataclass(frozen=True)
class Say:
    # A job that may write to the channel of its answers by itself, and what, is in noise.

    name: str
    noise: str = ""
    environment: Environment = Environment("numpy")
    resources: Resources = Resources()

    def run(self, emit):
        foreign = {"no JSON": "no JSON\\n", "told": write(Told(0, Progress())), "done": write(Done(0, "not mine"))}
        if self.noise == "record":
            os.write(4, b'{"__type__": "pathlib:Path", "id": 1}\\n')
        elif self.noise:
            os.write(4, foreign[self.noise].encode())
        return self.name
"""


@pytest.mark.parametrize(
    ("noise", "why"),
    [
        ("no JSON", "the numpy worker cannot be understood: 'no JSON' is no message of ours"),
        ("record", "the numpy worker cannot be understood: .* pathlib:Path is no record"),
        ("told", "the numpy worker answered another job than it was given"),
        ("done", "the numpy worker answered another job than it was given"),
    ],
)
def test_an_answer_that_is_none_costs_its_job_and_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: str, why: str
) -> None:
    name = f"saying_{noise.replace(' ', '_')}"
    (tmp_path / f"{name}.py").write_text(SAYING)
    monkeypatch.syspath_prepend(tmp_path)
    say = importlib.import_module(name).Say
    with Pool(1) as pool:
        noisy = pool.submit(say("a", noise))
        after = [pool.submit(say(name)) for name in ("b", "c")]
        with pytest.raises(WorkerError, match=why):
            noisy.result(WAIT)
        assert [future.result(WAIT) for future in after] == ["b", "c"]


def test_a_job_that_was_cancelled_leaves_room_for_the_next(suite: str, tmp_path: Path, pool: Pool) -> None:
    with pool._condition:  # no slot takes it before it is cancelled
        assert pool.submit(job(suite, tmp_path / "a")).cancel()
    pool.submit(job(suite, tmp_path / "b")).result(WAIT)
    assert not (tmp_path / "a").exists()


def test_a_crash_costs_its_job_alone_and_names_the_signal(suite: str, tmp_path: Path, pool: Pool) -> None:
    before = pool.submit(job(suite, tmp_path / "a"))
    crashing = pool.submit(job(suite, tmp_path / "b", "numpy-aborts"))
    after = pool.submit(job(suite, tmp_path / "c"))
    with pytest.raises(WorkerError, match=r"^the numpy worker died of SIGABRT$"):
        crashing.result(WAIT)
    assert [before.result(WAIT), after.result(WAIT)] == [on_disk(tmp_path / name) for name in ("a", "c")]
    first, second = pids(tmp_path)
    assert first != second
    assert not (tmp_path / "b").exists()


def test_a_worker_that_cannot_start_says_so_and_the_next_is_tried(suite: str, tmp_path: Path) -> None:
    stub = tmp_path / "python"
    stub.write_text("#!/bin/sh\necho 'no NumPy in here' >&2\nexit 3\n")
    stub.chmod(0o755)
    with Pool(1, {"numpy": str(stub)}) as pool:
        for name in ("a", "b"):
            with pytest.raises(WorkerError, match="ended with status 3: no NumPy in here"):
                pool.submit(job(suite, tmp_path / name)).result(WAIT)
    with Pool(1, {"numpy": str(tmp_path / "missing")}) as pool, pytest.raises(WorkerError, match="missing"):
        pool.submit(job(suite, tmp_path / "a")).result(WAIT)


def test_closing_ends_what_runs_and_cancels_what_waits(suite: str, tmp_path: Path) -> None:
    with Pool(1) as pool:
        running = pool.submit(job(suite, tmp_path / "a", "numpy-stuck"))
        waiting = [pool.submit(job(suite, tmp_path / name)) for name in ("b", "c")]
        pid = int(wait_for(tmp_path / suite / "toy" / "pid", running))
        assert alive(pid)
    assert not alive(pid)
    with pytest.raises(UnrunError, match="SIGKILL"):  # we did it: it says nothing of the job
        running.result(0)
    for future in waiting:
        with pytest.raises(CancelledError):
            future.result(0)
    assert not (tmp_path / "b").exists()


def test_nothing_is_taken_after_closing(suite: str, tmp_path: Path) -> None:
    pool = Pool(1)
    pool.close()
    with pytest.raises(RuntimeError, match="closed"):
        pool.submit(job(suite, tmp_path / "a"))


def test_a_process_that_has_nothing_to_do_is_used_before_another_is_begun(suite: str, tmp_path: Path) -> None:
    """Also where every job may have a process of its own."""
    with Pool(2, start_another=0) as pool:
        for name in ("a", "b", "c"):
            pool.submit(job(suite, tmp_path / name)).result(WAIT)
        assert len(set(pids(tmp_path))) == 1


def test_every_job_that_waits_may_have_a_process_of_its_own(suite: str, tmp_path: Path) -> None:
    with Pool(2, start_another=0) as pool:
        stuck = pool.submit(job(suite, tmp_path / "stuck", "numpy-stuck"))
        wait_for(tmp_path / suite / "toy" / "pid", stuck)
        pool.submit(job(suite, tmp_path / "a")).result(WAIT)
        assert not stuck.done()


def test_a_process_that_has_nothing_to_do_ends_where_another_needs_its_room(suite: str, tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.submit(job(suite, tmp_path / "a")).result(WAIT)
        (first,) = pids(tmp_path)
        with pool.crowded():
            limit = time.monotonic() + WAIT
            while alive(first):
                assert time.monotonic() < limit, "it goes on"
                time.sleep(0.01)
        pool.submit(job(suite, tmp_path / "b")).result(WAIT)
        assert pids(tmp_path)[0] == first != pids(tmp_path)[1]


def test_frameworks_do_not_share_a_process(suite: str, tmp_path: Path) -> None:
    """Jobs of two frameworks, one slot: the second gets a process of its own, with its own environment."""
    with Pool(1) as pool:
        for framework in ("numpy", "torch", "numpy"):
            pool.submit(job(suite, tmp_path / framework, framework=framework)).result(WAIT)
        assert len(set(pids(tmp_path))) == 3
        assert [alive(pid) for pid in pids(tmp_path)] == [False, False, True]


def test_many_jobs_of_one_framework_get_another_process(suite: str, tmp_path: Path) -> None:
    with Pool(2) as pool:
        stuck = pool.submit(job(suite, tmp_path / "stuck", "numpy-stuck"))
        wait_for(tmp_path / suite / "toy" / "pid", stuck)
        futures = [pool.submit(job(suite, tmp_path / str(number))) for number in range(5)]
        for future in futures:
            future.result(WAIT)
        assert not stuck.done()


@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
def test_a_workers_environment_has_the_frameworks_settings_before_it_starts(framework: Any) -> None:
    environment = worker_environment(framework.name, ["/somewhere/of/mine"])
    assert (COMMON | dict(framework.environment)).items() <= environment.items()
    assert "/somewhere/of/mine" in environment["PYTHONPATH"].split(os.pathsep)
