"""Recordings changed at random come to a verdict or to an error of ours: no crash, no false PASS, no hang."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from parity.judging.verdict import Judgement, Verdict
from parity.recording.writer import write
from parity.tests.fuzzing import fuzz as fuzzing
from parity.tests.fuzzing.fuzz import fuzz
from parity.tests.fuzzing.oracle import may_pass

MEMORY = 256
"""The MiB that the process may grow by."""
KEPT = [
    (101, 57398),  # a loss that is a NaN that signals
    (102, 49597),  # likewise, where the floor is looked at
    (301, 344),  # values that overflow where tensors are told apart
    (301, 607),  # gradients that are not finite, likewise
    (301, 2024),  # a gradient of another shape than its parameter
    (501, 3597),  # a gradient without values
    (501, 6640),  # a gradient so large that all others are small beside it, which no other run may be held to
    (0, 43),  # a parameter that moves and has no partner
    (0, 49),  # an arrangement that no slot can say
    (3, 85),  # a tensor whose squares overflow: NumPy warned in the middle of an explanation
    (1, 5193),  # the loss of an update is one number in an axis
    (1, 12377),  # a difference that overflows
    (1, 14196),  # the rows of a batch are one number
    (0, 22847),  # the metadata of a file of floors are null
    (0, 54988),  # a variance that would be unbiased of infinitely many values
    (0, 27438),  # a gradient has the shape of its parameter in one run, and another one in the other
]
"""The seed and the number of each mutation that once went wrong."""


def sound(found: fuzzing.Found) -> None:
    assert found.sound, f"{found}\n{next(iter(found.crashes.values()), '')}"
    assert found.memory < MEMORY


@pytest.mark.parametrize(("seed", "number"), KEPT)
def test_what_once_went_wrong_does_so_no_more(seed: int, number: int) -> None:
    sound(fuzz(range(number, number + 1), seed))


@pytest.mark.slow
def test_changed_recordings_come_to_a_verdict_or_are_refused() -> None:
    found = fuzz(range(100), seed=7)
    sound(found)
    assert {"PASS", "FAIL", "refused", "folder reported"} <= set(found.verdicts)


@pytest.mark.slow
def test_many_changed_recordings_come_to_a_verdict_or_are_refused() -> None:
    """As many as there is time for in a minute; ``tox -e fuzz`` takes an hour."""
    end = time.monotonic() + 60
    sound(fuzz(itertools.takewhile(lambda number: time.monotonic() < end, itertools.count()), seed=8))


@pytest.mark.slow
def test_what_goes_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fuzzing.compare

    def lenient(*folders: Path) -> object:
        found = honest(*folders)
        object.__setattr__(found, "judgement", Judgement(Verdict.PASS, ratio=0.0))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(fuzzing, "compare", lenient)
        assert fuzz(range(60), seed=7).passed
    with monkeypatch.context() as patched:
        patched.setattr(fuzzing, "print_diff", lambda console, found: {}["no such name"])
        found = fuzz(range(60), seed=7)
        assert all("KeyError: 'no such name'" in trace for trace in found.crashes.values())
        assert found.crashes
    with monkeypatch.context() as patched:
        patched.setattr(fuzzing, "SECONDS", 1)
        patched.setattr(fuzzing, "print_diff", lambda console, found: time.sleep(30))
        numbers = [number for number in range(60) if number in found.crashes][:1]
        assert fuzz(iter(numbers), seed=7).hangs == numbers


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_the_oracle_allows_roundings_and_no_more(tmp_path: Path, dtype: str) -> None:
    unit = np.finfo(dtype).eps / 2
    for name, change in (("a", 0), ("near", 100 * unit), ("far", 300 * unit)):
        values = np.array([[1.0, 0.5], [1.0, 0.5]], dtype)
        values[1, 0] += np.dtype(dtype).type(change)
        write(tmp_path / name, np.arange(2), np.ones((1, 1)), {"w": values}, meta={"dtype": dtype})
    assert may_pass(tmp_path / "near", tmp_path / "a")
    assert not may_pass(tmp_path / "far", tmp_path / "a")
    write(tmp_path / "other", np.arange(2), np.ones((1, 1)), {"v": values}, meta={"dtype": dtype})
    assert not may_pass(tmp_path / "other", tmp_path / "a")
