"""The ladder in pytest: every case × implementation × dtype as a test on every rung.

    pytest --pyargs parity.tests.test_ladder --parity-suite PACKAGE

climbs the ladder with a suite of one's own. Each framework runs in worker processes of its own, so that pytest
itself imports none and a crash costs one cell.

pytest loads this plugin into every run where the package is installed. A run that asks for none of it must not notice:
every name that it adds begins with ``parity``, and nothing is imported, made or written before a test asks for
``parity_cell``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from parity.judging.ladder import Rung
    from parity.running.cells import Cell
    from parity.running.executor import Executor
    from parity.running.matrix import Matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "cross-framework parity")
    group.addoption("--parity-suite", default="impls", metavar="PACKAGE", help="package that holds the cases")
    for what, only in (("case", "only this case"), ("impl", "only this implementation"), ("framework", "only its")):
        # Several names in one word, or none, are what tox makes of its {posargs}.
        group.addoption(
            f"--parity-{what}",
            action="extend",
            type=str.split,
            default=[],
            metavar="NAME",
            help=f"{only}; several in quotation marks; may be repeated",
        )
    group.addoption(
        "--parity-gpu-device",
        default="cuda",
        choices=("cuda", "cpu"),
        help="where the tests marked gpu run; cpu tries them out where there is no GPU",
    )


def _matrix(config: pytest.Config) -> Matrix:
    from parity.running.cells import Options
    from parity.running.matrix import Matrix
    from parity.running.packages import find
    from parity.suite import SuiteError, load_suite

    cache = getattr(config, "cache", None)  # absent under -p no:cacheprovider
    try:
        options = Options(
            load_suite(find(config.getoption("--parity-suite"))),
            Path(cache.mkdir("parity")) if cache else _scratch(config),
            cases=config.getoption("--parity-case"),
            implementations=config.getoption("--parity-impl"),
            frameworks=config.getoption("--parity-framework"),
            jobs=max(1, min(4, os.cpu_count() or 1)),
        )
        return Matrix(options)
    except SuiteError as error:
        raise pytest.Collector.CollectError(str(error)) from error


def _scratch(config: pytest.Config) -> Path:
    folder = tempfile.TemporaryDirectory(prefix="parity-")
    config.add_cleanup(folder.cleanup)
    return Path(folder.name)


_MATRIX = pytest.StashKey["Matrix"]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "parity_cell" in metafunc.fixturenames:
        if _MATRIX not in metafunc.config.stash:
            metafunc.config.stash[_MATRIX] = _matrix(metafunc.config)
        matrix = metafunc.config.stash[_MATRIX]
        cells = [*matrix.cells, *matrix.owed]
        if "parity_figures" in metafunc.fixturenames:
            from parity.judging.ladder import rungs_of

            cells = [cell for cell in cells if "figures" in rungs_of(cell.entry.case, cell.dtype)]
        metafunc.parametrize("parity_cell", cells, ids=[cell.name for cell in cells])


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the test without a cell that pytest makes, only to skip it, where no case has figures."""
    if _MATRIX not in config.stash:
        return
    known = {*config.stash[_MATRIX].cells, *config.stash[_MATRIX].owed}
    empty = [item for item in items if "parity_cell" in _params(item) and _params(item)["parity_cell"] not in known]
    if empty:
        config.hook.pytest_deselected(items=empty)
        items[:] = [item for item in items if item not in empty]


@pytest.fixture(scope="session")
def parity_executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    """What sends cells up the ladder: worker processes, each with one framework."""
    with request.config.stash[_MATRIX].executor() as executor:
        yield executor


@pytest.fixture(scope="session")
def parity_climbs(request: pytest.FixtureRequest, parity_executor: Executor) -> dict[Cell, Future[tuple[Rung, ...]]]:
    """Every selected cell on its way up the ladder."""
    matrix = request.config.stash[_MATRIX]
    selected = {params["parity_cell"] for params in map(_params, request.session.items) if "parity_cell" in params}
    matrix.cells = [cell for cell in matrix.cells if cell in selected]
    return matrix.climb(parity_executor)


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else dict(callspec.params)


@pytest.fixture
def parity_hold(
    parity_cell: Cell, parity_climbs: dict[Cell, Future[tuple[Rung, ...]]], request: pytest.FixtureRequest
) -> Any:
    """Assert that the cell holds a rung: ``parity_hold("gradients")``."""
    from parity.judging.verdict import Verdict

    owed = request.config.stash[_MATRIX].owed

    def check(rung: str) -> None:
        if parity_cell in owed:
            pytest.fail(owed[parity_cell], pytrace=False)
        steps = {step.rung: step for step in parity_climbs[parity_cell].result()}
        if rung not in steps:
            pytest.fail(f"{parity_cell.name} has no rung {rung}: its rungs are {', '.join(steps)}", pytrace=False)
        if steps[rung].verdict is not Verdict.PASS:
            pytest.fail(steps[rung].message, pytrace=False)

    return check


@pytest.fixture
def parity_figures(parity_hold: Callable[[str], None]) -> Callable[[], None]:
    """Assert that the cell's run has every figure that the case's source printed.

    A test that asks for this is made for no cell whose case has no figures of its dtype.
    """
    return partial(parity_hold, "figures")
