"""A run that follows another: every update begins where the other's did, and each is judged by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.frameworks import framework_of
from parity.judging.floors.floor import mark_of_run
from parity.judging.updates.followed import as_sums, bent_at, by_gradients, followed_updates, judge_followed
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.recording.steps import Step, steps_of
from parity.running.executor import Environment
from parity.tests.command import Parity
from parity.tests.warm import Warm
from parity.tests.watching.ports import PORTS, STEPS, WRONG, trained
from parity.tolerance import least_floor
from parity.trainer import State

FEW = 4
DTYPES = ("float32", pytest.param("float64", marks=pytest.mark.slow))
FOLLOWERS = (("torch", "adamw"), ("flax", "adamw"), ("keras", "sgd"))
WRONG_OPTIMIZERS = {
    "torch": {"epsilon": {"eps": 1e-5}, "decay": {"weight_decay": 0.02}, "momentum": {"betas": (0.8, 0.999)}},
    "flax": {"epsilon": {"eps": 1e-5}, "decay": {"weight_decay": 1e-4}, "momentum": {"b1": 0.8}},
    "keras": {"momentum": {"momentum": 0.89}},
}


def followed(label: str, dtype: str, rule: str, leader: str, folder: str) -> str:
    """Called where a framework is: ports that follow a run, one right and others wrong."""
    port, where = PORTS[label], Path(folder)
    own = {"rule": rule, "follow": leader}
    port(where / "right", dtype, **own)
    port(where / "norm", dtype, WRONG, **own)
    for mistake, settings in WRONG_OPTIMIZERS[label].items():
        port(where / mistake, dtype, settings=settings, steps=FEW, **own)
    # Weights of its own, and a loop that stays as it is.
    alone = {"torch": {"closure": False}, "keras": {"fit": True}, "flax": {"shadows": 0}}[label]
    port(where / "loop", dtype, seed=5, steps=0, **own)
    port(where / "alone", dtype, steps=FEW, **alone, **own)
    return folder


@pytest.fixture
def runs(label: str, rule: str, dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of the run that is followed, which is flax's where torch follows, and that of the followers."""
    leader = "flax" if label == "torch" else "torch"

    def folder() -> Path:
        return tmp_path_factory.mktemp("follow")

    asked = {"label": leader, "rule": rule, "dtype": dtype}
    first = warm.ask(trained, Environment(framework_of(leader).name, "cpu"), asked, folder=folder)
    lead = Path(first.result()["folder"], "right")
    asked = {"label": label, "rule": rule, "dtype": dtype, "leader": str(lead)}
    second = warm.ask(followed, Environment(framework_of(label).name, "cpu"), asked, folder=folder)
    return lead, Path(second.result())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("label", "rule"), FOLLOWERS)
class TestFollower:
    def test_every_update_begins_where_the_other_s_did(
        self, label: str, rule: str, dtype: str, runs: tuple[Path, Path]
    ) -> None:
        lead, run = read(runs[0]), read(runs[1] / "right")
        assert run.meta["followed"] == {"steps": STEPS, "of": mark_of_run(lead)}
        for step, other in zip(steps_of(run), steps_of(lead), strict=True):
            for name, value in step.before.params.items():
                np.testing.assert_array_equal(value, other.before.params[name])
            for name, value in step.before.slots.items():
                # Keras keeps its momentum times the learning rate.
                np.testing.assert_allclose(value, other.before.slots[name], rtol=1e-6 if label == "keras" else 0)
            assert any((step.after.params[name] != value).any() for name, value in step.before.params.items())

    def test_a_right_port_passes_whichever_is_named_first(
        self, label: str, rule: str, dtype: str, runs: tuple[Path, Path], parity: Parity
    ) -> None:
        lead, folder = runs
        for pair in ((lead, folder / "right"), (folder / "right", lead), (folder / "alone", lead)):
            result = parity("diff", *pair)
            assert result.status == 0, result.out
            assert "each is judged by itself" in result.out
        assert "nothing to explain" in parity("explain", folder / "right", lead).out

    def test_a_wrong_layer_parts_in_every_update(
        self, label: str, rule: str, dtype: str, runs: tuple[Path, Path], parity: Parity
    ) -> None:
        lead, folder = runs
        result = parity("diff", folder / "norm", lead)
        assert result.status == 1
        assert "update 0 parts in its prediction: prediction[" in result.out
        assert f"{STEPS} of {STEPS} updates part" in result.out
        assert "prediction" in parity("explain", folder / "norm", lead).out

    def test_a_wrong_optimizer_is_caught_at_its_update(
        self, label: str, rule: str, dtype: str, runs: tuple[Path, Path], parity: Parity
    ) -> None:
        lead, folder = runs
        for mistake in WRONG_OPTIMIZERS[label]:
            result = parity("diff", folder / mistake, lead)
            assert result.status == 1, mistake
            assert "parts in its update" in result.out, mistake
            assert "update of " in parity("explain", lead, folder / mistake).out, mistake

    def test_where_it_would_have_begun_is_said(
        self, label: str, rule: str, dtype: str, runs: tuple[Path, Path], parity: Parity
    ) -> None:
        lead, folder = runs
        notes = " ".join(read(folder / "loop").meta["notes"])
        assert f"differed from that of {lead}, by up to" in notes
        assert "conv/bias" not in notes or "initial" in notes
        result = parity("diff", folder / "loop", lead)
        assert result.status == 3, "nothing was trained, so nothing was compared"


