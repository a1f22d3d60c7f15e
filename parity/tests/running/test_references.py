"""A reference is built in workers of its framework, with that framework's settings, and never in the parent."""

from __future__ import annotations

import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from parity.proving import prove
from parity.proving.plan import Plan
from parity.running.executor import Environment, WorkerError
from parity.running.packages import reach_of
from parity.running.workers.pool import Pool
from parity.suite import load_suite
from parity.tests import suites
from parity.tests.command import Parity
from parity.tests.running.test_pool import WAIT
from parity.tests.suites import CASE, strict_json, write_suite

# A reference that belongs to JAX by its name; where it is built, and with what setting of JAX, stands beside it.
REFERENCE = """
import os
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    with Path(__file__).with_name("built").open("a") as file:
        print(os.getpid(), os.environ.get("JAX_ENABLE_X64"), file=file)
    return toy.build(case, dtype, device)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(tmp_path)
    name = write_suite(tmp_path, jax=REFERENCE, numpy=suites.HONEST, torch=suites.WRONG)
    (tmp_path / name / "__init__.py").write_text('REFERENCE = "jax"\n')
    spec = tmp_path / name / "toy" / "spec.py"
    absent = 'absent={"tf1": "not asked for", "keras": "not asked for"}'
    spec.write_text(
        f"from dataclasses import replace\nfrom parity.tests import toy\nCASES = (replace(toy.MOMENTUM, {absent}),)\n"
    )
    return name


def builds(root: Path, package: str) -> list[tuple[int, str]]:
    """The processes that built the reference since this was last asked, each with its setting of JAX."""
    file = root / package / "toy" / "built"
    lines = [line.split() for line in file.read_text().splitlines()]
    file.unlink()
    return [(int(pid), setting) for pid, setting in lines]


def assert_in_its_framework(found: list[tuple[int, str]]) -> None:
    assert found
    assert os.getpid() not in [pid for pid, _ in found]
    assert {setting for _, setting in found} == {"1"}


@pytest.mark.slow
def test_recordings_are_explained_on_a_reference_of_another_framework(
    parity: Parity, tmp_path: Path, package: str
) -> None:
    run = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--no-report", "--deep", "3")
    assert parity(*run, "--impl", "torch", "--impl", "jax").status == 1
    # Of the run itself, whose lockstep and explanation are in a worker of its own framework.
    builds(tmp_path, package)
    runs = [f"out/{CASE}/{label}-float64-cpu" for label in ("torch", "jax")]
    result = parity("explain", *runs, "--suite", package, "--json", "explained.json")
    assert result.status == 1
    (explanation,) = strict_json((tmp_path / "explained.json").read_text())["explanations"]
    assert len(explanation["replays"]) > 3
    assert explanation["note"].endswith(f"what is explained is {runs[0]}")
    assert_in_its_framework(builds(tmp_path, package))


@pytest.mark.slow
def test_a_reference_that_cannot_be_asked_leaves_the_verdict_and_says_so(
    parity: Parity, tmp_path: Path, package: str
) -> None:
    run = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--no-report")
    assert parity(*run, "--impl", "torch", "--impl", "jax").status == 1
    (tmp_path / package / "toy" / "toy_jax.py").write_text(suites.ABORTS)
    runs = [f"out/{CASE}/{label}-float64-cpu" for label in ("torch", "jax")]
    result = parity("explain", *runs, "--suite", package)
    assert result.status == 1
    assert "no mistake could be replayed, because the jax worker died of SIGABRT" in " ".join(result.out.split())


def test_the_mistakes_that_fit_are_found_out_where_the_reference_is(package: str, tmp_path: Path) -> None:
    load_suite(package)
    with Pool(1, reach=reach_of(package)) as pool:
        planned = pool.submit(Plan(package, True, Environment("jax"))).result(WAIT)
    assert {job.subject.case for job in planned.experiments} == {CASE}
    assert_in_its_framework(builds(tmp_path, package))


def test_a_proof_plans_in_a_worker_of_the_reference(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Only(Pool):
        def submit(self, job: Any, *rest: Any) -> Any:
            asked.append(job)
            if isinstance(job, Plan):
                return super().submit(job, *rest)
            refused: Future[Any] = Future()
            refused.set_exception(WorkerError("nothing is planted here"))
            return refused

    monkeypatch.setattr("parity.running.workers.pool.Pool", Only)
    evidence = prove.prove(load_suite(package), subset=True, jobs=1)
    assert asked[0] == Plan(package, True, Environment("jax"))
    assert len(evidence.failures) == len(asked) - 1 > 0
    assert_in_its_framework(builds(tmp_path, package))
