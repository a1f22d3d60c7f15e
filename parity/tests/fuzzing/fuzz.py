"""Change recordings at random, and see that nothing but a verdict or an error of ours comes of it."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Protocol

from parity.explaining.folders import explain_folders
from parity.judging.diff import compare
from parity.judging.floors.known import NOTHING
from parity.judging.folder import recorded
from parity.judging.outcome import Outcome, as_json
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.report.formats import FORMATS
from parity.report.html import page
from parity.report.terminal import make_console, print_diff, print_explanation, print_matrix, print_summary
from parity.suite import Suite
from parity.tests.fuzzing.mutations import mutate
from parity.tests.fuzzing.oracle import may_pass
from parity.tests.fuzzing.subjects import Tree, folder_of_runs, put, subjects
from parity.trajectory import TrajectoryError

SECONDS = 20
"""One mutation that takes longer hangs."""
EXPLAINED = 0.3
"""The share of pairs that are explained, too."""
PAGES = 25
"""One folder in so many is written as a page, too."""
Progress = Callable[[int, "Found"], None]


def asked(arguments: list[str], count: int, about: str) -> tuple[range, int]:
    """Read a command's arguments: which mutations are made, and their seed. It ends where these are none."""
    parser = argparse.ArgumentParser(description=about)
    many = "how many mutations, or =NUMBER for one of them alone (default: %(default)s)"
    parser.add_argument("count", metavar="COUNT", type=_numbers, nargs="?", default=str(count), help=many)
    parser.add_argument("seed", metavar="SEED", type=int, nargs="?", default=0, help="default: %(default)s")
    given = parser.parse_args(arguments)
    return given.count, given.seed


def _numbers(text: str) -> range:
    number = int(text.removeprefix("="))
    return range(number, number + 1) if text.startswith("=") else range(number)


class Fuzzer(Protocol):
    """What is changed at random."""

    def one(self, random: Random) -> str:
        """Make one mutation, and say what came of it."""
        ...


class _Hangs(BaseException):
    """Raised by the alarm: no handler of ``Exception`` may swallow it."""


@dataclass
class Found:
    """What came of all mutations: their number by what was said, and the numbers of those that went wrong."""

    verdicts: Counter[str] = field(default_factory=Counter)
    crashes: dict[int, str] = field(default_factory=dict)
    passed: list[int] = field(default_factory=list)
    hangs: list[int] = field(default_factory=list)
    slowest: float = 0.0
    start: int = field(default_factory=lambda: _peak())

    @property
    def memory(self) -> int:
        """By how many MiB the process has grown at its peak since the first mutation."""
        return _peak() - self.start

    @property
    def sound(self) -> bool:
        return not (self.crashes or self.passed or self.hangs)

    def __str__(self) -> str:
        said = ", ".join(f"{count:,} {what}" for what, count in sorted(self.verdicts.items()))
        wrong = f"{len(self.crashes)} crashes, {len(self.passed)} false PASS, {len(self.hangs)} hangs"
        return f"{said}: {wrong}; slowest {self.slowest:.1f} s, {self.memory} MiB more at the peak"


def fuzz(
    numbers: Iterator[int] | range,
    seed: int = 0,
    progress: Progress = lambda number, found: None,
    make: Callable[[Path], Fuzzer] | None = None,
) -> Found:
    """Make the mutations of these numbers. Each follows from its number and the seed alone.

    ``make`` gives what changes something, in an empty folder: a recording unless told.
    """
    memory = Path("/dev/shm")
    with (
        warnings.catch_warnings(),
        tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as scratch,
        _alarm(),
    ):
        # A warning of NumPy's would be written between the lines of a verdict.
        warnings.simplefilter("error")
        fuzzer = (make or _Fuzzer)(Path(scratch))
        found = Found()
        for number in numbers:
            begun = time.perf_counter()
            signal.alarm(SECONDS)
            try:
                found.verdicts[fuzzer.one(Random(f"{seed} {number}"))] += 1
            except _FalsePassError:
                found.passed.append(number)
            except _Hangs:
                found.hangs.append(number)
            except Exception:
                found.crashes[number] = traceback.format_exc()
            finally:
                signal.alarm(0)
            found.slowest = max(found.slowest, time.perf_counter() - begun)
            progress(number, found)
    return found


class _FalsePassError(Exception):
    """A changed run passed against the one that it was."""


class _Fuzzer:
    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.subjects = subjects(scratch / "subjects")
        self.folder = folder_of_runs(scratch / "folder")
        for subject in self.subjects:
            put(subject.run, scratch / subject.name)
            put(subject.other, scratch / f"other-{subject.name}")

    def one(self, random: Random) -> str:
        return self._report(random) if random.random() < 0.2 else self._pair(random)

    def _pair(self, random: Random) -> str:
        """Change a run, and hold it against the one that it was and against another."""
        subject = random.choice(self.subjects)
        changed = self._changed(dict(subject.run), random)
        original, other = self.scratch / subject.name, self.scratch / f"other-{subject.name}"
        said = "refused"
        with contextlib.suppress(TrajectoryError):
            # What is read whole can be used whole.
            run = read(changed, partial=True)
            for values in (*run.params.values(), *run.metrics.values(), *run.steps.values()):
                _ = values[:] if values.shape else values
            found = compare(changed, original)
            json.dumps(found.as_json())
            said = str(found.judgement.verdict)
            if found.judgement.verdict is Verdict.PASS and not may_pass(changed, original):
                raise _FalsePassError
            print_diff(_console(), [found])
        if random.random() > EXPLAINED:
            return said
        with contextlib.suppress(TrajectoryError):
            pair = (changed, other) if random.random() < 0.5 else (other, changed)
            comparison, explanation = explain_folders(NOTHING, *pair, (), None, _unasked)
            print_explanation(_console(), str(pair), comparison.judgement, explanation)
            json.dumps(explanation)
        return said

    def _report(self, random: Random) -> str:
        """Change a folder of runs, and report it in every form."""
        changed = self._changed(dict(self.folder), random)
        try:
            outcomes = recorded(changed, Suite("impls", "numpy", {}, None))
        except TrajectoryError:
            return "folder refused"
        _in_every_form(outcomes, whole=random.randrange(PAGES) == 0)
        return "folder reported"

    def _changed(self, tree: Tree, random: Random) -> Path:
        mutate(tree, random)
        changed = self.scratch / "changed"
        shutil.rmtree(changed, ignore_errors=True)
        put(tree, changed)
        return changed


def _in_every_form(outcomes: list[Outcome], whole: bool) -> None:
    console = _console()
    print_matrix(console, outcomes)
    print_summary(console, outcomes, 1.0)
    json.dumps(as_json(outcomes))
    for form in FORMATS.values():
        form(outcomes).encode()
    if whole:
        page(outcomes).encode()


def _console():
    console = make_console()
    console.file = io.StringIO()
    return console


def _unasked(*arguments: object) -> dict[str, object]:
    raise AssertionError("without a suite no mistake is replayed on a reference")


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _Hangs

    before = signal.signal(signal.SIGALRM, ring)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
