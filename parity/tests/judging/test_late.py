"""Running statistics that one loop hands over after its forward pass are held against those of the same moment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.explaining.explain import walk_pair
from parity.judging.diff import compare
from parity.judging.updates.late import handed_late, in_step
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.recording.steps import Phase, steps_of
from parity.tests.command import Parity
from parity.tests.judging.networks import Loop

KEPT = Loop(momentum=0.1)
LATE = KEPT.with_(other=True, late=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("first", [True, False])
def test_a_loop_that_hands_over_statistics_late_agrees(first: bool, dtype: str, tmp_path: Path) -> None:
    for seed in range(3):
        late = LATE.with_(dtype=dtype, seed=seed).record(tmp_path / "late")
        other = KEPT.with_(dtype=dtype, seed=seed).record(tmp_path / "other")
        found = compare(*((late, other) if first else (other, late)))
        assert found.judgement.verdict is Verdict.PASS, found.judgement
        (note,) = (note for note in found.notes if "after the forward pass" in note)
        assert f"the {'first' if first else 'second'} run hands norm/mean, norm/variance to Recorder.step" in note
        assert "copy them before the forward pass" in note


def test_two_loops_that_both_do_so_are_as_they_are(tmp_path: Path) -> None:
    found = compare(LATE.record(tmp_path / "b"), LATE.with_(other=False).record(tmp_path / "a"))
    assert found.judgement.verdict is Verdict.PASS
    assert not any("after the forward pass" in note for note in found.notes)


@pytest.mark.parametrize(
    ("wrong", "tensor"),
    [({"momentum": 0.11}, "norm/mean"), ({"momentum": 0.9}, "norm/mean"), ({"unbiased": True}, "norm/variance")],
)
def test_statistics_that_are_wrong_besides_still_fail(wrong: dict[str, float], tensor: str, tmp_path: Path) -> None:
    found = compare(LATE.with_(**wrong).record(tmp_path / "b"), KEPT.record(tmp_path / "a"))
    assert found.judgement.verdict is Verdict.FAIL
    assert found.judgement.parameter == tensor


def test_another_mistake_is_put_where_it_is(tmp_path: Path, parity: Parity) -> None:
    b, a = LATE.with_(faster_from=10).record(tmp_path / "b"), KEPT.record(tmp_path / "a")
    said = parity("explain", b, a)
    assert said.status == 1
    assert "epoch 3, batch 2, update of" in said.out, said.out
    place = walk_pair(*in_step(read(b), read(a))[:2])
    assert place is not None
    assert (place.phase, 4 * (place.epoch - 1) + place.batch) == (Phase.UPDATE, 10)


def test_what_a_late_run_holds_is_moved_by_one_update(tmp_path: Path) -> None:
    late, other = read(LATE.record(tmp_path / "late")), read(KEPT.with_(other=True).record(tmp_path / "other"))
    assert handed_late(late) == {"norm/mean", "norm/variance"}
    assert not handed_late(other)
    moved, kept, _ = in_step(late, other)
    assert kept is other
    for one, same in zip(steps_of(moved), steps_of(other), strict=True):
        for name in one.before.params:
            np.testing.assert_array_equal(one.before.params[name], same.before.params[name])
            np.testing.assert_array_equal(one.after.params[name], same.after.params[name])