def seeds(label: str, dtype: str, leader: str, folder: str, seed: int) -> str:
    PORTS[label](Path(folder, label), dtype, seed=seed, steps=20, follow=leader or None, shadows=3 if leader else 0)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_ports_of_many_seeds_pass(
    dtype: str, seed: int, warm: Warm, tmp_path_factory: pytest.TempPathFactory, parity: Parity
) -> None:
    def ask(label: str, leader: str) -> Path:
        asked = {"label": label, "dtype": dtype, "leader": leader, "seed": seed}
        where = Environment(framework_of(label).name, "cpu")
        answer = warm.ask(seeds, where, asked, folder=lambda: tmp_path_factory.mktemp("seeds"))
        return Path(answer.result(), label)

    lead = ask("torch", "")
    result = parity("diff", ask("flax", str(lead)), lead)
    assert result.status == 0, result.out


def refused(folder: str) -> dict[str, str]:
    """Called where torch is: what cannot be followed, and what is said of slots that have no partner."""
    import torch

    from parity.watching import watch

    where = Path(folder)

    def train(name: str, kind: Any, outputs: int = 1, **watching: Any) -> None:
        torch.manual_seed(0)
        model = torch.nn.Linear(2, outputs)
        optimizer = kind(model.parameters())
        with watch(where / name, model, optimizer, **watching) as run:
            for k in range(3):
                run.step(lambda k=k: (model(torch.ones(4, 2) * k) - 1).square().mean())

    def momentum(params: Any) -> Any:
        return torch.optim.SGD(params, lr=0.1, momentum=0.9)

    train("leader", momentum)
    train("shallow", momentum, deep=0)
    train("follower", momentum, follow=where / "leader")
    train("adam", torch.optim.Adam, follow=where / "leader")
    ways = {
        "shallow": lambda: train("x", momentum, follow=where / "shallow"),
        "follower": lambda: train("x", momentum, follow=where / "follower"),
        "shape": lambda: train("x", momentum, outputs=2, follow=where / "leader"),
    }
    found = {"slots": " ".join(read(where / "adam").meta["notes"]), "folder": folder}
    for name, way in ways.items():
        try:
            way()
        except ValueError as error:
            found[name] = str(error)
    return found


@pytest.mark.asks(question=refused, framework="torch")
def test_what_cannot_be_followed_is_said(answer: dict[str, str], parity: Parity) -> None:
    assert "no update that was recorded deeply" in answer["shallow"]
    assert "followed another run itself" in answer["follower"]
    assert "say with layout= how it is turned" in answer["shape"]
    assert "first_moment was not followed, because" in answer["slots"]
    assert "momentum was not followed, because this run has no slot of this name" in answer["slots"]
    folder = Path(answer["folder"])
    assert parity("diff", folder / "follower", folder / "leader").status == 0
    # Both followed one run; and one that followed is held against nothing else.
    assert parity("diff", folder / "adam", folder / "follower").status == 1
    result = parity("diff", folder / "adam", folder / "shallow")
    assert result.status == 3
    assert "hold it against the run that it followed" in result.out


def step(**given: Any) -> Step:
    """A step of one layer, 6 values that ReLU takes, and their gradient."""
    nothing = np.zeros(())
    known = {"rows": np.arange(2), "prediction": np.ones(2), "loss": nothing, "trained": nothing, "gradients": {}}
    return Step(before=State({}), after=State({}), **(known | given))


