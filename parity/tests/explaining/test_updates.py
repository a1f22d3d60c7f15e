"""Mistaken updates are named from what one recording says of itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.explaining.updates.remade import UPDATES as MISTAKES
from parity.explaining.updates.remade import Updates
from parity.explaining.updates.sides import optimizer_said
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.catalogue.recipe import MISTAKES as RECIPE
from parity.mistakes.mistake import Unplanted
from parity.mistakes.stepwise import Stepwise, honest
from parity.nn import adam
from parity.recorder import Recorder
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.spec import Adam, Optimizer, Sgd, optimizer_from
from parity.suite import load_suite
from parity.tests import toy
from parity.tests.explaining.runs import KNOWN, OPTIMIZERS, explained, ruled, run_of
from parity.trainer import State


def planted() -> list[Any]:
    """Each mistaken rule, the optimizers that it can be made of, and the dtypes: some of float64 in every run."""
    found = []
    for mistake in MISTAKES:
        for name, optimizer in OPTIMIZERS.items():
            for dtype in ("float64", "float32"):
                if not isinstance(mistake.plant(toy.build, toy.case(optimizer), dtype, "cpu"), Unplanted):
                    marks = [pytest.mark.slow] * (dtype == "float32" or len(found) % 6 != 0)
                    found.append(pytest.param(mistake.name, name, dtype, marks=marks))
    return found


def test_every_mistaken_rule_is_tried() -> None:
    """But those of schedules, decay masks and clipping, for which a plain optimizer gives no occasion."""
    assert {param.values[0] for param in planted()} == {mistake.name for mistake in MISTAKES if mistake not in RECIPE}


@pytest.mark.parametrize(("name", "optimizer", "dtype"), planted())
def test_a_mistaken_update_is_named_from_its_own_gradients(name: str, optimizer: str, dtype: str) -> None:
    mistake = KNOWN[name]
    case = toy.case(OPTIMIZERS[optimizer])
    wrong = run_of(mistake.plant(toy.build, case, dtype, "cpu"), case)
    right = run_of(toy.build(case, dtype, "cpu"), case)
    for pair, which in (((wrong, right), "first"), ((right, wrong), "second")):
        found = explained(*pair)
        assert found["phase"] == "update"
        assert found["named"] == [name], found["sentence"]
        assert found["note"].startswith(f"it is the {which} run whose updates")


def test_right_updates_are_not_blamed() -> None:
    """Both do what they say, which is not the same: neither is blamed, and both numbers are said."""
    ours, theirs = toy.case(Sgd(0.1)), toy.case(Sgd(0.2))
    found = explained(*(run_of(toy.build(case, "float64", "cpu"), case) for case in (ours, theirs)))
    assert (found["phase"], found["named"]) == ("update", ["another-learning-rate"])
    assert "each run's updates are those of the optimizer that it is meant to have" in found["note"]
    assert "the first run's learning rate is 0.1, the second's 0.2; which of the two is meant" in found["note"]


@pytest.mark.parametrize("said", [Sgd(0.1, 0.9), Adam(0.1)])
def test_numbers_that_change_no_update_explain_nothing(said: Optimizer) -> None:
    """Adam's epsilon beside large gradients; here both runs have one and the same, whatever they say."""
    case = toy.case(said)
    run = run_of(toy.build(case, "float64", "cpu"), case)
    other = Adam(0.1, epsilon=1e-200) if isinstance(said, Adam) else Sgd(0.1, 0.9, 1e-30)
    moved = {name: values + 1e-9 * (name == "5/params/dense/bias") for name, values in run.steps.items()}
    unlike = replace(run, meta=run.meta | {"hyper_parameters": {"optimizer": repr(other)}}, steps=moved)
    assert "another-epsilon" not in explained(run, unlike)["named"]
    assert "another-weight-decay" not in explained(run, unlike)["named"]


