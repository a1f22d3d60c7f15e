"""Runs of ports that tests ask for, each trained once in a process of its framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import framework_of
from parity.running.executor import Environment
from parity.tests.warm import Warm


class Runs:
    """Gives the folder of a port's run; ``recorded`` makes it, where its framework is."""

    def __init__(self, recorded: Callable[..., Any], warm: Warm, factory: pytest.TempPathFactory) -> None:
        self._recorded, self._warm, self._factory = recorded, warm, factory

    def __call__(self, label: str, model: str, mistake: str = "", **arguments: str) -> Path:
        where = Environment(framework_of(label).name, "cpu")
        asked = {"label": label, "model": model, "mistake": mistake, **arguments}
        port = self._warm.ask(self._recorded, where, asked, folder=lambda: self._factory.mktemp("port"))
        return Path(port.result())
