"""What tests of every wing share, and those that need a GPU: left out unless asked for or where none is seen."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from parity.frameworks import FRAMEWORKS
from parity.running.versions import Versions, find_devices
from parity.tests.command import parity

__all__ = ["parity"]  # a fixture
HERE = Path(__file__).parent
_SAID = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in the project's settings: a user runs the ladder by --pyargs, in a project with settings of its own.
    config.addinivalue_line("markers", "gpu: needs a CUDA device")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    said = config.stash.setdefault(_SAID, [])
    # A user who runs these tests beside their own may mean something else by the mark.
    marked = [item for item in items if item.get_closest_marker("gpu") and item.path.is_relative_to(HERE)]
    if not marked:
        return
    if "gpu" not in config.getoption("-m"):
        said.append(f"{len(marked)} deselected: run them with '-m gpu' on a machine with a CUDA device")
        left_out = marked
    else:
        blind = {name: why for name in {_framework(item) for item in marked} if (why := _blind(config, name))}
        left_out = [item for item in marked if _framework(item) in blind]
        counts = Counter(map(_framework, left_out))
        said += [f"{counts[name]} of {name} deselected: {why}" for name, why in sorted(blind.items())]
        if len(left_out) == len(marked):
            said.append("nothing was run: no framework here sees a CUDA device")
    config.hook.pytest_deselected(items=left_out)
    gone = set(left_out)
    items[:] = [item for item in items if item not in gone]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(_SAID, []):
        terminalreporter.write_line(f"gpu tests: {line}")


def _framework(item: pytest.Item) -> str:
    assert isinstance(item, pytest.Function)
    return str(item.callspec.params["framework"])


def _blind(config: pytest.Config, name: str) -> str:
    """Why a framework cannot run the tests here, asked in a process of its own; nothing where it can."""
    (framework,) = (known for known in FRAMEWORKS if known.name == name)
    label = next(iter(framework.packages))
    if config.getoption("--parity-gpu-device") == "cpu":
        found = Versions({}).availability(label)
    else:
        found = find_devices(Versions({}), [label])[label]
    return "" if found.available else found.reason
