"""Run the suites with pytest, in this process, and show the progress."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.measuring import SUITE, why
from parity.report.terminal import progress_on
from parity.running.cells import Options
from parity.suite import load_suite

HERE = Path(__file__).parent
PARTS = tuple(sorted(path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")))
TRAINED = ("training", "recording", "matrix")
"""The parts that can be run for chosen cases and implementations."""


class BenchError(ValueError):
    """The benchmarks could not be run at all; the message says what to do."""


class _Watch:
    """A pytest plugin that shows progress: a bar in a terminal, else a line for every benchmark."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = progress_on(console, transient=True, disable=not console.is_terminal)
        self.task = self.progress.add_task("benchmarks", total=None, now="")
        self.reasons: list[str] = []
        self.stopped = False

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.progress.update(self.task, total=len(session.items))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            lines = report.longreprtext.strip().splitlines()
            errors = [line.removeprefix("E").strip() for line in lines if line.startswith("E ")]
            self.reasons.append(f"{report.nodeid}: {[*errors[-1:], *lines, 'it cannot be read'][0]}")

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self.stopped = excinfo.type is KeyboardInterrupt  # pytest has one of its own for what cannot be collected

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.progress.update(self.task, now=_name(nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown":
            self.progress.advance(self.task)
        if reason := why(report):
            self.reasons.append(f"{_name(report.nodeid)}: {reason}")
            self.console.print(f"not measured: {self.reasons[-1]}", markup=False, highlight=False)
        elif report.when == "call" and not self.console.is_terminal:
            self.console.print(f"{_name(report.nodeid)}: {report.duration:.0f} s", markup=False, highlight=False)


def _name(nodeid: str) -> str:
    return nodeid.rsplit("::", 1)[-1].removeprefix("test_")


def run(
    file: Path, quick: bool, cases: Sequence[str], labels: Sequence[str], parts: Sequence[str], console: Console
) -> None:
    """Run the suites and write pytest-benchmark's JSON to ``file``.

    Args:
        file: Where the result goes. It also says which benchmarks gave no figure, and why.
        quick: Run few cases and few rounds.
        cases: Only these cases; all of them if empty.
        labels: Only these implementations; all of them if empty.
        parts: Only these suites, from ``PARTS``. If empty, all of them; with cases or labels, those in ``TRAINED``.
        console: Shows the progress.

    Raises:
        SuiteError: A case or implementation is unknown.
        BenchError: A part is unknown, or nothing was measured.
    """
    Options(load_suite(SUITE), Path(), cases=cases, implementations=labels).entries()
    for part in parts:
        if part not in PARTS:
            raise BenchError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")
    suites = parts or ([part for part in PARTS if part in TRAINED] if cases or labels else PARTS)
    scratch = file.with_name(f".{file.name}.partial")
    scratch.unlink(missing_ok=True)
    arguments = [str(HERE / f"test_{part}.py") for part in suites]
    arguments += ["-q", "-p", "no:cacheprovider", "--capture=sys", f"--benchmark-json={scratch}"]
    # This process has imported the package that pytest would have rewritten; no benchmark asserts anything in it.
    arguments += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    # Where nothing was measured, the error below says why.
    arguments += ["-W", "ignore:Not saving anything"]
    arguments += ["--quick"] if quick else []
    arguments += [word for case in cases for word in ("--parity-case", case)]
    arguments += [word for label in labels for word in ("--parity-impl", label)]
    console.file = sys.stderr  # a console looks it up at each line, and below it is redirected
    log, watch = io.StringIO(), _Watch(console)
    with watch.progress, redirect_stdout(log), redirect_stderr(log):
        status = pytest.main(arguments, plugins=[watch])
    if watch.stopped:
        scratch.unlink(missing_ok=True)
        raise KeyboardInterrupt
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not scratch.exists():
        said = [line for line in log.getvalue().splitlines() if line.strip()]
        raise BenchError(f"nothing was measured: {[*watch.reasons, *reversed(said), 'no word why'][0]}")
    scratch.replace(file)
