"""Planted mistakes: each must fall on the rung of its own phase, with every rung before it held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
import pytest

from impls import FLOORS
from impls.logistic import logistic_numpy
from parity.dtypes import DTYPES
from parity.judging.floors.floor import Floor, load
from parity.judging.floors.noise import measure
from parity.judging.ladder import RUNGS, Rung, climb, rungs_of
from parity.judging.verdict import Verdict
from parity.running.keys import mark
from parity.spec import Array, Case, Metric, Published
from parity.suite import load_suite
from parity.tests import planted, toy
from parity.tests.planted import Mistake
from parity.trainer import Build

SUITE = load_suite("impls")
IRIS: Case = SUITE.entry("iris-logistic-minibatch").case
MODELS: dict[Case, Build] = {IRIS: logistic_numpy.build, toy.MOMENTUM: toy.build, toy.ADAM: toy.build}

FAULTS: list[tuple[Mistake, Case, str, tuple[str, ...]]] = [
    (planted.transposed_export, IRIS, "contract", DTYPES),
    (planted.view_for_copy, IRIS, "contract", DTYPES),
    (planted.gradients_in_float64, IRIS, "contract", ("float32",)),
    (planted.predictions_in_float64, IRIS, "contract", ("float32",)),
    (planted.figures_before_the_update, IRIS, "contract", DTYPES),
    (lambda build: toy.build_transposed, toy.MOMENTUM, "prediction", DTYPES),
    (planted.held_out_predictions, IRIS, "prediction", DTYPES),
    (planted.mean_for_sum, IRIS, "gradients", DTYPES),
    (planted.learning_rate, IRIS, "update", DTYPES),
    (planted.learning_rate_in_float32, toy.MOMENTUM, "update", ("float64",)),
    (planted.update_before_loss, IRIS, "update", DTYPES),
    # The update is the first that needs the slots of the state it starts from.
    (planted.slots_not_loaded, toy.MOMENTUM, "update", DTYPES),
    (planted.adam_without_correction, toy.ADAM, "update", DTYPES),
    (planted.adam_epsilon_hat, toy.ADAM, "update", DTYPES),
    (planted.adam_epsilon_inside_the_root, toy.ADAM, "update", DTYPES),
    (planted.batches_in_another_order, IRIS, "training", DTYPES),
    (planted.nan_loss_at_the_end, IRIS, "training", DTYPES),
    (planted.nan_parameter_at_the_end, IRIS, "training", DTYPES),
    (planted.slots_made_by_the_first_update, toy.MOMENTUM, "resume", DTYPES),
    (planted.slots_in_other_units, toy.MOMENTUM, "resume", DTYPES),
]
CLIMBS = [
    pytest.param(*fault[:3], dtype, id=f"{fault[0].__name__}-{dtype}".replace("<lambda>", "transposed_square"))
    for fault in FAULTS
    for dtype in fault[3]
]


@cache
def floors(case: Case) -> dict[str, Floor]:
    if case is not IRIS:
        return measure(MODELS[case], case, case.epochs)
    kept = load(FLOORS / f"{case.name}.safetensors", mark(SUITE, SUITE.entry(case.name), case.epochs))
    assert kept is not None, "the committed noise floor is of another case"
    return kept


def assert_falls(steps: Sequence[Rung], rung: str) -> str:
    """That ``rung`` is the first that is not held; its message."""
    climbed = [step.rung for step in steps]
    assert climbed == [known for known in RUNGS if known in climbed]
    assert set(climbed) >= set(RUNGS[: RUNGS.index(rung) + 1]) - {"figures"}
    fallen = [step for step in steps if step.verdict is not Verdict.PASS]
    assert [step.rung for step in fallen][:1] == [rung], [step.message for step in steps]
    return fallen[0].message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_without_a_mistake_every_rung_is_held(case: Case, dtype: str) -> None:
    steps = climb(MODELS[case], MODELS[case], case, dtype, "cpu", floors(case)[dtype])
    assert [(step.rung, step.verdict) for step in steps] == [(rung, Verdict.PASS) for rung in rungs_of(case, dtype)]
    assert ("figures" in rungs_of(case, dtype)) == (case is IRIS)


@pytest.mark.parametrize(("mistake", "case", "rung", "dtype"), CLIMBS)
def test_numpy(mistake: Mistake, case: Case, rung: str, dtype: str) -> None:
    honest = MODELS[case]
    steps = climb(mistake(honest), honest, case, dtype, "cpu", floors(case)[dtype])
    assert f"{case.name} {dtype}, {rung}: " in assert_falls(steps, rung)


def printed_otherwise(quantity: str, change: str) -> Callable[[Case], Case]:
    """The case whose source printed other digits of a quantity, in every dtype."""

    def changed(figure: Published) -> Published:
        values = {epoch: str(Decimal(text) + Decimal(change)) for epoch, text in figure.values.items()}
        return replace(figure, values=values) if figure.quantity == quantity else figure

    return lambda case: replace(
        case, publication=replace(case.publication, figures=tuple(map(changed, case.publication.figures)))
    )


def counted_otherwise(score: Callable[[Metric], Callable[[Array, Array], Array]]) -> Callable[[Case], Case]:
    """The case whose metrics are counted in another way, by the reference and by every implementation alike."""
    return lambda case: replace(case, metrics=tuple(replace(one, score=score(one)) for one in case.metrics))


WRONG_FIGURES: dict[str, tuple[Callable[[Case], Case], str]] = {
    "one weight printed 2e-6 higher": (printed_otherwise("weights[0]", "2e-6"), "weights[0]"),
    "one weight printed 2e-6 lower": (printed_otherwise("weights[1]", "-2e-6"), "weights[1]"),
    "the bias printed 2e-6 higher": (printed_otherwise("bias", "2e-6"), "bias"),
    "accuracy inverted": (counted_otherwise(lambda one: lambda p, y: 1 - one.score(p, y)), "Train"),
    "the less likely class": (counted_otherwise(lambda one: lambda p, y: one.score(1 - p, y)), "Train"),
    ">= for >": (counted_otherwise(lambda one: lambda p, y: np.mean((p >= 0.5) == y, (1, 2))), "Train"),
}
"""What every implementation has wrong together with the reference, and the figure that says so."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wrong", WRONG_FIGURES)
def test_what_the_reference_has_wrong_too_falls_by_the_figures(wrong: str, dtype: str) -> None:
    change, quantity = WRONG_FIGURES[wrong]
    steps = climb(MODELS[IRIS], MODELS[IRIS], change(IRIS), dtype, "cpu", floors(IRIS)[dtype])
    said = assert_falls(steps, "figures")
    assert said.startswith(f"{IRIS.name} {dtype}, figures: ")
    assert f" {quantity} of epoch" in said
    assert [step.rung for step in steps if step.verdict is not Verdict.PASS] == ["figures"]


