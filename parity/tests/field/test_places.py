"""The place that is named is the one that counts, and every other place is named beside it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recorder import Recorder
from parity.spec import Sgd
from parity.tests.command import Parity
from parity.tests.field.port import explained, run, sgd
from parity.typing import Array, Params

FROM = 6
"""The update from which on something large is wrong."""


@pytest.mark.parametrize(("dtype", "quirk"), [("float64", 1e-11), ("float32", 2e-4)])
@pytest.mark.parametrize("said", [Sgd(0.1), None])
def test_a_small_quirk_does_not_hide_a_doubled_rate(dtype: str, quirk: float, said: Sgd | None, tmp_path: Path) -> None:
    def rate(update: int) -> float:
        return 0.1 * (1 + quirk) * (2 if update >= FROM else 1)

    wrong, right = (
        run(tmp_path / "a", dtype, step=sgd(rate), said=said),
        run(tmp_path / "b", dtype, step=sgd(), said=said),
    )
    for found in (explained(wrong, right), explained(right, wrong)):
        assert found["phase"] == "update"
        if said is None:  # then both runs are looked at as a whole
            assert f"from update {FROM - 1} on" in found["note"]
            continue
        if dtype == "float64":
            assert (found["epoch"], found["batch"]) == (FROM, 0)
            assert found["others"][0].startswith("epoch 1, batch 0, update of ")
            assert "in this update its steps are 2 times that optimizer's, everywhere" in found["note"]
        assert re.search(rf"0\.2\d* from update {FROM - 1} on", found["note"])


def test_a_forward_pass_that_is_wrong_later_is_not_hidden_by_a_quirk(tmp_path: Path) -> None:
    """The runs say no optimizer: the states part a little before, and no update makes so much of so little."""

    def change(seen: list[int]) -> Callable[[float, Params], tuple[float, Params]]:
        def changed(loss: float, gradients: Params) -> tuple[float, Params]:
            seen.append(1)
            return (1.5 * loss, {n: 1.5 * g for n, g in gradients.items()}) if len(seen) >= FROM else (loss, gradients)

        return changed

    wrong = run(tmp_path / "a", step=sgd(0.1 * (1 + 1e-11)), change=change([]))
    found = explained(wrong, run(tmp_path / "b", step=sgd()))
    assert (found["phase"], found["epoch"]) == ("loss", FROM)
    assert "epoch 1, batch 0, update of" in found["others"][0]


def test_a_decay_is_not_hidden_by_a_gradient_that_differs_in_its_last_digits(tmp_path: Path) -> None:
    """As a regularizer's constant that passed through float32, beside a decay that is not."""
    said = Sgd(0.1)

    def change(loss: float, gradients: Params) -> tuple[float, Params]:
        return loss, {name: g * (1 + 1e-12) for name, g in gradients.items()}

    wrong = run(tmp_path / "a", step=sgd(decay=1e-3), said=said, change=change)
    found = explained(wrong, run(tmp_path / "b", step=sgd(), said=said))
    assert (found["phase"], found["batch"], found["named"]) == ("update", 0, ["another-weight-decay"])
    assert any("gradient of" in other for other in found["others"])


def test_a_loss_that_is_reported_otherwise_does_not_hide_an_update(tmp_path: Path) -> None:
    said = Sgd(0.1)
    wrong = run(tmp_path / "a", step=sgd(0.2), said=said, change=lambda loss, gradients: (loss * (1 + 1e-9), gradients))
    found = explained(wrong, run(tmp_path / "b", step=sgd(), said=said))
    assert (found["phase"], found["named"]) == ("update", ["another-learning-rate"])
    assert any(other.startswith("epoch 1, batch 0, loss") for other in found["others"])