@pytest.mark.parametrize(("framework", "departs"), [("flax", False), ("keras", False), ("torch", True)])
def test_an_update_of_a_gradient_that_rounding_moved_is_blamed_where_it_is_the_runs_own(
    framework: str, departs: bool, tmp_path: Path
) -> None:
    """Adam makes a full step of a gradient that is rounding alone, and that of an update made aside is another one."""
    draw, moments = np.random.RandomState(0), {"first_moment/w": np.zeros(8), "second_moment/w": np.zeros(8)}
    state = State({"w": draw.normal(size=8).astype(np.float32)}, moments, 0)
    with Recorder(tmp_path, "float32", implementation=framework, deep=3, optimizer=Adam(1e-3)) as run:
        run.snapshot(state.params)
        for number in range(3):
            own = draw.normal(size=8)
            own[0] = 1e-9 * (-1) ** number  # zero, but for rounding
            aside = np.where(np.arange(8) == 0, -own, own).astype(np.float32)
            before, state.step = state.params["w"], number + 1
            state.params = {"w": adam(Adam(1e-3), "w", before.astype(np.float64), own, state).astype(np.float32)}
            strays = {"gradients/w": np.array([2e-9])}
            run.step(1.0, rows=[number], prediction=[0.0], params={"w": before}, gradients={"w": aside}, strays=strays)
            run.snapshot(state.params, number + 1)
    found = read(tmp_path)
    updates = Updates(found, steps_of(found), Adam(1e-3))
    assert (updates.departs() is not None) == departs
    assert (updates.first_mistaken() is not None) == departs


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


@pytest.mark.slow
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
    assert "in this update its steps are 2 times that optimizer's, everywhere" in found["note"]
    said = "learning rates of 0.1, 0.2 from update 1 on and 0.1 from update 2 on against that optimizer's 0.1"
    assert found["note"].endswith(said)


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
                if mistake.name == "clipped-by-value" and found["named"] == ["clipping-missing"]:
                    # No value of these gradients is as large as the limit, and nothing is cut.
                    assert "cannot be told apart from clipped-by-value" in found["why"]
                elif mistake.name == "mean-over-classes" and not found["named"]:
                    # Of few classes: there may be as many workers or micro-batches.
                    assert "recordings do not tell which it is" in found["why"]
                elif mistake.name == "half-squared-error":  # which nobody can tell from another loss here
                    assert found["named"] == []
                    assert "are 0.5 times the second's" in found["why"]
                else:
                    assert found["named"] == [mistake.name], found["sentence"]
                tried += 1
    assert tried


def test_without_an_optimizer_the_most_usual_ones_are_tried() -> None:
    case = toy.case(Sgd(0.1))
    one, other = (run_of(toy.build(toy.case(Sgd(rate)), "float64", "cpu"), case) for rate in (0.1, 0.2))
    one, other = (replace(run, meta={"dtype": "float64"}) for run in (one, other))
    assert optimizer_said(one) is None
    found = explained(one, other)
    assert found["named"] == ["another-learning-rate"]
    assert "both runs' updates are those of SGD" in found["note"]
    assert "the first run's learning rates of 0.1 against the second's 0.2" in found["note"]
    assert "which of the two is meant, recordings do not tell" in found["note"]


def test_without_an_optimizer_that_is_usual_it_is_said_what_would_tell() -> None:
    case = toy.case(OPTIMIZERS["adam"])

    def rule(power: float) -> Any:
        return lambda optimizer, name, p, g, state: p - 0.1 * np.sign(g) * np.abs(g) ** power

    one, other = (replace(ruled(case, rule(power)), meta={"dtype": "float64"}) for power in (0.3, 0.4))
    found = explained(one, other)
    assert found["named"] == []
    assert "neither run says its optimizer" in found["why"]
    assert "by no one number" in found["why"]


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


def test_a_run_that_says_no_optimizer_may_leave_out_of_the_decay_what_the_other_does() -> None:
    """As one of optax, whose mask nobody can read, beside torch's groups: both spare biases; a velocity parts."""
    case = toy.case(OPTIMIZERS["momentum"])

    def masked(optimizer: Optimizer, name: str, *given: Any) -> Any:
        return honest(replace(optimizer, weight_decay=0.0) if name.endswith("bias") else optimizer, name, *given)

    of_all = {"lr": 0.1, "momentum": 0.9, "dampening": 0, "nesterov": False}
    groups = [{**of_all, "weight_decay": 0.2}, {**of_all, "weight_decay": 0.0}]
    run = ruled(case, masked)
    said = replace(run, meta={"dtype": "float64", "optimizer": {"class": "torch.optim.sgd.SGD", "groups": groups}})
    moved = {name: values * (1 + 1e-13 * name.endswith("momentum/dense/kernel")) for name, values in run.steps.items()}
    unsaid = replace(run, meta={"dtype": "float64"}, steps=moved)
    assert optimizer_said(said) == case.optimizer
    for pair in ((said, unsaid), (unsaid, said)):
        assert explained(*pair)["named"] == []
    for pair in ((said, replace(ruled(case), meta=unsaid.meta)), (replace(ruled(case), meta=unsaid.meta), said)):
        assert explained(*pair)["named"] == ["weight-decay-on-everything"]


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
