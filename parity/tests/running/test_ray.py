"""Jobs on a Ray cluster of two nodes on this machine: the pool's recordings, whatever becomes of a node."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import framework_of
from parity.running.executor import Environment, Progress, Resources, UnrunError, WorkerError
from parity.running.jobs import CellName, FloorFile, MeasureFloor, OnDisk, Record
from parity.running.on import OnError, executor
from parity.running.ray import executor as ray_executor
from parity.running.ray.cluster import Cluster
from parity.running.ray.executor import RayExecutor
from parity.running.workers.pool import Pool
from parity.tests.running.nodes import Nodes

ray = pytest.importorskip("ray", reason="what the extra ray brings")

WAIT = 120
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}

# Jobs that say where they were, each in a file of its own in the folder ``told``, and then do what they are made for.
JOBS = """
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from parity.running.executor import Environment, Progress, Resources

@dataclass(frozen=True)
class Job:
    told: str
    does: str = ""
    environment: Environment = Environment("numpy")
    resources: Resources = Resources()

    def run(self, emit):
        tries = len(list(Path(self.told).iterdir()))
        Path(self.told, f"{tries}-{os.getpid()}").touch()
        emit(Progress(tries, 9))
        return getattr(self, self.does or "nothing")(tries)

    def nothing(self, tries):
        return tries

    def fails(self, tries):
        raise ValueError("no such layer")

    def aborts(self, tries):
        os.kill(os.getpid(), signal.SIGABRT)

    def full(self, tries):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/scratch")

    def full_at_first(self, tries):
        return self.full(tries) if tries == 0 else tries

    def killed(self, tries):
        os.kill(os.getpid(), signal.SIGKILL)

    def waits(self, tries):
        while not Path(self.told + ".go").exists():
            time.sleep(0.01)
        return tries
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    nodes = Nodes()
    try:
        for _ in range(2):
            nodes.add(**NODE)
        yield nodes
    finally:
        nodes.shutdown()


@pytest.fixture(scope="module")
def kind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The job of JOBS."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "ray_jobs.py").write_text(JOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield importlib.import_module("ray_jobs").Job
    del sys.modules["ray_jobs"]


@pytest.fixture
def make(kind: Any, tmp_path: Path) -> Callable[..., Any]:
    """Make jobs, with a new folder ``told`` each."""

    def make(told: str, does: str = "", **fields: Any) -> Any:
        (tmp_path / told).mkdir()
        return kind(str(tmp_path / told), does, **fields)

    return make


@pytest.fixture(scope="module")
def on_ray(cluster: Nodes, kind: Any) -> Iterator[RayExecutor]:
    """One for the last tests of this module: what it keeps leaves no room for another."""
    with RayExecutor(cluster.address) as executor:
        yield executor


def begun(job: Any, count: int = 1) -> list[int]:
    """The processes in which a job was begun, once there are so many."""
    limit = time.monotonic() + WAIT
    while len(found := sorted(os.listdir(job.told))) < count:
        assert time.monotonic() < limit, f"{job.told}: begun {len(found)} times, not {count}"
        time.sleep(0.01)
    return [int(name.partition("-")[2]) for name in found]


def end(job: Any) -> None:
    Path(f"{job.told}.go").touch()


def alive(pid: int) -> bool:
    """Whether a process goes on. Whose parent has died may wait long until somebody asks what it ended of."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int) -> None:
    """Wait for the end of a process."""
    limit = time.monotonic() + WAIT
    while alive(pid):
        assert time.monotonic() < limit, f"{pid} goes on"
        time.sleep(0.01)


def worker_of(executor: RayExecutor, does: str) -> Any:
    """The actor's side of what does a job just now."""
    (found,) = [w.process for w, running in executor._pool._workers.items() if running and running.job.does == does]
    return found


