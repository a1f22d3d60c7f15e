"""The plugin comes with the installed package; a bare checkout loads it from here."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

installed = any(point.value == "parity.pytest_plugin" for point in entry_points(group="pytest11"))
pytest_plugins = () if installed else ("parity.pytest_plugin",)


def pytest_addoption(parser: pytest.Parser) -> None:
    if find_spec("pytest_timeout") is None:  # whose setting would be unknown, and unknown settings are errors
        parser.addini("timeout", "of pytest-timeout, which is not installed: tests may take as long as they like")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    # A machine with a GPU may lack what other tests import, such as hypothesis; they are not wanted there anyway.
    if config.getoption("-m") == "gpu" and collection_path.suffix == ".py":
        return None if "pytest.mark.gpu" in collection_path.read_text() else True
    return None
