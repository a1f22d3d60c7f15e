"""Two recordings are explained without a case: what each does that its optimizer does not, and what both share."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.explaining.explain import explain_pair
from parity.explaining.location import Location
from parity.explaining.pairs import Noise, walk_pair
from parity.explaining.recordings import explain_steps
from parity.judging.compare import differences
from parity.judging.verdict import Judgement, Verdict
from parity.mistakes.catalogue.updates import nesterov
from parity.mistakes.mistake import Unplanted
from parity.mistakes.stepwise import Stepwise, honest
from parity.recording.steps import Phase
from parity.spec import Sgd
from parity.tests import toy
from parity.tests.explaining.runs import KNOWN, OPTIMIZERS, explained, ruled, run_of, scheduled, unbiased
from parity.trainer import Trainer
from parity.trajectory import Trajectory


@pytest.mark.slow
def test_what_both_runs_do_and_their_optimizer_does_not_is_blamed_on_neither() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    ours, theirs = ruled(case, scheduled), ruled(case, unbiased)
    for pair, which in (((ours, theirs), "first"), ((theirs, ours), "second")):
        found = explained(*pair)
        assert (found["phase"], found["batch"], found["named"]) == ("update", 0, ["weight-decay-on-some-tensors"])
        assert "neither run keeps to the learning rate and the decay of Sgd(learning_rate=0.1" in found["note"]
        assert f"the updates of the {which} run are explained by another-learning-rate" in found["note"]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_schedule_one_step_off_is_named_with_the_rates_of_both(dtype: str) -> None:
    """A decay at every step, in both runs: what one update shows of a rate says nothing of the next."""
    case = toy.case(Sgd(0.05))

    def decayed(late: int) -> Trainer:
        def rule(optimizer, name, p, g, state):
            rate = optimizer.learning_rate * 0.9 ** (state.step - late)
            return honest(replace(optimizer, learning_rate=rate), name, p, g, state)

        return Stepwise(toy.build(case, dtype, "cpu"), case, dtype, rule=rule)

    found = explained(run_of(decayed(0), case), run_of(decayed(1), case))
    assert found["named"] == ["learning-rate-of-another-update"]
    assert "the first run's learning rates of 0.045, 0.0405, 0.03645, " in found["note"]
    assert "against the second's 0.05, 0.045, 0.0405, " in found["note"]
    assert "the second's are 1 update late" in found["note"]


def test_of_two_runs_each_with_a_mistake_of_its_own_one_may_be_another_rate() -> None:
    case = toy.case(OPTIMIZERS["adam"])
    wrong = run_of(KNOWN["adam-epsilon-1e-7"].plant(toy.build, case, "float64", "cpu"), case)
    faster = run_of(toy.build(toy.case(replace(case.optimizer, learning_rate=0.2)), "float64", "cpu"), case)
    found = explained(wrong, faster)
    assert "the updates of the first run are explained by adam-epsilon-1e-7" in found["note"]
    assert "the updates of the second run are explained by another-learning-rate" in found["note"]


def test_an_optimizer_that_never_steps_is_seen() -> None:
    case = toy.case(Sgd(0.1))
    found = explained(ruled(case, lambda optimizer, name, p, g, state: p), ruled(case))
    assert "in this update its steps are 0 times that optimizer's" in found["note"]


def test_a_parameter_that_is_trained_in_one_run_alone_is_said() -> None:
    case = toy.case(Sgd(0.1))
    right = ruled(case)
    steps = {name: value for name, value in right.steps.items() if not name.endswith("gradients/dense/bias")}
    frozen = replace(right, steps=steps)
    for pair, which in (((frozen, right), "first"), ((right, frozen), "second")):
        found = explained(*pair)
        assert found["place"] == "epoch 1, batch 0, gradient"
        assert found["note"] == f"the {which} run has no gradient of dense/bias: there it is not trained"
        assert "the same parameters are to be trained in both" in found["why"]


def test_a_mistake_before_a_shared_schedule_sets_in_is_named() -> None:
    case = toy.case(OPTIMIZERS["momentum"])

    def later(rule: Any) -> Any:
        return lambda optimizer, name, p, g, state: rule(
            optimizer if state.step < 6 else replace(optimizer, learning_rate=optimizer.learning_rate / 2),
            name,
            p,
            g,
            state,
        )

    found = explained(ruled(case, later(nesterov)), ruled(case, later(honest)))
    assert found["named"] == ["nesterov-momentum"], found["sentence"]


def test_two_runs_each_with_a_mistake_of_its_own_are_both_explained() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    names = ("nesterov-momentum", "weight-decay-doubled")
    pair = [run_of(KNOWN[name].plant(toy.build, case, "float64", "cpu"), case) for name in names]
    found = explained(*pair)
    assert f"the updates of the first run are explained by {names[0]}" in found["note"]
    assert f"the updates of the second run are explained by {names[1]}" in found["note"]
    assert "parity.spec" not in found["why"]


def test_a_gradient_that_parts_is_not_laid_at_a_shared_schedule() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    calls = itertools.count()

    def evaluate(gradients, params, x, y):
        loss, found = gradients(x, y)
        return loss, {name: g * (1.5 if next(calls) > 31 else 1) for name, g in found.items()}

    found = explained(ruled(case, scheduled, evaluate), ruled(case, scheduled))
    assert found["phase"] == "gradient"
    assert (found["epoch"], found["batch"]) > (1, 0)
    assert "optimizer" not in found["note"]
    assert found["named"] == []


def test_steps_of_another_rate_than_the_others_are_said_where_a_schedule_is_shared() -> None:
    case = toy.case(OPTIMIZERS["momentum"])

    def faster(optimizer, name, p, g, state):
        return scheduled(replace(optimizer, learning_rate=1.1 * optimizer.learning_rate), name, p, g, state)

    found = explained(ruled(case, faster), ruled(case, scheduled))
    assert "in this update the first run's steps are 1.1 times the second's, everywhere" in found["note"]


def test_a_nan_is_explained_by_nothing_that_follows_it() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    calls = itertools.count()

    def evaluate(gradients, params, x, y):
        loss, found = gradients(x, y)
        return (np.nan if next(calls) > 7 else loss), found

    found = explained(ruled(case, evaluate=evaluate), ruled(case))
    assert found["phase"] == "loss"
    assert (found["named"], found["replays"]) == ([], [])
    assert "not finite" in found["pattern"]


def test_runs_that_begin_elsewhere_are_told_to_begin_alike() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    moved = {name: value + 0.25 for name, value in case.initial().items()}
    found = explained(ruled(replace(case, initial=lambda: moved)), ruled(case))
    assert found["phase"] == "state"
    assert "do not begin with the same parameters: give both the same" in found["why"]


def test_repetitions_excuse_in_a_replay_what_they_excuse_in_a_walk() -> None:
    """A loss that is averaged, in a run whose roundings have grown beyond what is allowed without a measurement."""
    case = toy.case(Sgd(0.1))
    right = replace(run_of(toy.build(case, "float32", "cpu"), case, updates=3), meta={"dtype": "float32"})

    def strayed(factor: float, half: float = 1.0) -> Trajectory:
        steps = {name: np.array(value) for name, value in right.steps.items()}
        for name, value in steps.items():
            if "gradients/" in name or name.endswith(("loss", "trained")):
                steps[name] = value * np.float32(half * (1 + 1e-4 * factor))
        return replace(right, steps=steps)

    location = walk_pair(strayed(1, 1 / 24), right, noise := Noise([(strayed(-0.5), right)]))
    assert location is not None
    assert location.phase == "loss"
    for known, named in ((noise, [("mean-for-sum",)]), (None, [])):
        found = explain_steps(strayed(1, 1 / 24), right, location, known)
        assert found is not None
        assert [replay.names for replay in found.explanations] == named


def test_recorded_slots_are_where_updates_go_on_from() -> None:
    """A recording that begins in the middle of a training has its velocity from there."""
    case = toy.case(OPTIMIZERS["momentum"])
    begun = toy.build(case, "float64", "cpu")
    begun.train([next(case.schedule.epochs(toy.ROWS))])
    state = begun.export()

    def wrong() -> Trainer:
        nesterov = KNOWN["nesterov-momentum"]
        trainer = nesterov.plant(toy.build, case, "float64", "cpu")
        assert not isinstance(trainer, Unplanted)
        trainer.load(state)
        return trainer

    right = toy.build(case, "float64", "cpu")
    right.load(state)
    assert explained(run_of(wrong(), case), run_of(right, case))["named"] == ["nesterov-momentum"]


def test_an_update_that_is_wrong_by_itself_comes_before_what_follows_from_it() -> None:
    """What differs in the second gradient, because the first update was another, is not taken for the gradient's."""
    case = toy.case(OPTIMIZERS["adam"])
    mistake = KNOWN["adam-epsilon-inside-the-root"]
    wrong = run_of(mistake.plant(toy.build, case, "float64", "cpu"), case)
    right = run_of(toy.build(case, "float64", "cpu"), case)
    later = Location(phase=Phase.GRADIENT, epoch=1, batch=2)
    for pair, which in (((wrong, right), "first"), ((right, wrong), "second")):
        found = explain_steps(*pair, later)
        assert found is not None
        assert found.location.place.startswith("epoch 1, batch 0, update of ")
        assert which in found.location.note
        assert [replay.names for replay in found.explanations] == [(mistake.name,)]
    assert explain_steps(right, right, later) is None or not explain_steps(right, right, later).explanations


