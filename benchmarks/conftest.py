"""The suites' options and fixtures, and what the result says beside the figures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pytest

from benchmarks.measuring import QUICK_ROUNDS, ROUNDS, Workers, trained_cells, why
from parity.frameworks import COMMON, FRAMEWORKS
from parity.running.cells import Cell


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few cases, few rounds: about a minute")


_CELLS = pytest.StashKey[dict[str, Cell]]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "trained" not in metafunc.fixturenames:
        return
    stash = metafunc.config.stash
    if _CELLS not in stash:
        stash[_CELLS] = {f"{c.entry.case.name}-{c.implementation}": c for c in trained_cells(metafunc.config)}
    wanted = getattr(metafunc.module, "wanted", lambda cell: True)
    # By name: the result keeps a parameter as text.
    metafunc.parametrize("trained", [name for name, cell in stash[_CELLS].items() if wanted(cell)], indirect=True)


@pytest.fixture
def trained(request: pytest.FixtureRequest) -> Cell:
    return request.config.stash[_CELLS][request.param]


@pytest.fixture(scope="session")
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def rounds(quick: bool) -> int:
    """How many rounds are measured."""
    return QUICK_ROUNDS if quick else ROUNDS


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with ExitStack() as stack:
        yield Workers(stack)


_UNMEASURED = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    # A benchmark without a figure says why. That it did not use its clock either would only hide the reason.
    config.addinivalue_line("filterwarnings", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
    config.stash[_UNMEASURED] = {}
    config.pluginmanager.register(_Unmeasured(config.stash[_UNMEASURED]))


class _Unmeasured:
    """Keeps why a benchmark gave no figure."""

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if reason := why(report):
            self.reasons.setdefault(report.nodeid, reason)


def pytest_benchmark_update_json(config: pytest.Config, benchmarks: list[Any], output_json: dict[str, Any]) -> None:
    output_json["quick"] = config.getoption("--quick")
    output_json["unmeasured"] = config.stash[_UNMEASURED]


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    machine_info.pop("node", None)  # whose machine it is says nothing about its speed
    machine_info["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine_info["memory_bytes"] = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    machine_info["threads"] = {framework.name: _threads(framework.environment) for framework in FRAMEWORKS}
    machine_info["versions"] = dict(_installed())


def _threads(environment: Mapping[str, str]) -> str:
    """The thread settings of a worker, as they are set before its framework is imported."""
    both = {**COMMON, **environment}
    return ", ".join(f"{name}={value}" for name, value in both.items() if "THREADS" in name or name == "XLA_FLAGS")


def _installed() -> Iterator[tuple[str, str]]:
    packages = {package for framework in FRAMEWORKS for names in framework.packages.values() for package in names}
    for package in (*sorted(packages), "safetensors", "pytest-benchmark"):
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
