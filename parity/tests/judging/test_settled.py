"""A failure that may be rounding is a doubt, with what to do about it; a mistake stays a failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.verdict import Judgement, Verdict
from parity.recorder import Recorder
from parity.tests.judging.networks import Loop
from parity.typing import Array

RATE = np.float32(0.125)
SLOPES = {"a/kernel": (1.0, -0.5, 0.25), "b/kernel": (0.75, 2.0)}


def straight(folder: Path, crossed: Array | None = None, layers: bool = True, epochs: int = 12) -> Path:
    """Descend a slope that is the same everywhere, but that one gradient of update 4 is off as a crossed kink's is."""
    params = {name: np.ones(len(slope), np.float32) for name, slope in SLOPES.items()}
    slopes = {name: np.array(slope, np.float32) for name, slope in SLOPES.items()}
    active = np.array([1e-9, 0.5, 2.0], np.float32)
    with Recorder(folder, "float32", deep=epochs) as run:
        run.snapshot(params)
        for update in range(epochs):
            here = update == 4 and crossed is not None
            gradients = slopes | ({"a/kernel": slopes["a/kernel"] * crossed} if here else {})
            loss = sum(float(slopes[name].astype(np.float64) @ params[name]) for name in SLOPES)
            run.step(
                4 + loss,
                rows=[0],
                prediction=[0.0],
                gradients=gradients,
                params=params,
                activations={"relu": np.where(here & (active < 1e-6), -active, active)} if layers else None,
            )
            params = {name: value - RATE * gradients[name] for name, value in params.items()}
            run.snapshot(params)
    return folder


@pytest.mark.parametrize("layers", [True, False])
def test_a_kink_that_rounding_crossed_is_a_doubt_and_said(layers: bool, tmp_path: Path) -> None:
    a = straight(tmp_path / "a", layers=layers)
    b = straight(tmp_path / "b", np.array([1.02, 1.0, 1.0], np.float32), layers)
    found = compare(b, a).judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "in update 4 the gradient of a/kernel parts at once by 0.02 of its largest value" in found.reason
    what = "1 of 3 values of the layer relu lies on the other side of zero" if layers else "as where rounding crosses"
    assert what in found.reason
    assert "run.step of parity.watch" in found.reason


def test_a_rate_that_is_wrong_from_the_same_update_on_fails(tmp_path: Path) -> None:
    a = Loop(axis=1).record(tmp_path / "a")
    b = Loop(axis=1, other=True, faster_from=4).record(tmp_path / "b")
    assert compare(b, a).judgement.verdict is Verdict.FAIL


def shallow(folder: Path, values: Array, losses: Array, dtype: str, every: int = 1) -> Path:
    with Recorder(folder, dtype) as run:
        for epoch, value in enumerate(values):
            for batch in range(every if epoch else 0):
                run.step(losses[(epoch - 1) * every + batch])
            run.snapshot({"kernel": np.array([value], dtype)})
    return folder


def judged(tmp_path: Path, apart: Array, dtype: str = "float32", losses_apart: Array | None = None) -> Judgement:
    """Judge two runs without gradients, so far apart after each update."""
    moved = 1 + 0.1 * np.arange(len(apart))
    losses = 2.0 + 0.1 * np.arange(len(apart) - 1)
    a = shallow(tmp_path / "a", moved, losses, dtype)
    off = np.zeros(len(losses)) if losses_apart is None else losses_apart
    return compare(shallow(tmp_path / "b", moved + apart, losses + off, dtype), a).judgement


ROUNDING = 2.0**-24


def test_what_grows_as_rounding_does_is_a_doubt(tmp_path: Path) -> None:
    found = judged(tmp_path, np.r_[0, 8 * ROUNDING * 2.0 ** np.arange(9)])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "grew no faster than rounding can" in found.reason


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_there_at_once_fails(dtype: str, tmp_path: Path) -> None:
    losses = np.r_[0, np.full(8, 0.05)]
    assert judged(tmp_path, np.r_[0, np.full(9, 0.05)], dtype, losses).verdict is Verdict.FAIL


def test_a_loss_that_differs_before_any_update_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, np.zeros(10), "float32", np.full(9, 1e-4)).verdict is Verdict.FAIL


def test_a_mistake_of_a_later_update_fails(tmp_path: Path) -> None:
    late = np.r_[np.zeros(6), np.full(3, 0.05)]
    assert judged(tmp_path, np.r_[0, late], "float32", late).verdict is Verdict.FAIL


def test_a_parameter_alone_that_nobody_recorded_gradients_of_is_a_doubt(tmp_path: Path) -> None:
    """Adam moves one whose gradient is zero by rounding alone, and no loss shows it."""
    apart = 0.05 * np.arange(10)
    assert judged(tmp_path, apart, "float32", np.full(9, 2 * ROUNDING)).verdict is Verdict.INCONCLUSIVE


def test_what_is_not_finite_is_no_rounding(tmp_path: Path) -> None:
    apart = np.zeros(10)
    apart[5] = np.nan
    assert judged(tmp_path, apart).verdict is Verdict.FAIL
