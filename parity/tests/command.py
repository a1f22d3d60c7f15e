"""The command line called in this process, and what scripts rely on in what it says."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.cli.main import main
from parity.recording.writer import write


@dataclass
class Result:
    status: int
    out: str
    err: str


Parity = Callable[..., Result]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Parity]:
    """Calls ``parity`` in this process, from a folder of its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["parity", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert end.value.code is None or isinstance(end.value.code, int)
        return Result(end.value.code or 0, captured.out, captured.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def complaint(result: Result) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in result.out + result.err
    lines = [line for line in result.err.splitlines() if line.startswith(("parity: ", "Error: "))]
    assert len(lines) == 1, result.err
    # What click finds wrong is said after two lines of usage.
    assert result.err.splitlines()[-1] == lines[0]
    return lines[0]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Differences


def make_run(folder: Path, change: Callable[[dict[str, Any]], None] = lambda run: None, **meta: Any) -> Path:
    generator = np.random.default_rng(8)
    run: dict[str, Any] = {
        "epochs": np.arange(5),
        "loss": generator.normal(size=(4, 3)),
        "params": {"dense/kernel": generator.normal(size=(5, 3, 2)), "dense/bias": generator.normal(size=(5, 2))},
        "meta": {"case": "made-up", "implementation": folder.name, "device": "cpu", "dtype": "float64"} | meta,
    }
    change(run)
    write(folder, **run)
    return folder
