"""Metrics: compared where the judgement is asked to, with floors of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import Floor
from parity.judging.verdict import Verdict, judge
from parity.tests.judging.runs import floor_of, make, put
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory


def with_metrics(**values: Any) -> tuple[Trajectory, Floor]:
    """A run with an accuracy of eighths, and a floor by which one row may change at epoch 2."""
    run = make()
    run.metrics["accuracy"] = np.array([0.5, 0.5, 0.625, 0.75, 0.75])
    floor = replace(floor_of(run), metrics={"accuracy": np.array([0, 0, 0.125, 0, 0]) / FACTOR})
    return run, floor


@pytest.mark.parametrize(
    ("epoch", "value", "verdict"),
    [
        (2, 0.5, Verdict.PASS),
        (2, 0.75, Verdict.PASS),
        (2, 0.875, Verdict.FAIL),
        (3, 0.625, Verdict.FAIL),
        (0, 0.625, Verdict.FAIL),
        (2, np.nan, Verdict.FAIL),
        (4, np.inf, Verdict.FAIL),
    ],
)
def test_a_metric_may_be_off_by_its_rows_and_no_more(epoch: int, value: float, verdict: Verdict) -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.metrics["accuracy"][epoch] = value
    found = judge(run, reference, floor, metrics=True)
    assert found.verdict is verdict
    assert (found.parameter, found.epoch) == ("metrics/accuracy", epoch)
    if np.isfinite(value) and verdict is Verdict.FAIL:
        assert f"at epoch {epoch}: metrics/accuracy is {value:.9g}, the reference has" in found.reason
    assert judge(run, reference, floor).verdict is Verdict.PASS
    # Where parameters are not asserted, what is made of them is not.
    assert judge(run, reference, floor, params=False, metrics=True).verdict is Verdict.PASS


def test_a_parameter_that_is_off_is_said_before_a_metric_that_follows() -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.params["scale"] = np.array(run.params["scale"])
    put(run, ("scale", 3), float(run.params["scale"][3]) + 1.0)
    run.metrics["accuracy"][3] = 0.0
    found = judge(run, reference, floor, metrics=True)
    assert (found.parameter, found.epoch) == ("scale", 3)
    assert found.ratio is not None
    assert np.isfinite(found.ratio)


def test_a_metric_without_a_value_equals_its_like_alone() -> None:
    reference, floor = with_metrics()
    reference.metrics["accuracy"][4] = np.nan
    run, _ = with_metrics()
    assert judge(run, reference, floor, metrics=True).verdict is Verdict.FAIL
    run.metrics["accuracy"][4] = np.nan
    assert judge(run, reference, floor, metrics=True).verdict is Verdict.PASS


def test_metrics_that_are_not_on_both_sides_or_have_no_floor_are_a_doubt() -> None:
    reference, floor = with_metrics()
    without, bare = make(), floor_of(make())
    for run, other, of, said in (
        (without, reference, floor, "metric accuracy is missing from the first run"),
        (reference, without, floor, "metric accuracy is missing from the second run"),
        (reference, reference, bare, "the noise floor was measured without the metric accuracy"),
    ):
        found = judge(run, other, of, metrics=True)
        assert (found.verdict, said in found.reason) == (Verdict.INCONCLUSIVE, True)
    assert judge(without, without, bare, metrics=True).verdict is Verdict.PASS


def test_a_metric_is_compared_as_far_as_its_floor_reaches() -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.metrics["accuracy"][4] = 0.0
    short = replace(floor, metrics={"accuracy": floor.metrics["accuracy"][:3]})
    found = judge(run, reference, short, metrics=True)
    assert (found.verdict, found.note) == (Verdict.PASS, "metrics were compared up to epoch 2")