class Normalized:
    """A bias before a normalization over the batch, whose gradient is zero but for rounding, and running statistics."""

    def __init__(self, dtype: str, momentum: float = 0.1, unbiased: bool = False, epsilon: float = 1e-5) -> None:
        generator, self.kind = np.random.default_rng(5), np.dtype(dtype).type
        self.x, self.y = generator.normal(size=(64, 4)), generator.normal(size=(64, 3))
        shapes = {"dense/kernel": (4, 3), "dense/bias": (3,), "norm/scale": (3,)}
        self.params = {name: generator.normal(size=shape).astype(self.kind) for name, shape in shapes.items()}
        self.buffers = {"norm/mean": np.zeros(3, self.kind), "norm/variance": np.ones(3, self.kind)}
        self.momentum, self.unbiased, self.epsilon = momentum, unbiased, epsilon

    def __call__(self, rows: Array) -> tuple[float, Array, Params]:
        x, y = self.x[rows].astype(self.kind), self.y[rows].astype(self.kind)
        kernel, bias, scale = self.params.values()
        before = x @ kernel + bias
        mean, variance = before.mean(0), before.var(0)
        root = np.sqrt(variance + self.kind(self.epsilon))
        centred = (before - mean) / root
        prediction = np.tanh(centred) * scale
        back = 2 * (prediction - y) / y.size
        through = back * scale * (1 - np.tanh(centred) ** 2)
        inner = (through - through.mean(0) - centred * (through * centred).mean(0)) / root
        kept = variance * (len(x) / (len(x) - 1)) if self.unbiased else variance
        for name, value in (("norm/mean", mean), ("norm/variance", kept)):
            self.buffers[name] = ((1 - self.momentum) * self.buffers[name] + self.momentum * value).astype(self.kind)
        gradients = {
            "dense/kernel": x.T @ inner,
            "dense/bias": inner.sum(0),
            "norm/scale": (back * np.tanh(centred)).sum(0),
        }
        return float(np.mean((prediction - y) ** 2)), prediction, gradients

    def run(
        self, folder: Path, step: Callable[[int, Params, Params], Params], said: Sgd | None, early: bool = True
    ) -> Path:
        """Record it; ``early`` hands the state over after the forward pass, which has moved the statistics."""
        order = np.random.default_rng(2)
        with Recorder(folder, np.dtype(self.kind).name, deep=10, optimizer=said) as recording:
            recording.snapshot(self.params | self.buffers)
            for update in range(1, 15):
                rows = order.permutation(64)[:16]
                begun = dict(self.buffers)
                loss, prediction, gradients = self(rows)
                now = self.params | (self.buffers if early else begun)
                recording.step(loss, rows=rows, prediction=prediction, gradients=gradients, params=now)
                made = step(update, self.params, gradients)
                self.params = {name: value.astype(self.kind) for name, value in made.items()}
                recording.snapshot(self.params | self.buffers)
        return folder


def dampened(rate: float, momentum: float) -> Callable[[int, Params, Params], Params]:
    velocity: Params = {}

    def step(update: int, params: Params, gradients: Params) -> Params:
        for name, g in gradients.items():
            velocity[name] = momentum * velocity.get(name, 0) + (1 - momentum) * g
        return {name: p - rate * velocity[name] for name, p in params.items()}

    return step


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_gradient_that_is_zero_but_for_rounding_is_no_place(dtype: str, tmp_path: Path) -> None:
    said = Sgd(0.1, momentum=0.9)
    wrong = Normalized(dtype).run(tmp_path / "a", dampened(0.1, 0.9), said)
    other = Normalized(dtype)
    other.x, other.y = other.x + 0.0, other.y + 0.0
    other.params["dense/bias"] = other.params["dense/bias"].copy()
    # The same sums in another order: what is zero is rounded otherwise.
    kept = other.__call__
    right = _reordered(other, kept).run(tmp_path / "b", sgd(0.1, momentum=0.9), said)
    for found in (explained(wrong, right), explained(right, wrong)):
        assert found["phase"] == "update"
        assert found["parameter"] != "dense/bias"
        assert "momentum-dampened" in found["named"]
        assert all("dense/bias" not in name for name, _ in found["parts"])