class TestBend:
    VALUES = np.array([[-1.0, 0.5, 2.0], [1.0, -0.25, 1e-8]], np.float32)
    GRADIENT = np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0]], np.float32)

    def seen(self, values: Any, gradient: Any) -> Step:
        return step(activations={"norm": values}, activation_gradients={"norm": gradient})

    def test_a_sign_within_rounding_of_zero_is_recognized_in_any_order_of_axes(self) -> None:
        moved, bent = self.VALUES.copy(), self.GRADIENT.copy()
        moved[1, 2], bent[1, 2] = -1e-8, 0
        assert bent_at(self.seen(self.VALUES, self.GRADIENT), self.seen(moved.T, bent.T), "float32") == "norm"

    def test_a_sign_of_a_sum_is_recognized_at_the_layer_that_was_added(self) -> None:
        """The norm's own values are far from zero where the sum, which ReLU takes, is not."""
        sums, moved, bent = self.VALUES.copy(), self.VALUES.copy(), self.GRADIENT.copy()
        moved[1, 2], bent[1, 2] = 0, 0
        added = np.where(np.abs(sums) < 1e-6, 0.75, sums)
        steps = [
            step(activations={"norm": added, "relu": given}, activation_gradients={"norm": gradient})
            for given, gradient in ((sums, self.GRADIENT), (moved, bent))
        ]
        assert bent_at(steps[0], steps[1], "float32") == "norm"
        assert bent_at(steps[1], steps[0], "float32") == "norm"

    def test_two_signs_that_leave_the_number_of_zeros_as_it_is_are_recognized(self) -> None:
        values, bent = self.VALUES.copy(), self.GRADIENT.copy()
        values[0, 0] = -1e-8
        bent[0, 0], bent[1, 2] = 1.0, 0
        assert bent_at(self.seen(values, self.GRADIENT), self.seen(values, bent), "float32") == "norm"

    def test_a_gradient_that_is_lost_elsewhere_is_not(self) -> None:
        lost = self.GRADIENT.copy()
        lost[0, 2] = lost[1, 0] = 0
        assert not bent_at(self.seen(self.VALUES, self.GRADIENT), self.seen(self.VALUES, lost), "float32")
        assert not bent_at(self.seen(self.VALUES, self.GRADIENT), self.seen(self.VALUES, self.GRADIENT), "float32")


def test_a_sum_is_as_coarse_as_its_terms() -> None:
    """Added in another order, terms that cancel give another sum: as frameworks do, and shadows of one do not."""
    terms = np.random.RandomState(0).normal(size=(8, 64, 4)).astype(np.float32)
    terms -= terms.mean((0, 1))
    sums = np.cumsum(terms.reshape(-1, 4), 0)[-1]
    given = step(gradients={"bias": sums, "kernel": np.ones((4, 4))}, activation_gradients={"norm": terms})
    exact = terms.sum((0, 1), dtype=np.float64)
    floors = as_sums(given, "float32")
    assert floors.keys() == {"bias"}
    assert least_floor(np.abs(sums).max(), "float32") < np.abs(sums - exact).max() < 2 * floors["bias"]


FINITE = st.floats(-10, 10).filter(lambda value: value == 0 or abs(value) > 1e-6)


@given(FINITE, st.floats(-1e-3, 1e-3), st.integers(0, 50), FINITE, st.floats(1e-8, 1.0))
def test_what_a_gradient_s_difference_makes_of_adam_is_within_its_slack(
    gradient: float, part: float, number: int, before: float, scale: float
) -> None:
    """Whatever the moments are: of all values that an update moves, the largest stands beside this one."""
    from parity.nn.updates import adam
    from parity.spec import Adam

    def moved(g: float) -> float:
        state = State(
            {}, {"first_moment/w": np.array([before]), "second_moment/w": np.array([before**2 * 2])}, number + 1
        )
        p = adam(Adam(0.1), "w", np.zeros(1), np.array([g]) * scale, state)
        return float(p[0])

    one, other = moved(gradient), moved(gradient * (1 + part))
    pair = (np.array([gradient, 1.0]), np.array([gradient * (1 + part), 1.0]))
    slack = by_gradients(np.array([max(abs(one), abs(other)), 0.1]), pair, 0.0, number, "float64")[0]
    assert abs(one - other) <= slack * (1 + 1e-9) + 1e-15


def test_a_claim_to_have_followed_does_not_loosen_the_judgement(
    tmp_path: Path, warm: Warm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What says that it followed, and begins elsewhere, parts in its state."""
    asked = {"label": "torch", "rule": "adamw", "dtype": "float32"}
    answer = warm.ask(trained, Environment("torch", "cpu"), asked, folder=lambda: tmp_path_factory.mktemp("port"))
    folder = Path(answer.result()["folder"])
    lead, wrong = read(folder / "right"), read(folder / "wrong")
    claims = replace(wrong, meta=wrong.meta | {"followed": {"steps": STEPS, "of": mark_of_run(lead)}})
    assert followed_updates(claims, lead) == STEPS
    found = judge_followed(claims, lead)
    assert found.judgement.verdict is Verdict.FAIL
    parted = replace(claims, meta=claims.meta | {"followed": {"steps": "all", "of": 1}})
    assert followed_updates(parted, lead) == 0
