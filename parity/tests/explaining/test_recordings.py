"""Recorded updates held against the optimizer that a run says it has, with no case and no model at hand."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.explaining.explain import explain_pair
from parity.explaining.location import Location
from parity.explaining.recordings import explain_steps
from parity.explaining.updates import UPDATES as MISTAKES
from parity.explaining.updates import Updates, optimizer_said
from parity.explaining.walk import Noise, walk_pair
from parity.judging.compare import differences
from parity.judging.verdict import Judgement, Verdict
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.catalogue.updates import nesterov
from parity.mistakes.mistake import Unplanted
from parity.mistakes.stepwise import Stepwise, asked, honest
from parity.recorder import Recorder
from parity.recording.steps import Phase, steps_of
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd, optimizer_from
from parity.suite import load_suite
from parity.tests import toy
from parity.tests.command import Parity, complaint
from parity.tests.explaining.test_explain import recorded
from parity.tests.suites import strict_json
from parity.trainer import Trainer
from parity.trajectory import Trajectory

KNOWN = {mistake.name: mistake for mistake in MISTAKES}
UPDATES = 18
"""All of the toy's."""
OPTIMIZERS: dict[str, Optimizer] = {
    "adam": Adam(0.1, epsilon=1e-3),
    "adamw": AdamW(0.1, epsilon=1e-3, weight_decay=0.2),
    "momentum": Sgd(0.1, momentum=0.9, weight_decay=0.2),
    "sgd": Sgd(0.1, weight_decay=0.2),
}


def run_of(
    trainer: Trainer | Unplanted, case: Case, said: Optimizer | None = None, updates: int = UPDATES
) -> Trajectory:
    assert not isinstance(trainer, Unplanted)
    run = recorded(trainer, updates, case)
    return replace(run, meta={**run.meta, "hyper_parameters": {"optimizer": repr(said or case.optimizer)}})


def explained(run: Trajectory, other: Trajectory) -> dict:
    some = Judgement(Verdict.FAIL, 2.0, 1, "loss", "", None, 1.0)
    return explain_pair(run, other, some, "no case is at hand").as_json()


def planted() -> list[tuple[str, str, str]]:
    """Each mistaken rule, the optimizers that it can be made of, and the dtypes."""
    found = []
    for mistake in MISTAKES:
        for name, optimizer in OPTIMIZERS.items():
            for dtype in ("float64", "float32"):
                if not isinstance(mistake.plant(toy.build, toy.case(optimizer), dtype, "cpu"), Unplanted):
                    found.append((mistake.name, name, dtype))
    return found


def test_every_mistaken_rule_is_tried() -> None:
    assert {name for name, *_ in planted()} == {mistake.name for mistake in MISTAKES}


@pytest.mark.parametrize(("name", "optimizer", "dtype"), planted())
def test_a_mistaken_update_is_named_from_its_own_gradients(name: str, optimizer: str, dtype: str) -> None:
    mistake = KNOWN[name]
    case = toy.case(OPTIMIZERS[optimizer])
    wrong = run_of(mistake.plant(toy.build, case, dtype, "cpu"), case)
    right = run_of(toy.build(case, dtype, "cpu"), case)
    for pair, which in (((wrong, right), "first"), ((right, wrong), "second")):
        found = explained(*pair)
        # 6e-6 of a step is within 64 roundings of a float32 parameter: what follows from it shows it first.
        slight = (name, dtype) == ("adam-bias-correction-in-float32", "float32")
        assert (found["phase"] != "update") == slight
        assert found["named"] == [name], found["sentence"]
        assert found["note"].startswith(f"it is the {which} run whose updates")


def test_right_updates_are_not_blamed() -> None:
    """Both do what they say, which is not the same: no mistake is named, and it is said what each does."""
    ours, theirs = toy.case(Sgd(0.1)), toy.case(Sgd(0.2))
    found = explained(*(run_of(toy.build(case, "float64", "cpu"), case) for case in (ours, theirs)))
    assert (found["phase"], found["named"]) == ("update", [])
    assert "that it is meant to have: Sgd(learning_rate=0.1" in found["why"]
    assert "and Sgd(learning_rate=0.2" in found["why"]