def test_a_run_recorded_deeply_is_held_against_its_optimizer_whatever_the_other_recorded() -> None:
    case = toy.case(OPTIMIZERS["adam"])
    mistake = KNOWN["adam-without-bias-correction"]
    wrong = run_of(mistake.plant(toy.build, case, "float64", "cpu"), case)
    right = replace(run_of(toy.build(case, "float64", "cpu"), case), steps={})
    some = differences(wrong.params["dense/bias"][:], right.params["dense/bias"][:], "dense/bias").absolute
    judged = Judgement(Verdict.FAIL, 2.0, 1, "dense/bias", "", some, 1e-9)
    for pair in ((wrong, right), (right, wrong)):
        assert explain_pair(*pair, judged, "no case").as_json()["named"] == ["adam-without-bias-correction"]


def test_states_that_differ_already_are_said_and_repetitions_tell() -> None:
    """Two runs whose states stray a little: what the gradient makes of it may be rounding."""
    case = toy.case(Sgd(0.1))
    right = run_of(toy.build(case, "float32", "cpu"), case, updates=3)

    def strayed(factor: float) -> Trajectory:
        steps = {name: np.array(value) for name, value in right.steps.items()}
        for name in ("1/params/dense/kernel", "1/gradients/dense/kernel"):
            steps[name] = steps[name] * np.float32(1 + (1e-6 if "params" in name else 1e-4) * factor)
        return replace(right, steps=steps)

    found = walk_pair(strayed(1), right)
    assert found is not None
    assert (found.phase, found.batch) == ("gradient", 1)
    assert "the states that this update began with differ already" in found.note
    assert "--noise" in found.note
    noise = Noise([(strayed(-0.5), right)])
    beyond = walk_pair(strayed(1), right, noise)
    assert beyond is not None
    assert beyond.check is None, beyond.place
    worse = walk_pair(strayed(30), right, noise)
    assert worse is not None
    assert (worse.phase, worse.batch) == ("update", 0)


