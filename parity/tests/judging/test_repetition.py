"""A run that is no repetition excuses nothing: not an older port, nor one with another setting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.verdict import Verdict
from parity.recorder import Recorder
from parity.spec import Sgd
from parity.tests.judging.networks import Loop
from parity.tolerance import stir
from parity.trajectory import TrajectoryError


def regression(
    folder: Path, rate: float, deep: int = 5, seed: int | None = None, said: float | None = None, turned: bool = False
) -> Path:
    x, y = np.random.RandomState(0).normal(size=(64, 3)), np.random.RandomState(1).normal(size=(64, 1))
    if turned:  # the rows are added up in another order
        x, y = x[::-1], y[::-1]
    kernel = np.full((3, 1), 0.5)
    if seed is not None:
        kernel = stir(kernel, np.random.default_rng(seed), "float64")
    with Recorder(folder, "float64", deep=deep, optimizer=None if said is None else Sgd(said)) as run:
        run.snapshot({"kernel": kernel})
        for _ in range(5):
            error = x @ kernel - y
            gradient = 2 * x.T @ error / len(x)
            run.step(
                np.mean(error**2),
                rows=np.arange(64),
                prediction=error + y,
                gradients={"kernel": gradient},
                params={"kernel": kernel},
            )
            kernel = kernel - rate * gradient
            run.snapshot({"kernel": kernel})
    return folder


@pytest.mark.parametrize("deep", [0, 5])
def test_an_older_port_is_no_repetition(deep: int, tmp_path: Path) -> None:
    right, wrong, older = (
        regression(tmp_path / name, rate, deep) for name, rate in (("right", 0.1), ("wrong", 0.09), ("older", 0.07))
    )
    with pytest.raises(TrajectoryError, match="is no repetition of these runs, because it parts faster than rounding"):
        compare(wrong, right, [older])


def test_a_run_of_another_declared_optimizer_is_no_repetition(tmp_path: Path) -> None:
    right = regression(tmp_path / "right", 0.1, said=0.1)
    other = regression(tmp_path / "other", 0.1, seed=1, said=0.2)
    with pytest.raises(TrajectoryError, match="is no repetition of these runs: optimizer differs"):
        compare(regression(tmp_path / "b", 0.1, said=0.1), right, [other])


@pytest.mark.parametrize("deep", [0, 5])
def test_a_repetition_is_one_and_its_width_is_said(deep: int, tmp_path: Path) -> None:
    right = regression(tmp_path / "right", 0.1, deep)
    noise = [regression(tmp_path / f"n{seed}", 0.1, deep, seed) for seed in range(3)]
    found = compare(regression(tmp_path / "b", 0.1, deep, turned=True), right, noise)
    assert found.judgement.verdict is Verdict.PASS
    assert any(note.startswith("the widest tolerance is that of kernel, ") for note in found.notes)
    wrong = compare(regression(tmp_path / "wrong", 0.09, deep), right, noise)
    assert wrong.judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize("mistake", [{"adam_epsilon": 1e-6}, {"rate": 2.0**-5 * 0.99}, {"epsilon": 1e-3}])
def test_another_mistake_is_no_repetition(mistake: dict[str, float], tmp_path: Path) -> None:
    loop = Loop(rule="adam")
    right, wrong = loop.record(tmp_path / "right"), loop.with_(other=True, decay=0.01).record(tmp_path / "wrong")
    with pytest.raises(TrajectoryError, match="is no repetition of these runs"):
        compare(wrong, right, [loop.with_(stirred=1, **mistake).record(tmp_path / "another")])


def test_a_repetition_lacks_what_its_own_run_lacks(tmp_path: Path) -> None:
    loop = Loop(axis=1)
    right, wrong = loop.record(tmp_path / "right"), loop.with_(without="output/bias").record(tmp_path / "wrong")
    noise = [loop.with_(stirred=1).record(tmp_path / "noise")]
    assert "have no partner and were not compared: output/bias" in compare(wrong, right, noise).judgement.reason
