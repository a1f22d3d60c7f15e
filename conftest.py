"""How this project's own tests are run: on one thread, with frameworks kept warm, and sweeps left out unless asked for.

The plugin comes with the installed package; a bare checkout loads it from here.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from parity.frameworks import COMMON

if TYPE_CHECKING:
    from parity.running.executor import Executor
    from parity.tests.warm import Warm

installed = any(point.value == "parity.pytest_plugin" for point in entry_points(group="pytest11"))
pytest_plugins = () if installed else ("parity.pytest_plugin",)

# As in a worker. With a thread for each core, small products wait for threads more than they compute: five times as
# long where another process is at work. NumPy reads this when it is imported, which 'parity bench' has done before.
if "numpy" not in sys.modules:
    os.environ.update(COMMON)

QUICK_CASES = ("activations", "iris-logistic-minibatch", "linear-minibatch", "sine-cubic")
"""The cases that climb the ladder where neither others are named nor all are asked for: every implementation has one of
them, every rung too."""
BUSY = ("benchmarks", "cli", "report", "running")
"""The rooms whose tests start processes of their own, as do those that call the command, by the fixture ``parity``."""
SLOW = "run them with --slow"
HERE = Path(__file__).parent
_LEFT_OUT = pytest.StashKey[int]()
_RENEWED = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well, as tox does")
    parser.addoption("--all-cases", action="store_true", help="climb the ladder with every case, as tox does")
    if find_spec("pytest_timeout") is None:  # whose setting would be unknown, and unknown settings are errors
        parser.addini("timeout", "of pytest-timeout, which is not installed: tests may take as long as they like")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # A machine with a GPU may lack what other tests import, such as hypothesis; they are not wanted there anyway.
    if config.getoption("-m") == "gpu" and collection_path.suffix == ".py":
        return None if "pytest.mark.gpu" in collection_path.read_text() else True
    return None


def _wants_slow(config: pytest.Config) -> bool:
    return config.getoption("--slow") or "slow" in config.getoption("-m")


def pytest_report_header(config: pytest.Config) -> str | None:
    return None if _wants_slow(config) or config.rootpath != HERE else f"slow tests are left out: {SLOW}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    suite, named = config.getoption("--parity-suite"), config.getoption("--parity-case")
    if suite == "impls" and not (named or config.getoption("--all-cases")):
        for item in items:
            cell = _params(item).get("parity_cell")
            if cell is not None and cell.entry.case.name not in QUICK_CASES:
                item.add_marker(pytest.mark.slow)
    if not _wants_slow(config):
        # Whoever climbs the ladder from here beside tests of their own may mean something else by the mark.
        slow = [item for item in items if item.get_closest_marker("slow") and item.path.is_relative_to(HERE)]
        config.stash[_LEFT_OUT] = len(slow)
        config.hook.pytest_deselected(items=slow)
        gone = set(slow)
        items[:] = [item for item in items if item not in gone]
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """When a test is run. First those that compute in this process, while the frameworks' processes are at work.

    Then those that start processes of their own, which would stand in each other's way before; then what waits for a
    framework, and the ladder at the very end.
    """
    if "parity_cell" in _params(item):
        return 3
    if _waits(item):
        return 2
    return int(item.path.parent.name in BUSY or "parity" in getattr(item, "fixturenames", ()))


def _waits(item: pytest.Item) -> bool:
    return item.get_closest_marker("asks") is not None or "warm" in getattr(item, "fixturenames", ())


def _params(item: pytest.Item) -> dict[str, Any]:
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else dict(callspec.params)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(_LEFT_OUT, 0):
        terminalreporter.write_line(f"slow tests: {count} deselected: {SLOW}")
    for what, times in Counter(config.stash.get(_RENEWED, [])).items():
        terminalreporter.write_line(f"a process was begun anew, {times} times: {what}")


@pytest.fixture(scope="session")
def warm(request: pytest.FixtureRequest) -> Iterator[Warm]:
    """A process of each framework, kept: see ``parity.tests.warm``."""
    from parity.tests.warm import Warm

    with Warm() as found:
        request.config.stash[_RENEWED] = found.renewed
        yield found


@pytest.fixture(scope="session")
def parity_executor(parity_executor: Executor, request: pytest.FixtureRequest, warm: Warm) -> Executor:
    """The ladder is climbed by the processes that answer the other tests, too."""
    return warm if request.config.getoption("--parity-suite") == "impls" else parity_executor


_PUT = pytest.StashKey[dict[str, "Future[Any]"]]()


@pytest.fixture(scope="session", autouse=True)
def _begin(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Put the questions of all tests to their frameworks, and send the cells up the ladder, before the first test."""
    found = request.config.stash.setdefault(_PUT, {})
    asking = [item for item in request.session.items if item.get_closest_marker("asks")]
    if asking:
        from parity.tests.warm import put

        warm = request.getfixturevalue("warm")
        for item in asking:
            found[item.nodeid] = put(warm, item, lambda: tmp_path_factory.mktemp("asked"))
    if any("parity_cell" in _params(item) for item in request.session.items):
        request.getfixturevalue("parity_climbs")


@pytest.fixture
def answer(request: pytest.FixtureRequest) -> Any:
    """What a framework's process says to the question of this test's mark ``asks``."""
    from parity.running.executor import WorkerError

    try:
        return request.config.stash[_PUT][request.node.nodeid].result()
    except WorkerError as error:
        pytest.fail(f"{error}\n{error.trace}", pytrace=False)