@pytest.mark.parametrize("through", [False, True])
@pytest.mark.parametrize("biases", [False, True])
def test_a_penalty_in_the_reported_loss_is_named(through: bool, biases: bool) -> None:
    """As a regularizer has it: of the kernels alone or of the biases too, in the gradient or beside it."""
    case = toy.case(OPTIMIZERS["momentum"])
    decay = 0.2

    def evaluate(gradients, params, x, y):
        loss, found = gradients(x, y)
        names = [name for name in params if biases or name.endswith("kernel")]
        penalty = decay / 2 * sum((params[name] ** 2).sum() for name in names)
        return loss + penalty, {n: g + (decay * params[n] if through and n in names else 0) for n, g in found.items()}

    wrong = run_of(Stepwise(toy.build(case, "float64", "cpu"), case, "float64", evaluate=evaluate), case)
    right = run_of(toy.build(case, "float64", "cpu"), case)
    for pair in ((wrong, right), (right, wrong)):
        found = explained(*pair)
        assert (found["phase"], found["named"]) == ("loss", ["weight-decay-in-the-reported-loss"])


def test_of_a_large_tensor_a_sample_is_replayed_with_what_is_farthest_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.explaining.updates.remade.SAMPLE", 2)
    case = toy.case(OPTIMIZERS["momentum"])
    for name in ("nesterov-momentum", "weight-decay-not-on-biases"):
        mistake = KNOWN[name]
        wrong = run_of(mistake.plant(toy.build, case, "float64", "cpu"), case)
        right = run_of(toy.build(case, "float64", "cpu"), case)
        assert explained(wrong, right)["named"] == [name]
