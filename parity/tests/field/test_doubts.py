"""Updates looked at singly: of runs that no verdict could be given on, and with predictions in other orders of axes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from parity.explaining.pairs import largest_parting, walk_pair
from parity.judging.witness import in_one_order
from parity.recorder import Recorder
from parity.recording.reader import read
from parity.recording.steps import Phase
from parity.spec import Sgd
from parity.tests.command import Parity
from parity.tests.field.port import explained, run, sgd
from parity.tests.suites import strict_json
from parity.tolerance import FACTOR
from parity.typing import Array, Params

WIDTH = 4
"""Of each of query, key and value."""


def images(folder: Path, predictions: Array, loss: float = 0.5, dtype: str = "float64") -> Path:
    """Record two updates of a model that predicts these images."""
    kernel = np.linspace(0.5, 1.5, 3).astype(dtype)
    with Recorder(folder, dtype, deep=2) as recording:
        recording.snapshot({"kernel": kernel})
        for number in range(2):
            recording.step(
                loss,
                rows=np.arange(len(predictions)) + number,
                prediction=predictions.astype(dtype),
                gradients={"kernel": kernel * loss},
                params={"kernel": kernel},
            )
            kernel = (kernel * (1 - 0.1 * loss)).astype(dtype)
        recording.snapshot({"kernel": kernel})
    return folder


@given(
    array_shapes(min_dims=1, max_dims=4, max_side=4).flatmap(
        lambda shape: st.tuples(st.just(shape), st.permutations(range(len(shape))), st.integers(0, len(shape)))
    )
)
def test_any_order_of_axes_is_undone(drawn: tuple[tuple[int, ...], list[int], int]) -> None:
    shape, order, place = drawn
    wanted = np.random.default_rng(0).normal(size=shape)
    got = np.expand_dims(wanted.transpose(order), place)  # a channel of one, which one framework keeps
    laid = in_one_order(got, wanted)
    assert laid is not None
    assert laid[0].shape == wanted.shape
    np.testing.assert_array_equal(*laid)


def test_predictions_of_other_sizes_are_not_laid_in_one_order() -> None:
    assert in_one_order(np.zeros((4, 1)), np.zeros((4, 2))) is None


def test_predictions_without_an_order_of_axes_are_sorted() -> None:
    laid = in_one_order(np.arange(6.0).reshape(2, 3), np.arange(6.0)[::-1])
    assert laid is not None
    np.testing.assert_array_equal(*laid)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predictions_with_channels_elsewhere_are_held_against_each_other(dtype: str, tmp_path: Path) -> None:
    first = np.random.default_rng(0).normal(size=(8, 1, 8, 8))
    a = images(tmp_path / "a", first, 0.6, dtype)
    b = images(tmp_path / "b", first.transpose(0, 2, 3, 1), 0.5, dtype)
    found = explained(a, b)
    assert found["phase"] == "loss"
    assert found["agreed"]["prediction"] == 0
    first = first.copy()
    first[3, 0, 2, 5] += 0.25
    found = explained(images(tmp_path / "c", first, 0.6, dtype), b)
    assert (found["phase"], found["difference"]["index"]) == ("prediction", [3, 2, 5, 0])


def test_predictions_of_other_sizes_do_not_end_the_walk(tmp_path: Path) -> None:
    one = images(tmp_path / "a", np.zeros((8, 2)), 0.6)
    found = explained(one, images(tmp_path / "b", np.zeros((8, 1)), 0.5))
    assert found["phase"] == "loss"


def fused(folder: Path, seed: int, dtype: str, *, wrong: float = 0.0) -> Path:
    """Record a bias of query, key and value, whose key's gradient is rounding alone, under steps as large as Adam's.

    ``wrong`` moves the query's part of the bias farther in each update.
    """
    kind, generator = np.dtype(dtype).type, np.random.default_rng(7)
    noise = np.random.default_rng(seed)
    params: Params = {"qkv/bias": generator.normal(size=3 * WIDTH), "out/kernel": generator.normal(size=(3, 2))}
    params = {name: value.astype(kind) for name, value in params.items()}
    with Recorder(folder, dtype, deep=6) as recording:
        recording.snapshot(params)
        for number in range(8):
            gradients = {name: np.tanh(value * (number + 1)).astype(kind) for name, value in params.items()}
            rounding = noise.normal(size=WIDTH) * np.finfo(kind).eps
            gradients["qkv/bias"][WIDTH : 2 * WIDTH] = rounding
            loss = float(sum(np.sum(value[:WIDTH].astype(np.float64) ** 2) for value in params.values()))
            recording.step(loss, rows=[number], prediction=np.ones(1), gradients=gradients, params=params)
            moved = {name: 0.01 * np.sign(g) for name, g in gradients.items()}
            moved["qkv/bias"][:WIDTH] *= 1 + wrong
            params = {name: (value - moved[name]).astype(kind) for name, value in params.items()}
            recording.snapshot(params)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_part_of_a_tensor_that_rounding_moves_is_no_place(dtype: str, tmp_path: Path) -> None:
    right, again = fused(tmp_path / "a", 0, dtype), fused(tmp_path / "b", 1, dtype)
    there = walk_pair(read(right), read(again))
    assert there is not None
    assert (there.phase, there.parts) == (Phase.STATE, ()), there.place
    # By less than what rounding makes of the key's: a fifth of the step.
    wrong = fused(tmp_path / "c", 2, dtype, wrong=0.2)
    for found in (explained(wrong, right), explained(right, wrong)):
        assert (found["phase"], found["batch"], found["parameter"]) == ("update", 0, "qkv/bias")
        assert found["difference"]["index"][0] < WIDTH
        assert found["pattern"] == f"only 0:{WIDTH} along axis 0 of qkv/bias"


def test_runs_without_a_verdict_are_told_where_single_updates_part_by_most(parity: Parity, tmp_path: Path) -> None:
    """The losses of all updates are off in one direction by tens of roundings, and the predictions by more."""

    def off(far: float) -> Path:
        kept = np.random.default_rng(0).normal(size=(20, 12, 3)) + 3
        with Recorder(tmp_path / f"{far}", "float32", deep=20) as recording:
            kernel = np.linspace(0.5, 1.5, 6).reshape(2, 3).astype(np.float32)
            recording.snapshot({"kernel": kernel})
            for number, prediction in enumerate(kept):
                recording.step(
                    float(prediction.mean()) * (1 + far),
                    rows=[number],
                    prediction=(prediction * (1 + far)).astype(np.float32),
                    gradients={"kernel": kernel},
                    params={"kernel": kernel},
                )
                kernel = (kernel * np.float32(0.9)).astype(np.float32)
                recording.snapshot({"kernel": kernel})
        return tmp_path / f"{far}"

    right, wrong, doubled = off(0.0), off(2e-6), off(6e-6)
    for other, within in ((wrong, True), (doubled, False)):
        result = parity("explain", other, right, "--json", "found.json")
        assert (result.status, result.out.count("INCONCLUSIVE")) == (3, 2), result.out
        assert re.search(r"single updates part by most at epoch \d+, batch 0, (prediction|loss)", result.out)
        (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
        assert within or found["phase"] == "prediction"
        assert (found["floors"] <= FACTOR) is within
        assert ("no single update parts by more than rounding" in result.out) is within
        assert ("this may be rounding" in found["note"]) is not within


def test_runs_without_deep_recordings_have_no_place_without_a_verdict(parity: Parity, tmp_path: Path) -> None:
    for name, metrics in (("a", {"accuracy": 0.5}), ("b", {})):
        with Recorder(tmp_path / name, "float64") as recording:
            for number in range(3):
                recording.snapshot({"kernel": np.full(2, number + 1.0)}, metrics=metrics)
                if number < 2:
                    recording.step(1.0 / (number + 1))
    result = parity("explain", tmp_path / "a", tmp_path / "b", "--json", "found.json")
    assert result.status == 3
    assert "part by most" not in result.out
    assert strict_json(Path("found.json").read_text(), "explain")["explanations"] == [None]


def test_runs_that_agree_to_the_last_digit_have_no_place(tmp_path: Path) -> None:
    one, other = (read(run(tmp_path / name, step=sgd())) for name in ("a", "b"))
    assert largest_parting(one, other) is None


@pytest.mark.parametrize("said", [Sgd(0.1, momentum=0.9), None])
def test_updates_that_differ_by_less_than_a_tolerance_are_the_place_if_the_losses_follow_from_them(
    said: Sgd | None, tmp_path: Path
) -> None:
    """The states still agree when the prediction, which follows from them, parts."""
    right = run(tmp_path / "right", "float32", step=sgd(momentum=0.9), said=said)
    wrong = run(tmp_path / "wrong", "float32", step=sgd(0.1 * (1 + 2e-5), momentum=0.9), said=said)
    found = explained(wrong, right)
    assert (found["phase"], found["epoch"], found["batch"]) == ("update", 1, 0), found["sentence"]
    assert found["floors"] <= FACTOR
    assert found["named"] == ["another-learning-rate"], found["sentence"]


@pytest.mark.parametrize("part", [1, -1])
def test_a_loss_that_does_not_follow_from_states_that_differ_a_little_stays_the_place(
    part: int, tmp_path: Path
) -> None:
    seen: list[int] = []

    def change(loss: float, gradients: Params) -> tuple[float, Params]:
        seen.append(1)
        factor = 1 + part * 2e-5 if len(seen) > 2 else 1.0
        return loss * factor, {name: g * factor for name, g in gradients.items()}

    right = run(tmp_path / "right", "float32", step=sgd(momentum=0.9))
    wrong = run(tmp_path / "wrong", "float32", step=sgd(0.1 * (1 + 2e-6), momentum=0.9), change=change)
    found = walk_pair(read(wrong), read(right))
    assert found is not None
    assert (found.phase, found.epoch) == (Phase.LOSS, 3), found.place
    assert 1 < found.agreed[Phase.STATE] < FACTOR