def record(root: Path, implementation: str, dtype: str) -> Record:
    cell = CellName("impls", "iris-logistic", None, implementation, dtype, "cpu")
    folder = root / "iris-logistic" / f"{implementation}-{dtype}-cpu"
    meta = {"case": "iris-logistic", "dtype": dtype, "key": "a key", "implementation": implementation}
    return Record(cell, Environment(framework_of(implementation).name), cell.resources, 3, str(folder), meta)


def measure(root: Path) -> MeasureFloor:
    cell = CellName("impls", "iris-logistic", None, "numpy", "float64", "cpu")
    floor = FloorFile(str(root / "floors" / "iris-logistic.safetensors"), "a mark")
    return MeasureFloor(cell, cell.environment, cell.resources, 2, ("float64",), floor)


def left(root: Path) -> dict[str, Any]:
    """What lies below a folder: the bytes of every tensor, and what is said of them but for times."""
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*.*")):
        data = path.read_bytes()
        if path.name == "trajectory.json":
            said = json.loads(data)
            found[str(path.relative_to(root))] = said | {"timings": None, "seconds": None}
        else:
            # The file's own words are in no order.
            start = 8 + int.from_bytes(data[:8], "little")
            found[str(path.relative_to(root))] = json.loads(data[8:start]), hashlib.sha256(data[start:]).hexdigest()
    return found