def test_an_update_that_no_mistake_makes_is_unexplained() -> None:
    case = toy.case(OPTIMIZERS["adam"])

    def rule(optimizer, name, p, g, state):
        return p - 0.1 * np.cbrt(g)

    found = explained(
        run_of(Stepwise(toy.build(case, "float64", "cpu"), case, "float64", rule=rule), case),
        run_of(toy.build(case, "float64", "cpu"), case),
    )
    assert found["named"] == []
    assert found["sentence"].endswith("mistakes tried brings it into the noise floor")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_another_learning_rate_is_named_with_its_size(optimizer: str, dtype: str) -> None:
    case = toy.case(OPTIMIZERS[optimizer])
    faster = toy.case(replace(case.optimizer, learning_rate=0.13))
    wrong = run_of(toy.build(faster, dtype, "cpu"), case)
    found = explained(wrong, run_of(toy.build(case, dtype, "cpu"), case))
    assert found["named"] == ["another-learning-rate"]
    assert "in this update its steps are 1.3 times that optimizer's, everywhere" in found["note"]
    assert "those of a learning rate of 0.13" in found["note"]


def test_steps_that_are_a_multiple_once_are_of_no_other_learning_rate() -> None:
    case = toy.case(OPTIMIZERS["momentum"])

    def once(optimizer, name, p, g, state):
        faster = replace(optimizer, learning_rate=optimizer.learning_rate * (2 if state.step == 2 else 1))
        return honest(faster, name, p, g, state)

    found = explained(ruled(case, once), ruled(case))
    assert found["named"] == []
    assert found["note"].endswith("in this update its steps are 2 times that optimizer's, everywhere")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_updates_that_the_dtype_loses_are_no_mistake(dtype: str) -> None:
    """In bfloat16 each of 300 updates may be less than half a unit in the last place."""
    case = replace(toy.case(Sgd(0.002)), epochs=100)
    run = run_of(toy.build(case, dtype, "cpu"), case, updates=300)
    run = replace(run, meta={**run.meta, "dtype": dtype})
    assert Updates(run, steps_of(run), Sgd(0.002)).first_mistaken() is None
    assert Updates(run, steps_of(run), Sgd(0.02)).first_mistaken() is not None


SUITE = load_suite("impls")
OF_LOSSES = ("sum-for-mean", "mean-for-sum", "mean-over-classes", "half-squared-error")


# Those two take longer than all others together.
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("char-gru", "mnist-mlp"))) for name in SUITE.entries],
)
def test_mistakes_in_the_documents_cases_are_named_from_recordings_alone(name: str) -> None:
    entry = SUITE.entry(name)
    epochs = min(entry.case.epochs, 4)
    case = replace(entry.case, metrics=(), epochs=epochs, every=min(entry.case.every, epochs))
    build = entry.implementations["numpy"].build
    right = run_of(build(case, "float64", "cpu"), case)
    tried = 0
    for mistake in CATALOGUE:
        if mistake in MISTAKES or mistake.name in OF_LOSSES:
            trainer = mistake.plant(build, case, "float64", "cpu")
            if not isinstance(trainer, Unplanted):
                with np.errstate(all="ignore"):
                    found = explained(run_of(trainer, case), right)
                assert found["named"] == [mistake.name], found["sentence"]
                tried += 1
    assert tried


def test_without_an_optimizer_it_is_said_what_would_tell() -> None:
    case = toy.case(Sgd(0.1))
    one, other = (run_of(toy.build(toy.case(Sgd(rate)), "float64", "cpu"), case) for rate in (0.1, 0.2))
    one, other = (replace(run, meta={"dtype": "float64"}) for run in (one, other))
    assert optimizer_said(one) is None
    found = explained(one, other)
    assert "neither run says its optimizer" in found["why"]


def test_a_run_that_says_no_optimizer_is_held_to_the_others() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    nesterov = KNOWN["nesterov-momentum"]
    wrong = run_of(nesterov.plant(toy.build, case, "float64", "cpu"), case)
    right = run_of(toy.build(case, "float64", "cpu"), case)
    for pair in (
        (replace(wrong, meta={"dtype": "float64"}), right),
        (wrong, replace(right, meta={"dtype": "float64"})),
    ):
        assert explained(*pair)["named"] == ["nesterov-momentum"]


def scheduled(optimizer, name, p, g, state):
    """Half the learning rate, of which parity.spec has no word."""
    return honest(replace(optimizer, learning_rate=optimizer.learning_rate / 2), name, p, g, state)