def test_a_metric_whose_name_cannot_be_recorded_falls_at_once() -> None:
    """Else the ladder holds, and every run of the case ends before its first snapshot is on disk."""
    odd = replace(IRIS, metrics=tuple(replace(metric, name="test loss") for metric in IRIS.metrics))
    (found,) = climb(MODELS[IRIS], MODELS[IRIS], odd, "float64", "cpu", floors(IRIS)["float64"], rungs=("contract",))
    assert found.verdict is Verdict.FAIL
    assert "'test loss' cannot be recorded: a name is parts of letters" in found.message


def test_a_figure_of_what_was_not_recorded_is_no_pass() -> None:
    steps = climb(MODELS[IRIS], MODELS[IRIS], replace(IRIS, metrics=()), "float64", "cpu", floors(IRIS)["float64"])
    found = {step.rung: step for step in steps}["figures"]
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "the run holds no metrics/train_accuracy" in found.message


def test_what_raises_on_one_rung_is_still_seen_on_the_others() -> None:
    def build(case: Case, dtype: str, device: str) -> Any:
        trainer = toy.build(case, dtype, device)
        trainer.gradients = lambda x, y: {}["no such tensor"]
        return trainer

    steps = climb(build, toy.build, toy.ADAM, "float64", "cpu", floors(toy.ADAM)["float64"])
    assert "KeyError: 'no such tensor'" in assert_falls(steps, "contract")
    assert [step.rung for step in steps if step.verdict is Verdict.PASS] == [
        "prediction",
        "update",
        "training",
        "resume",
    ]


# The same in the real frameworks, each in its process.

LABELS = {"torch": "torch", "tensorflow": "tf1", "keras": "keras", "jax": "jax"}
IN_FRAMEWORKS = {
    "transposed_layout": "contract",
    "held_out_predictions": "prediction",
    "mean_for_sum": "gradients",
    "learning_rate": "update",
    "update_before_loss": "update",
    "batches_in_another_order": "training",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "label" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--parity-framework") or LABELS
    labels = [LABELS[name] for name in LABELS if name in chosen]
    if "mistake" in metafunc.fixturenames:
        pairs = [(label, mistake) for label in labels for mistake in IN_FRAMEWORKS]
        metafunc.parametrize(("label", "mistake"), pairs, ids=["-".join(pair) for pair in pairs])
    else:
        metafunc.parametrize("label", labels)


def climbed(label: str, mistake: str) -> tuple[Rung, ...]:
    """The way up to the rung of the mistake that is planted in the document's model, where its framework is."""
    build = SUITE.entry(IRIS.name).implementations[label].load().build
    wrong = getattr(planted, mistake)(build)
    rungs = RUNGS[: RUNGS.index(IN_FRAMEWORKS[mistake]) + 1]
    return tuple(climb(wrong, MODELS[IRIS], IRIS, "float64", "cpu", floors(IRIS)["float64"], rungs=rungs))


def climbed_to_the_figures(label: str) -> tuple[Rung, ...]:
    """The rung of figures alone, in both dtypes, where the first weight was printed 2e-6 off."""
    build = SUITE.entry(IRIS.name).implementations[label].load().build
    case = printed_otherwise("weights[0]", "2e-6")(IRIS)
    return tuple(
        rung
        for dtype in DTYPES
        for rung in climb(build, MODELS[IRIS], case, dtype, "cpu", floors(IRIS)[dtype], rungs=("figures",))
    )


@pytest.mark.asks(question=climbed)
def test_frameworks(label: str, mistake: str, answer: tuple[Rung, ...]) -> None:
    assert_falls(answer, IN_FRAMEWORKS[mistake])


@pytest.mark.asks(question=climbed_to_the_figures)
def test_a_weight_printed_2e_6_off_falls_in_every_framework(label: str, answer: tuple[Rung, ...]) -> None:
    for step in answer:
        assert (step.rung, step.verdict) == ("figures", Verdict.FAIL), step.message
        assert " weights[0] of epoch 15 is 3.3117" in step.message
