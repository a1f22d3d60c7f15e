"""The ladder in pytest: every case × implementation × dtype as a test on every rung.

    pytest --pyargs parity.tests.test_ladder --suite PACKAGE

climbs the ladder with a suite of one's own. Each framework runs in worker processes of its own, so that pytest
itself imports none and a crash costs one cell.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from concurrent.futures import Future

    from parity.running.cells import Cell
    from parity.running.matrix import Matrix


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parity", "cross-framework parity")
    group.addoption("--suite", default="impls", metavar="PACKAGE", help="package that holds the cases")
    group.addoption("--case", action="append", default=[], metavar="NAME", help="only this case; may be repeated")
    group.addoption("--impl", action="append", default=[], metavar="NAME", help="only this implementation")
    group.addoption("--framework", action="append", default=[], metavar="NAME", help="only this framework's")
    group.addoption(
        "--gpu-device",
        default="cuda",
        choices=("cuda", "cpu"),
        help="where the tests marked gpu run; cpu tries them out where there is no GPU",
    )


def _matrix(config: pytest.Config) -> Matrix:
    from parity.running.cells import Options
    from parity.running.matrix import Matrix
    from parity.suite import SuiteError, load_suite

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    cache = getattr(config, "cache", None)  # absent under -p no:cacheprovider
    try:
        options = Options(
            load_suite(config.getoption("--suite")),
            Path(cache.mkdir("parity")) if cache else Path(tempfile.mkdtemp(prefix="parity-")),
            cases=config.getoption("--case"),
            implementations=config.getoption("--impl"),
            frameworks=config.getoption("--framework"),
        )
        return Matrix(options)
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from error


_MATRIX = pytest.StashKey["Matrix"]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cell" in metafunc.fixturenames:
        if _MATRIX not in metafunc.config.stash:
            metafunc.config.stash[_MATRIX] = _matrix(metafunc.config)
        matrix = metafunc.config.stash[_MATRIX]
        cells = [*matrix.cells, *matrix.owed]
        metafunc.parametrize("cell", cells, ids=[cell.name for cell in cells])


@pytest.fixture(scope="session")
def climbs(request: pytest.FixtureRequest) -> Iterator[dict[Cell, Future[dict[str, Any]]]]:
    """Every selected cell on its way up the ladder, in worker processes."""
    from parity.running.pool import Pool

    matrix = request.config.stash[_MATRIX]
    selected = {params["cell"] for params in map(_params, request.session.items) if "cell" in params}
    matrix.cells = [cell for cell in matrix.cells if cell in selected]
    with Pool(max(1, min(4, os.cpu_count() or 1)), path=sys.path) as pool:
        yield matrix.climb(pool)


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else dict(callspec.params)


@pytest.fixture
def hold(cell: Cell, climbs: dict[Cell, Future[dict[str, Any]]], request: pytest.FixtureRequest) -> Any:
    """Assert that the cell holds a rung: ``hold("gradients")``."""
    from parity.judging.verdict import Verdict

    owed = request.config.stash[_MATRIX].owed

    def check(rung: str) -> None:
        if cell in owed:
            pytest.fail(owed[cell], pytrace=False)
        steps = {step["rung"]: step for step in climbs[cell].result()["result"]}
        if steps[rung]["verdict"] != Verdict.PASS:
            pytest.fail(steps[rung]["message"], pytrace=False)

    return check