def unbiased(optimizer, name, p, g, state):
    """A schedule and a decay of kernels alone."""
    return scheduled(replace(optimizer, weight_decay=0) if name.endswith("bias") else optimizer, name, p, g, state)


def ruled(case: Case, rule: Any = honest, evaluate: Any = asked) -> Trajectory:
    return run_of(Stepwise(toy.build(case, "float64", "cpu"), case, "float64", rule=rule, evaluate=evaluate), case)


def test_what_both_runs_do_and_their_optimizer_does_not_is_blamed_on_neither() -> None:
    case = toy.case(OPTIMIZERS["momentum"])
    ours, theirs = ruled(case, scheduled), ruled(case, unbiased)
    for pair, which in (((ours, theirs), "first"), ((theirs, ours), "second")):
        found = explained(*pair)
        assert (found["phase"], found["batch"], found["named"]) == ("update", 0, [])
        assert "from update 0 on, neither run's updates are those of the optimizer that it is meant" in found["why"]
        assert "perhaps for a schedule, clipping or a choice of what decays" in found["why"]
        assert found["note"] == f"the updates of the {which} run are explained by another-learning-rate"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_schedule_one_step_off_is_no_other_learning_rate(dtype: str) -> None:
    """A decay at every step, in both runs: what one update shows of a rate says nothing of the next."""
    case = toy.case(Sgd(0.05))

    def decayed(late: int) -> Trainer:
        def rule(optimizer, name, p, g, state):
            rate = optimizer.learning_rate * 0.9 ** (state.step - late)
            return honest(replace(optimizer, learning_rate=rate), name, p, g, state)

        return Stepwise(toy.build(case, dtype, "cpu"), case, dtype, rule=rule)

    found = explained(run_of(decayed(0), case), run_of(decayed(1), case))
    assert found["named"] == []
    assert "in this update its steps are 0.9 times that optimizer's, everywhere" in found["note"]
    assert "a learning rate of" not in found["note"]


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
    """A loss that is halved, in a run whose roundings have grown beyond what is allowed without a measurement."""
    case = toy.case(Sgd(0.1))
    right = run_of(toy.build(case, "float32", "cpu"), case, updates=3)

    def strayed(factor: float, half: float = 1.0) -> Trajectory:
        steps = {name: np.array(value) for name, value in right.steps.items()}
        for name, value in steps.items():
            if "gradients/" in name or name.endswith(("loss", "trained")):
                steps[name] = value * np.float32(half * (1 + 1e-4 * factor))
        return replace(right, steps=steps)

    location = walk_pair(strayed(1, 0.5), right, noise := Noise([(strayed(-0.5), right)]))
    assert location is not None
    assert location.phase == "loss"
    for known, named in ((noise, [("half-squared-error",)]), (None, [])):
        found = explain_steps(strayed(1, 0.5), right, location, known)
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


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS.values(), Sgd(1e-05), Adam(1, 0, 0.5, 1e300)], ids=repr)
def test_what_an_optimizer_prints_is_read_back(optimizer: Optimizer) -> None:
    assert optimizer_from(repr(optimizer)) == optimizer


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sgd()",
        "Sgd(rate=1.0)",
        "Sgd(learning_rate=1..2)",
        "Sgd(learning_rate=1.0, learning_rate=2.0)Sgd(learning_rate=1.0)",
        "Sgd(learning_rate=__import__('os'))",
        "Adam(beta1=0.9)",
        "Adam(learning_rate=nan)",
        "AdamW(learning_rate=1, momentum=1)",
        "Lion(learning_rate=1)",
    ],
)
def test_other_words_are_no_optimizer(text: str) -> None:
    assert optimizer_from(text) is None


ROWS, OUTPUTS = 16, 3


