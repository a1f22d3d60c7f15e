"""What both runs hold is compared; what one of them lacks is named and keeps a PASS away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.shared import shared
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.tests.judging.networks import Loop
from parity.tests.judging.runs import make

LACKS = {
    "a parameter": ({"without": "output/bias"}, "output/bias"),
    "the last batch": ({"dropped": True}, "they are comparable up to epoch 1, batch 2"),
    "the last epochs": ({"epochs": 3}, "the runs hold 3 and 5 epochs"),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_both_hold_is_compared_and_the_rest_is_named(name: str, tmp_path: Path) -> None:
    changes, said = LACKS[name]
    right = Loop(dtype="float64").record(tmp_path / "a")
    loop = Loop(dtype="float64", other=True).with_(**changes)
    found = compare(loop.record(tmp_path / "b"), right).judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert said in found.reason
    assert "agrees" in found.reason
    wrong = compare(loop.with_(rate=loop.rate * 0.99).record(tmp_path / "b"), right)
    assert wrong.judgement.verdict is Verdict.FAIL
    assert any(said in note for note in wrong.notes)


def test_runs_are_compared_after_the_epochs_that_both_kept() -> None:
    a = make()
    places = [0, 2, 3]
    b = replace(a, epochs=a.epochs[places], params={name: stack[places] for name, stack in a.params.items()})
    found = shared(b, a)
    assert not isinstance(found, str)
    ours, theirs, said = found
    assert theirs.run.epochs.tolist() == places
    for name, stack in a.params.items():
        np.testing.assert_array_equal(theirs.run.params[name], stack[places])
        np.testing.assert_array_equal(ours.run.params[name], stack[places])
    assert said == [
        "snapshots were taken after other epochs: the runs hold 4 and 4 epochs, 3 and 5 snapshots, 3 of them after the "
        "same epochs"
    ]


def test_a_shape_that_does_not_fit_is_left_out_alone() -> None:
    a = make()
    b = replace(a, params={**a.params, "dense/kernel": np.swapaxes(a.params["dense/kernel"][:], 1, 2)})
    found = shared(b, a)
    assert not isinstance(found, str)
    assert set(found[0].run.params) == {"dense/bias", "scale"}
    assert found[2] == ["parameter dense/kernel has other shapes: (2, 3) and (3, 2)"]


@pytest.mark.parametrize(
    ("meta", "said"),
    [({"batch_order": "1"}, "the runs saw their batches in different orders"), ({}, "")],
)
def test_other_batches_make_nothing_comparable(meta: dict[str, Any], said: str) -> None:
    a, b = make(), make()
    found = shared(replace(b, meta={**b.meta, **meta}), replace(a, meta={**a.meta, "batch_order": "2"}))
    assert (found if isinstance(found, str) else "") == said


def test_a_dropped_batch_cuts_the_single_updates_too(tmp_path: Path) -> None:
    a, b = (read(loop.record(tmp_path / n)) for n, loop in (("a", Loop()), ("b", Loop(dropped=True))))
    found = shared(b, a)
    assert not isinstance(found, str)
    for part in found[:2]:
        names = {name.partition("/")[0] for name in part.run.steps}
        assert names == {"0", "1", "2", "3"}
        assert "3/loss" not in part.run.steps
        assert "3/params/hidden/bias" in part.run.steps
