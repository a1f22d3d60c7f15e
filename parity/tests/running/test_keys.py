"""What a run or a floor depends on is in its key, by its value, and nothing that differs from process to process."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import parity as package
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.running.jobs import CellName, Record
from parity.running.keys import fingerprint, harness, hyper_parameters, mark, said, steady
from parity.running.workers.messages import Task, write
from parity.running.workers.pool import Pool
from parity.running.workers.started import worker_environment
from parity.spec import Sgd
from parity.suite import Entry, Suite, SuiteError, load_suite
from parity.tests import toy
from parity.tests.command import Parity
from parity.tests.suites import CASE, HONEST, strict_json, write_suite

CASES = [entry.case for entry in load_suite("impls").entries.values()]


class InTurn:
    """A schedule as a user may write it: a plain class, whose ``repr`` has an address in it."""

    ordered = False

    def __init__(self, size: int, backwards: bool = False) -> None:
        self.size = size
        self._backwards = backwards

    def epochs(self, rows: int) -> Any:
        order = np.arange(rows)[:: -1 if self._backwards else 1]
        while True:
            yield tuple(order.reshape(-1, self.size))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_record_of_plain_values_is_said_as_it_says_itself(case: Any) -> None:
    for part, words in hyper_parameters(case).items():
        assert words == repr(getattr(case, part))


def test_a_plain_class_says_its_name_and_its_public_attributes() -> None:
    assert said(InTurn(4), "it") == "InTurn(size=4)"


class Slotted:
    __slots__ = ("_kept", "rate", "size")

    def __init__(self) -> None:
        self.rate, self._kept = 0.5, object()


@dataclass(frozen=True)
class Nested:
    inner: Any
    outer: tuple[int, ...] = (1,)


VALUES = [
    (Slotted(), "Slotted(rate=0.5)"),
    (Nested(InTurn(2)), "Nested(inner=InTurn(size=2), outer=(1,))"),
    ({"b": 1, "a": {2, 1}}, "{'a': set(1, 2), 'b': 1}"),
    (partial(np.arange, 3, dtype=np.int64), "partial(numpy.arange, (3,), {'dtype': numpy.int64})"),
    (Verdict.PASS, "Verdict.PASS"),
    (Path("a/b"), f"{type(Path()).__qualname__}('a/b')"),
    ([np.float32(0.5), 1 + 2j, b"x", None], "[np.float32(0.5), (1+2j), b'x', None]"),
]


@pytest.mark.parametrize(("value", "words"), VALUES, ids=[words for _, words in VALUES])
def test_values_are_said(value: Any, words: str) -> None:
    assert said(value, "it") == words


def test_an_array_is_said_by_its_bytes() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert said(array, "it") == said(array.copy(order="F"), "it")
    assert len({said(other, "it") for other in (array, array + 1, array.T, array.astype(np.float32))}) == 4


class Holding:
    def __init__(self, what: Any) -> None:
        self.what = what


class Circular:
    def __init__(self) -> None:
        self.what = self


@pytest.mark.parametrize(
    "value",
    [
        Holding(lambda rows: rows),
        Holding(np.random.RandomState(0)),
        Holding(np.random.default_rng(0)),
        Holding(random.Random(0)),
        Holding(object()),
        Holding(iter([1])),
        Holding(np.array([object()])),
        Circular(),
    ],
    ids=["lambda", "RandomState", "Generator", "Random", "object", "iterator", "array", "circle"],
)
def test_what_has_no_words_is_refused_and_never_an_address(value: Any) -> None:
    with pytest.raises(SuiteError, match=r"^the schedule of toy, a \w+, cannot be told from another: ") as caught:
        said(value, "the schedule of toy")
    assert "make it a dataclass of plain values" in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_schedule_counts_by_what_it_says_and_by_the_order_that_it_gives() -> None:
    def key(schedule: Any) -> str:
        return fingerprint(replace(toy.MOMENTUM, schedule=schedule), 6)

    assert key(InTurn(8)) == key(InTurn(8))
    assert len({key(one) for one in (InTurn(8), InTurn(4), InTurn(8, backwards=True))}) == 3


def test_an_optimizer_counts_by_its_values() -> None:
    keys = {fingerprint(replace(toy.MOMENTUM, optimizer=Sgd(rate)), 6) for rate in (0.1, 0.1, 0.2)}
    assert len(keys) == 2


def test_an_order_that_cannot_be_had_is_said_in_a_line() -> None:
    with pytest.raises(SuiteError, match=r"^the batch order of toy-sgd: cannot reshape"):
        fingerprint(replace(toy.MOMENTUM, schedule=InTurn(5)), 6)


DATA = toy.data()
EDITS: dict[str, Any] = {
    "labels in another order": {"data": lambda: replace(DATA, y=np.roll(DATA.y, 1, 0))},
    "rows in another order": {"data": lambda: replace(DATA, x=DATA.x[::-1], y=DATA.y[::-1])},
    "sorted columns": {"data": lambda: replace(DATA, x=np.sort(DATA.x, 0))},
    "a millionth more": {"data": lambda: replace(DATA, x=DATA.x * 1.000001)},
    "a sign": {"data": lambda: replace(DATA, x=DATA.x * np.where(np.arange(len(DATA.x)) == 3, -1, 1)[:, None])},
    "another shape": {"data": lambda: replace(DATA, y=DATA.y.ravel())},
    "other whole numbers": {"data": lambda: replace(DATA, y=np.arange(len(DATA.y)))},
    "those in another order": {"data": lambda: replace(DATA, y=np.arange(len(DATA.y))[::-1])},
    "held-out rows": {"data": lambda: replace(DATA, x_test=DATA.x, y_test=DATA.y)},
    "initial values in another order": {
        "initial": lambda: {name: value[::-1] for name, value in toy.MOMENTUM.initial().items()}
    },
    "initial values a millionth more": {
        "initial": lambda: {name: value * 1.000001 for name, value in toy.MOMENTUM.initial().items()}
    },
    "initial values under other names": {
        "initial": lambda: {f"{name}s": value for name, value in toy.MOMENTUM.initial().items()}
    },
    "batches in another order": {"schedule": InTurn(8)},
    "in the reverse order": {"schedule": InTurn(8, backwards=True)},
    "another rate": {"optimizer": Sgd(0.2)},
}


@pytest.mark.parametrize("shipped", [True, False], ids=["shipped", "not shipped"])
def test_every_edit_of_what_a_floor_is_measured_on_changes_its_mark(shipped: bool, tmp_path: Path) -> None:
    suite = Suite("mine", "numpy", {}, tmp_path if shipped else None)

    def marked(**changes: Any) -> str:
        return mark(suite, Entry(replace(toy.MOMENTUM, **changes), tmp_path / "toy" / "spec.py", {}), 3)

    marks = {"": marked()} | {name: marked(**changes) for name, changes in EDITS.items()}
    assert marked() == marks[""]
    assert len(set(marks.values())) == len(marks)


class Late(InTurn):
    """A schedule that turns round in its third epoch, which no attribute says."""

    def epochs(self, rows: int) -> Any:
        for epoch, batches in enumerate(InTurn(self.size).epochs(rows)):
            yield batches[::-1] if epoch >= 2 and self._backwards else batches


def test_a_mark_has_the_order_of_every_batch(tmp_path: Path) -> None:
    suite, cases = Suite("mine", "numpy", {}, None), []
    for backwards in (False, True):
        schedule = Late(8, backwards)
        cases.append(Entry(replace(toy.MOMENTUM, schedule=schedule), tmp_path / "toy" / "spec.py", {}))
    assert mark(suite, cases[0], 2) == mark(suite, cases[1], 2)
    assert mark(suite, cases[0], 3) != mark(suite, cases[1], 3)


def test_a_last_bit_of_another_machine_leaves_a_shipped_mark() -> None:
    """As its sine, its logarithm or the order of its sums may differ; byte order and memory layout, too."""
    values = np.random.default_rng(0).normal(size=(1000, 3)) * [1e-3, 1, 1e6]
    for other in (
        np.nextafter(values, np.inf),
        np.nextafter(values, -np.inf),
        values * (1 + 1e-15),
        values.astype(values.dtype.newbyteorder(">")),
        np.asfortranarray(values),
    ):
        assert steady(other) == steady(values)
    assert steady(np.array([0.0, -0.0, np.nan, np.inf])) == steady(np.array([-0.0, 0.0, -np.nan, np.inf]))
    assert steady(np.arange(3, dtype=">i8")) == steady(np.arange(3))
    for other in (values * (1 + 1e-8), np.where(np.arange(1000)[:, None] == 7, values * (1 - 1e-6), values), -values):
        assert steady(other) != steady(values)


SPEC = """
from dataclasses import replace
from parity.tests import toy
from parity.tests.running.test_keys import InTurn
CASES = (replace(toy.MOMENTUM, schedule={schedule}),)
"""


@pytest.mark.slow
def test_a_run_with_a_schedule_of_a_plain_class_is_kept(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another process: its floor fits, and nothing is run again."""
    name = write_suite(tmp_path, numpy_mine=HONEST)
    (tmp_path / name / "toy" / "spec.py").write_text(SPEC.format(schedule="InTurn(8)"))
    command = ["run", "--suite", name, "--out", "out", "--dtype", "float64", "--no-report", "--json", "-"]
    first = subprocess.run(
        [sys.executable, "-m", "parity", *command],
        cwd=tmp_path,
        env=worker_environment("numpy", sys.path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    monkeypatch.setattr(Pool, "submit", None)  # Whoever asks for a job fails.
    second = parity(*command)
    assert second.status == 0
    assert strict_json(second.out) == strict_json(first.stdout)
    meta = read(tmp_path / "out" / CASE / "numpy-mine-float64-cpu").meta
    assert meta["hyper_parameters"]["schedule"] == "InTurn(size=8)"


def test_a_schedule_without_words_is_refused_before_anything_runs(parity: Parity, tmp_path: Path) -> None:
    name = write_suite(tmp_path)
    (tmp_path / name / "toy" / "spec.py").write_text(SPEC.format(schedule="InTurn(lambda: 8)"))
    result = parity("run", "--suite", name, "--out", "out")
    assert result.status == 2
    assert "parity: the schedule of toy-sgd, a InTurn, cannot be told from another" in result.err


RECORD = """
import json, sys
from parity.running.workers import messages
messages.read(sys.argv[1]).job.run(lambda progress: None)
print(json.dumps([module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "parity"]))
"""


@pytest.mark.parametrize("lockstep", [None, 2])
@pytest.mark.parametrize("dtype", ["float64", "checked"])
def test_every_module_that_a_worker_imports_for_a_run_is_in_its_key(
    tmp_path: Path, dtype: str, lockstep: int | None
) -> None:
    """With ``deep``, lockstep and the reference's check, which import what a plain run does not."""
    cell = CellName("impls", "iris-logistic", None, "numpy", dtype, "cpu")
    deep = 2 if dtype == "float64" and not lockstep else 0
    job = Record(cell, cell.environment, cell.resources, 2, str(tmp_path / "run"), {"dtype": "float64"}, lockstep, deep)
    begin = Path(package.__file__).parent / "running" / "workers" / "worker.py"
    done = subprocess.run(
        [sys.executable, "-c", f"import parity.running.workers.worker\n{RECORD}", write(Task(1, job))],
        env=worker_environment("numpy", sys.path),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    imported = {Path(file) for file in strict_json(done.stdout.splitlines()[-1])}
    hashed = set(harness())
    assert begin in imported
    assert imported <= hashed, sorted(str(path) for path in imported - hashed)
    trainers = Path(package.__file__).parent / "trainers"
    assert set(trainers.glob("*.py")) <= hashed
