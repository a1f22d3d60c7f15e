"""Start-up: the most used commands, as processes that take turns with the import of NumPy."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

from benchmarks.measuring import CLOCK, take

COMMANDS = {
    "python": ("-c", "pass"),
    "import parity": ("-c", "import parity"),
    "import numpy": ("-c", "import numpy"),
    "parity --help": ("-m", "parity", "--help"),
    "parity list": ("-m", "parity", "list"),
}


def process(*arguments: str) -> float:
    """Seconds from start to end of a Python process; CalledProcessError where it fails."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True)
    return time.perf_counter() - begun


@pytest.fixture(scope="module")
def measured(quick: bool) -> dict[str, list[float]]:
    """The seconds of every command, round by round. The first round reads from disk and is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(5 if quick else 11):
        for name, arguments in COMMANDS.items():
            taken = process(*arguments)
            if number:
                seconds[name].append(taken)
    return seconds


@pytest.mark.benchmark(group="start-up", timer=CLOCK)
@pytest.mark.parametrize("command", COMMANDS)
def test_startup(benchmark: Any, command: str, measured: dict[str, list[float]]) -> None:
    take(benchmark, measured[command])
    peer = {"import_numpy_seconds": measured["import numpy"]} if command != "import numpy" else {}
    benchmark.extra_info |= {"command": command, **peer}