def _reordered(port: Normalized, call: Callable[[Array], tuple[float, Array, Params]]) -> Normalized:
    class Other(Normalized):
        def __call__(self, rows: Array) -> tuple[float, Array, Params]:
            loss, prediction, gradients = super().__call__(rows)
            noise = np.random.default_rng(9).normal(size=3) * np.finfo(self.kind).eps
            return loss, prediction, gradients | {"dense/bias": (gradients["dense/bias"] + noise).astype(self.kind)}

    return Other(np.dtype(port.kind).name)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    ("wrong", "name", "words"),
    [
        ({"momentum": 0.9}, "running-momentum-complement", "the first run takes 0.9, the second 0.1"),
        ({"momentum": 0.01}, "another-running-momentum", "the first run takes 0.01, the second 0.1"),
        ({"unbiased": True}, "unbiased-running-variance", "as of a variance over 16 values"),
    ],
)
def test_running_statistics_tell_their_momentum(
    wrong: dict[str, Any], name: str, words: str, early: bool, dtype: str, tmp_path: Path
) -> None:
    one = Normalized(dtype, **wrong).run(tmp_path / "a", sgd(), None, early)
    found = explained(one, Normalized(dtype).run(tmp_path / "b", sgd(), None, early))
    assert found["phase"] == ("state" if early else "update")
    assert found["named"] == [name], found["sentence"]
    assert words in found["note"]
    assert "optimizer" not in found["why"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_forward_pass_comes_before_the_statistics_that_it_moves(dtype: str, tmp_path: Path) -> None:
    one = Normalized(dtype, epsilon=1e-2, momentum=0.9).run(tmp_path / "a", sgd(), None)
    found = explained(one, Normalized(dtype).run(tmp_path / "b", sgd(), None))
    assert (found["phase"], found["epoch"], found["batch"]) == ("prediction", 1, 0)
    assert any("state of norm/mean" in other for other in found["others"])


def test_statistics_do_not_hide_an_update(tmp_path: Path) -> None:
    said = Sgd(0.1)
    one = Normalized("float64", unbiased=True).run(tmp_path / "a", sgd(0.15), said)
    found = explained(one, Normalized("float64").run(tmp_path / "b", sgd(), said))
    told = (found["place"], *found["others"])
    assert any("update of" in place for place in told)
    assert any("state of norm/variance" in place for place in told)


@pytest.mark.parametrize(
    ("agree", "words"), [(0, "the first position alone agrees"), (-1, "the last position alone agrees")]
)
def test_positions_that_agree_tell_what_reaches_them(agree: int, words: str, tmp_path: Path) -> None:
    prediction = np.random.default_rng(0).normal(size=(4, 5, 3))
    other = prediction + np.random.default_rng(1).normal(size=(4, 5, 3))
    other[:, agree] = prediction[:, agree]
    for name, said in (("a", other), ("b", prediction)):
        kernel = np.ones((2, 2))
        with Recorder(tmp_path / name, "float64", deep=1) as recording:
            recording.snapshot({"kernel": kernel})
            recording.step(
                said.sum(),
                rows=[0],
                prediction=said,
                gradients={"kernel": kernel * said.sum()},
                params={"kernel": kernel},
            )
            recording.snapshot({"kernel": kernel * said.sum()})
    found = explained(tmp_path / "a", tmp_path / "b")
    assert (found["phase"], found["pattern"].startswith(words)) == ("prediction", True)


def test_runs_that_agree_and_follow_another_optimizer_than_they_say_are_told(parity: Parity, tmp_path: Path) -> None:
    """Both make one mistake: that is a PASS, and said."""
    for name in ("a", "b"):
        run(tmp_path / name, step=sgd(momentum=0.9), said=Sgd(0.1))
    for command in ("diff", "explain"):
        result = parity(command, tmp_path / "a", tmp_path / "b")
        assert result.status == 0
        for name, which in (("a", "first"), ("b", "second")):
            assert f"{tmp_path / name}: update 1 of the {which} run is not that of Sgd(learning_rate=0.1" in result.out
    for name in ("a", "b"):
        run(tmp_path / name, step=sgd(), said=Sgd(0.1))
    assert "is not that of" not in parity("diff", tmp_path / "a", tmp_path / "b").out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_statistic_that_never_moves_is_said_and_not_named(dtype: str, tmp_path: Path) -> None:
    one = Normalized(dtype, momentum=0.0).run(tmp_path / "a", sgd(), None)
    found = explained(one, Normalized(dtype).run(tmp_path / "b", sgd(), None))
    assert "norm/mean of the first run never moves" in found["why"]
    assert found["named"] == []


def biased(folder: Path, second: bool) -> Path:
    """Record a linear model with one bias, or with two of which the second begins with zeros."""
    generator = np.random.default_rng(4)
    x, y = generator.normal(size=(32, 3)), generator.normal(size=(32, 2))
    params = {"kernel": generator.normal(size=(3, 2)), "bias": generator.normal(size=2)}
    params |= {"other/bias": np.zeros(2)} if second else {}
    with Recorder(folder, "float64", deep=6) as recording:
        recording.snapshot(params)
        for number in range(8):
            rows = np.arange(number, number + 16)
            prediction = x[rows] @ params["kernel"] + sum(p for name, p in params.items() if name != "kernel")
            back = 2 * (prediction - y[rows]) / prediction.size
            gradients = {name: x[rows].T @ back if name == "kernel" else back.sum(0) for name in params}
            loss = float(np.mean((prediction - y[rows]) ** 2))
            recording.step(loss, rows=rows, prediction=prediction, gradients=gradients, params=params)
            params = {name: p - 0.1 * gradients[name] for name, p in params.items()}
            recording.snapshot(params)
    return folder


def test_a_tensor_that_is_trained_in_one_run_alone_is_the_place_of_what_follows_of_it(tmp_path: Path) -> None:
    """Every tensor of both runs agrees after the first update; the second prediction parts."""
    one, other = biased(tmp_path / "two", True), biased(tmp_path / "one", False)
    for found in (explained(one, other), explained(other, one)):
        assert (found["phase"], found["epoch"], found["batch"]) == ("gradient", 1, 0)
        assert "other/bias of" in found["why"]
        assert "is trained, and has no partner" in found["why"]
        assert found["others"][0].startswith("epoch 2, batch 0, prediction")