def test_recordings_are_those_of_the_pool_bit_for_bit_on_nodes_with_and_without_the_folder(
    cluster: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, shared, carried = (tmp_path / name for name in ("here", "shared", "carried"))
    with RayExecutor(cluster.address, root=shared) as executor:
        heard: list[Progress] = []
        jobs = [record(shared, "numpy", "float32"), record(shared, "torch", "float64"), measure(shared)]
        futures = [executor.submit(job, heard.append) for job in jobs]
        assert all(isinstance(future.result(WAIT), OnDisk) for future in futures)
        assert Progress(3, 3) in heard
    # Nodes that do not see the folder of results: what a job leaves is carried to it, over what was there before.
    monkeypatch.setattr(Cluster, "_marked", lambda self: (str(tmp_path / "elsewhere"), "a secret"))
    old = Path(measure(carried).floor.path)
    old.parent.mkdir(parents=True)
    old.write_bytes(b"no floor")
    with RayExecutor(cluster.address, root=carried) as executor:
        for future in [executor.submit(job) for job in (record(carried, "numpy", "float32"), measure(carried))]:
            future.result(WAIT)
    with Pool(2) as pool:
        jobs = [record(here, "numpy", "float32"), record(here, "torch", "float64"), measure(here)]
        for future in [pool.submit(job) for job in jobs]:
            future.result(WAIT)
    expected = left(here)
    assert len(expected) == 5
    assert left(shared) == expected
    assert left(carried) == {name: value for name, value in expected.items() if "torch" not in name}


def test_a_job_whose_disk_is_full_goes_to_another_node(cluster: Nodes, make: Callable[..., Any]) -> None:
    with RayExecutor(cluster.address, jobs=1) as executor:
        assert executor.submit(make("a", "full_at_first")).result(WAIT) == 1
        (full,) = executor._cluster._full
        job = make("b", "waits")
        future = executor.submit(job)
        begun(job)
        assert worker_of(executor, "waits")._place.node not in (full, "")
        end(job)
        assert future.result(WAIT) == 0


def test_a_job_whose_node_is_lost_is_done_by_another_that_idle_workers_make_room_on(
    cluster: Nodes, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ray_executor, "ROOM", 1.0)
    node = cluster.add(**NODE)
    with RayExecutor(cluster.address) as executor:
        # One core a node, hence one job a node.
        jobs = [make(told, "waits") for told in ("a", "b", "c")]
        futures = [executor.submit(job) for job in jobs]
        for job in jobs:
            begun(job)
        workers = {running.job.told: worker.process for worker, running in executor._pool._workers.items() if running}
        (lost,) = [job for job in jobs if workers[job.told]._place.node == node]
        (pid,) = begun(lost)
        cluster.remove(node)
        gone(pid)
        for job in jobs:
            end(job)
        assert [future.result(WAIT) for future in futures] == [int(job is lost) for job in jobs]
    assert capsys.readouterr() == ("", "")


def test_closing_ends_what_runs_and_cancels_what_waits(cluster: Nodes, make: Callable[..., Any]) -> None:
    with RayExecutor(cluster.address, jobs=1) as executor:
        job = make("a", "waits")
        running, waiting = executor.submit(job), executor.submit(make("b"))
        (pid,) = begun(job)
        assert alive(pid)
    assert not alive(pid)
    with pytest.raises(UnrunError, match="SIGKILL"):
        running.result(0)
    with pytest.raises(CancelledError):
        waiting.result(0)
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(job)


def test_a_node_with_other_versions_is_refused(cluster: Nodes, make: Callable[..., Any]) -> None:
    with RayExecutor(cluster.address) as executor:
        versions = executor._cluster._versions
        versions._known[None] = versions._of("numpy") | {"numpy": "1.0"}
        with pytest.raises(UnrunError, match=r"a node of the cluster has numpy 2\..* where this machine has 1\.0"):
            executor.submit(make("a")).result(WAIT)


def test_an_address_where_nobody_answers_is_said_at_once() -> None:
    begun = time.monotonic()
    with pytest.raises(OnError, match=r"nobody answers at 127\.0\.0\.1:1: .*ray start --head"):
        executor("ray://127.0.0.1:1")
    assert time.monotonic() - begun < 5


def test_an_actor_is_kept_and_a_job_that_fails_says_why_and_is_not_tried_again(
    on_ray: RayExecutor, make: Callable[..., Any]
) -> None:
    heard: list[Progress] = []
    job = make("a")
    assert on_ray.submit(job, heard.append).result(WAIT) == 0
    assert heard == [Progress(0, 9)]
    failing = make("b", "fails")
    with pytest.raises(WorkerError, match=r"^ValueError: no such layer$") as caught:
        on_ray.submit(failing).result(WAIT)
    assert "ray_jobs" in caught.value.trace
    assert on_ray.submit(after := make("c")).result(WAIT) == 0
    # One process served them all: each is of another job, none of a second attempt.
    assert begun(job) == begun(failing) == begun(after)


def test_a_crash_costs_its_job_alone_and_names_the_signal(on_ray: RayExecutor, make: Callable[..., Any]) -> None:
    crashing = make("a", "aborts")
    with pytest.raises(WorkerError, match=r"^the numpy worker died of SIGABRT$") as caught:
        on_ray.submit(crashing).result(WAIT)
    assert not isinstance(caught.value, UnrunError)
    assert len(begun(crashing)) == 1
    assert on_ray.submit(make("b")).result(WAIT) == 0


def test_a_job_whose_actor_is_killed_is_done_by_another(on_ray: RayExecutor, make: Callable[..., Any]) -> None:
    job = make("a", "waits")
    future = on_ray.submit(job)
    (first,) = begun(job)
    ray.kill(worker_of(on_ray, "waits")._actor)
    assert len(begun(job, 2)) == 2
    end(job)
    assert future.result(WAIT) == 1
    gone(first)


def test_a_job_whose_machine_always_fails_is_given_up_and_says_nothing_of_itself(
    on_ray: RayExecutor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "ATTEMPTS", 2)
    job = make("a", "killed")
    why = r"^the numpy worker was lost 2 times, the last time: the numpy worker died of SIGKILL$"
    with pytest.raises(UnrunError, match=why):
        on_ray.submit(job).result(WAIT)
    assert len(begun(job)) == 2


def test_what_no_node_has_is_said(
    on_ray: RayExecutor, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_executor, "NEVER", 0.0)
    job = make("a", resources=Resources(gpus=1.0))
    with pytest.raises(UnrunError, match="no node of the cluster has 1 cores, 1 GPUs and 0 bytes"):
        on_ray.submit(job).result(WAIT)