def loop(folder: Path, inside: bool = False, factor: float = 1.0, zeroed: bool = True) -> None:
    """A training loop of one's own: least squares, averaged over rows, with Adam by hand."""
    generator = np.random.default_rng(0)
    x, y = generator.standard_normal((2 * ROWS, 4)), generator.standard_normal((2 * ROWS, OUTPUTS))
    kernel = np.zeros((4, OUTPUTS))
    g, m, v = (np.zeros_like(kernel) for _ in range(3))
    with Recorder(folder, "float64", deep=5, optimizer=Adam(0.01, epsilon=1e-4)) as run:
        run.snapshot({"dense/kernel": kernel})
        for t in range(1, 13):
            rows = np.arange(2 * ROWS)[t % 2 :: 2]
            prediction = x[rows] @ kernel
            loss = factor * np.sum((prediction - y[rows]) ** 2) / ROWS
            g = (0 if zeroed else g) + factor * x[rows].T @ (2 * (prediction - y[rows])) / ROWS
            now = {"params": {"dense/kernel": kernel}, "gradients": {"dense/kernel": g}}
            run.step(loss, rows=rows, prediction=prediction, **now)
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
            kernel -= 0.01 * m_hat / (np.sqrt(v_hat + 1e-4) if inside else np.sqrt(v_hat) + 1e-4)
            if t % 2 == 0:
                run.snapshot({"dense/kernel": kernel})


LOOPS = {
    "adam-epsilon-inside-the-root": ({"inside": True}, "batch 0, update of dense/kernel"),
    "sum-for-mean": ({"factor": ROWS}, "batch 0, loss"),
    "mean-for-sum": ({"factor": 1 / ROWS / OUTPUTS}, "batch 0, loss"),
    "mean-over-classes": ({"factor": 1 / OUTPUTS}, "batch 0, loss"),
    "half-squared-error": ({"factor": 1 / 2}, "batch 0, loss"),
    "gradient-not-zeroed": ({"zeroed": False}, "batch 1, gradient of dense/kernel"),
}
"""By mistake, a loop that makes it, and where it is first seen."""
TURNED = {"sum-for-mean": "mean-for-sum", "mean-for-sum": "sum-for-mean"}
"""Of two reductions nobody knows which was meant: whichever run is asked about, its own is explained."""


@pytest.mark.parametrize("name", LOOPS)
def test_two_loops_of_ones_own_are_explained_on_the_command_line(name: str, parity: Parity, tmp_path: Path) -> None:
    wrong, place = LOOPS[name]
    loop(tmp_path / "mine", **wrong)
    loop(tmp_path / "theirs")
    ways = (("mine", "theirs"), name, "first"), (("theirs", "mine"), TURNED.get(name, name), "second")
    for pair, named, which in ways:
        result = parity("explain", *(tmp_path / one for one in pair), "--json", "found.json")
        assert result.status == 1
        assert f"first differs at epoch 1, {place}" in result.out
        assert f"explained by {named} (" in result.out
        assert f"the {'first' if named != name else which} run" in result.out
        (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
        assert found["named"] == [named]


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


def test_a_loss_of_another_size_is_unexplained(parity: Parity, tmp_path: Path) -> None:
    loop(tmp_path / "mine", factor=1.7)
    loop(tmp_path / "theirs")
    result = parity("explain", tmp_path / "mine", tmp_path / "theirs")
    assert "unexplained: none of the 4 mistakes tried brings it into the noise floor" in result.out


def test_of_a_large_tensor_a_sample_is_replayed_with_what_is_farthest_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parity.explaining.updates.SAMPLE", 2)
    case = toy.case(OPTIMIZERS["momentum"])
    for name in ("nesterov-momentum", "weight-decay-not-on-biases"):
        mistake = KNOWN[name]
        wrong = run_of(mistake.plant(toy.build, case, "float64", "cpu"), case)
        right = run_of(toy.build(case, "float64", "cpu"), case)
        assert explained(wrong, right)["named"] == [name]


@pytest.mark.parametrize("shape", [(3, 2), (1,)])
def test_gradients_of_another_shape_are_said_in_a_line(
    shape: tuple[int, ...], parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, kernel in (("a", 1.0), ("b", 2.0)):
        with Recorder(tmp_path / name, "float64", deep=1, optimizer=Sgd(0.1)) as run:
            monkeypatch.setattr(run, "_gradients", lambda gradients, params: gradients)  # which would refuse them
            run.snapshot({"dense/kernel": np.zeros((4, 1))})
            run.step(1.0, rows=[0], prediction=[0.0], gradients={"dense/kernel": np.ones(shape)},
                     params={"dense/kernel": np.zeros((4, 1))})  # fmt: skip
            run.snapshot({"dense/kernel": np.full((4, 1), kernel)})
    result = parity("explain", tmp_path / "a", tmp_path / "b")
    assert result.status == 2
    assert "do not fit" in complaint(result)
