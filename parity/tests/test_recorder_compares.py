"""Recordings of one's own are compared with each other and with repetitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from parity.recorder import Recorder
from parity.tests.by_hand import BATCHES, params, record
from parity.tests.command import Parity, complaint
from parity.tests.test_recorder_refuses import WHOLE


def test_two_recordings_of_ones_own_are_compared_and_their_orders_told_apart(parity: Parity, tmp_path: Path) -> None:
    record(tmp_path / "a"), record(tmp_path / "b")
    assert parity("diff", tmp_path / "a", tmp_path / "b").status == 0
    with Recorder(tmp_path / "c", "float32") as run:
        run.snapshot(params(0), metrics={"accuracy": 0.5})
        for epoch in range(1, 5):
            for batch in range(BATCHES):
                run.step(3 * (epoch - 1) + batch, rows=np.arange(4))
            run.snapshot(params(3 * epoch), metrics={"accuracy": 0.5})
    result = parity("diff", tmp_path / "a", tmp_path / "c")
    assert result.status == 3
    assert "batches in different orders" in result.out
    assert "the order of the batches differs: SHA-256 " in result.out


@pytest.mark.parametrize(("last", "alike"), [([3, 1], ", the same in another order"), ([3, 2], "")])
def test_the_first_batch_of_other_rows_is_shown(last: list[int], alike: str, parity: Parity, tmp_path: Path) -> None:
    for name, second in (("a", [1, 3]), ("b", last)):
        with Recorder(tmp_path / name, "float32", deep=2) as run:
            run.snapshot(params(0))
            for rows in ([0, 2], second):
                run.step(1.0, **{**WHOLE, "rows": rows})
            run.snapshot(params(0))
    result = parity("diff", tmp_path / "a", tmp_path / "b")
    assert result.status == 3
    shown = f"epoch 1, batch 1 has the rows 1, 3 and {last[0]}, {last[1]}{alike} ("
    assert f"the order of the batches differs: {shown}" in result.out


def wandering(folder: Path, factor: float, dtype: str = "float32") -> Path:
    """A run whose only parameter is off by so many roundings an epoch, as one is that amplifies its rounding."""
    with Recorder(folder, dtype) as run:
        for epoch in range(11):
            moved = np.array([1.0 + (1e-2 + 1e-7 * factor) * epoch], dtype)
            if epoch:
                run.step(1.0)
            run.snapshot({"scale": moved})
    return folder


def test_repetitions_show_how_far_rounding_carries_a_run(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    noise = [word for number in (1, 2) for word in ("--noise", wandering(tmp_path / f"noise{number}", 10.0 * number))]
    result = parity("diff", ours, theirs)
    assert result.status == 3
    assert "this may be rounding" in result.out
    result = parity("diff", ours, theirs, *noise)
    assert result.status == 0
    assert f"note: the noise floor of {ours} is as far as repetitions strayed, 2 of them" in result.out
    assert "64 roundings" not in result.out
    assert parity("explain", ours, theirs, *noise).status == 0
    # A repetition belongs to the run that it is near to, and does not excuse the other.
    wrong = wandering(tmp_path / "wrong", 4000)
    for pair in ((ours, wrong), (wrong, ours)):
        assert parity("diff", *pair, *noise).status == 1
        assert parity("diff", *pair, *noise, "--noise", wandering(tmp_path / "near", 4010)).status == 1


def test_a_repetition_in_another_dtype_says_nothing(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    result = parity("diff", ours, theirs, "--noise", wandering(tmp_path / "wide", 40, "float64"))
    assert result.status == 3
    assert "64 roundings" in result.out


def test_what_is_no_repetition_is_no_noise(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "ours", 0), wandering(tmp_path / "theirs", 40)
    for noise in (ours, theirs):
        assert "it is one of these runs to the bit" in complaint(parity("diff", ours, theirs, "--noise", noise))
    with Recorder(tmp_path / "other", "float32") as run:
        for epoch in range(11):
            if epoch:
                run.step(1.0)
            run.snapshot({"scale": np.array([1.25], np.float32)})
    result = parity("diff", ours, theirs, "--noise", tmp_path / "other")
    assert "scale begins 0.25 away from both, which is no rounding" in complaint(result)


def test_noise_that_is_none_of_these_runs_is_said(parity: Parity, tmp_path: Path) -> None:
    ours, theirs = wandering(tmp_path / "model" / "ours", 0), wandering(tmp_path / "model" / "theirs", 1)
    record(tmp_path / "other")
    for command in ("diff", "explain"):
        result = parity(command, ours, theirs, "--noise", tmp_path / "other")
        assert result.status == 2
        assert "shows no noise of these runs: parameter scale is missing" in complaint(result)
    assert "two trajectories" in complaint(parity("diff", tmp_path, tmp_path, "--noise", ours))
    assert "two trajectories" in complaint(parity("explain", "iris-logistic", "--noise", ours))


def test_runs_in_one_folder_are_compared_each_with_each_once(parity: Parity, tmp_path: Path) -> None:
    for name in ("torch", "jax", "my-numpy"):
        record(tmp_path / "my-model" / name)
    with Recorder(tmp_path / "my-model" / "wide", "float64") as run:
        run.snapshot(params(0, "float64"))
    result = parity("diff", tmp_path, tmp_path)
    assert result.status == 3  # the one in another dtype has no counterpart
    assert "3 of 3 pairs agree" in result.out
