"""Planted mistakes: each must fall on the rung of its own phase, with every rung before it held."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest

from impls import FLOORS
from impls.logistic import logistic_numpy
from parity.dtypes import DTYPES
from parity.judging.floor import Floor, load
from parity.judging.ladder import RUNGS, Rung, climb
from parity.judging.noise import measure
from parity.judging.verdict import Verdict
from parity.running.keys import mark
from parity.spec import Case
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
    assert tuple(step.rung for step in steps) in (RUNGS, RUNGS[: RUNGS.index(rung) + 1])
    fallen = [step.rung for step in steps if step.verdict is not Verdict.PASS]
    assert fallen[:1] == [rung], [step.message for step in steps]
    return steps[RUNGS.index(rung)].message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def test_without_a_mistake_every_rung_is_held(case: Case, dtype: str) -> None:
    steps = climb(MODELS[case], MODELS[case], case, dtype, "cpu", floors(case)[dtype])
    assert [(step.rung, step.verdict) for step in steps] == [(rung, Verdict.PASS) for rung in RUNGS]


@pytest.mark.parametrize(("mistake", "case", "rung", "dtype"), CLIMBS)
def test_numpy(mistake: Mistake, case: Case, rung: str, dtype: str) -> None:
    honest = MODELS[case]
    steps = climb(mistake(honest), honest, case, dtype, "cpu", floors(case)[dtype])
    assert f"{case.name} {dtype}, {rung}: " in assert_falls(steps, rung)


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
    if "label" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or LABELS
        pairs = [(LABELS[name], mistake) for name in LABELS if name in chosen for mistake in IN_FRAMEWORKS]
        metafunc.parametrize(("label", "mistake"), pairs, ids=["-".join(pair) for pair in pairs])


def climbed(label: str, mistake: str) -> tuple[Rung, ...]:
    """The way up to the rung of the mistake that is planted in the document's model, where its framework is."""
    build = SUITE.entry(IRIS.name).implementations[label].load().build
    wrong = getattr(planted, mistake)(build)
    rungs = RUNGS[: RUNGS.index(IN_FRAMEWORKS[mistake]) + 1]
    return tuple(climb(wrong, MODELS[IRIS], IRIS, "float64", "cpu", floors(IRIS)["float64"], rungs=rungs))


@pytest.mark.asks(question=climbed)
def test_frameworks(label: str, mistake: str, answer: tuple[Rung, ...]) -> None:
    assert_falls(answer, IN_FRAMEWORKS[mistake])
