"""Why a run parts: named where one mistake, or two at once, replay it, and 'unexplained' where none does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from impls.logistic import logistic_numpy
from parity.dtypes import NARROW
from parity.explaining.diagnose import Diagnosis, diagnose
from parity.explaining.replay import Replays
from parity.explaining.walk import locate
from parity.judging.floors.floor import Floor
from parity.judging.floors.noise import measure
from parity.judging.verdict import Verdict, judge
from parity.judging.witness import Witness
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.mistake import ChangesNothing, Mistake, Unplanted
from parity.mistakes.stepwise import Stepwise
from parity.recording.steps import Phase
from parity.spec import Case
from parity.suite import load_suite
from parity.tests import toy
from parity.trainer import State, Trainer, record
from parity.trajectory import gather
from parity.typing import Array, Params

CASE = toy.MOMENTUM
KNOWN = {hypothesis.name: hypothesis for hypothesis in CATALOGUE}
HYPOTHESES = tuple(
    KNOWN[name]
    for name in ("kernel-transposed", "sum-for-mean", "half-squared-error", "nesterov-momentum", "bias-missing")
)


@cache
def floors() -> dict[str, Floor]:
    return measure(toy.build, CASE, CASE.epochs)


def explained(
    make: Callable[[], Trainer], dtype: str = "float64", hypotheses: tuple[Mistake, ...] = HYPOTHESES
) -> Diagnosis:
    run = gather(record(make(), CASE, CASE.epochs))
    replays = Replays(toy.build, CASE, hypotheses)
    assert judge(run, replays.right(CASE.epochs), floors()[dtype]).verdict is Verdict.FAIL
    place = locate(make(), Witness(toy.build, CASE, dtype), toy.build(CASE, "float64", "cpu"), 0, 1)
    return diagnose(run, place, replays, floors()[dtype], dtype)


@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.slow), "float64"])
@pytest.mark.parametrize(
    "name",
    [pytest.param(one.name, marks=[pytest.mark.slow] * (k % 4 != 0)) for k, one in enumerate(HYPOTHESES)],
)
def test_a_planted_mistake_is_named(name: str, dtype: str) -> None:
    found = explained(lambda: planted(dtype, name), dtype)
    assert found.explanations[0].names == (name,)
    assert found.location.phase == KNOWN[name].phase
    assert found.untouched > 16
    assert f"explained by {name}" in found.why({})


def planted(dtype: str, *names: str) -> Trainer:
    build: Any = toy.build
    for name in names:
        build = _with(KNOWN[name], build)
    return build(CASE, dtype, "cpu")


def _with(hypothesis: Mistake, build: Any) -> Any:
    return lambda case, dtype, device: hypothesis.plant(build, case, dtype, device)


def test_two_mistakes_at_once_are_named_together() -> None:
    found = explained(lambda: planted("float64", "half-squared-error", "nesterov-momentum"))
    assert len(found.explanations) >= 1
    assert set(found.explanations[0].names) == {"half-squared-error", "nesterov-momentum"}
    assert "half-squared-error" in found.why({})
    assert "nesterov-momentum" in found.why({})


def test_a_mistake_that_is_not_in_the_catalogue_is_not_explained() -> None:
    def odd(gradients: Any, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        return loss, {name: g + 0.01 * np.sign(g) for name, g in found.items()}

    found = explained(lambda: Stepwise(toy.build(CASE, "float64", "cpu"), CASE, "float64", evaluate=odd))
    assert found.explanations == ()
    assert found.why({}).startswith("unexplained")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_a_run_of_this_dtype_cannot_have_does_not_explain_it(dtype: str) -> None:
    float64_only = tuple(KNOWN[name] for name in ("float32-layers", "float32-learning-rate"))
    found = explained(lambda: planted(dtype, "nesterov-momentum"), dtype, (*HYPOTHESES, *float64_only))
    assert found.explanations[0].names == ("nesterov-momentum",)
    tried = {name for replay in found.replays for name in replay.names}
    assert ({hypothesis.name for hypothesis in float64_only} <= tried) == (dtype == "float64")


def test_what_cannot_be_planted_and_what_changes_nothing_are_counted_apart() -> None:
    others = tuple(KNOWN[name] for name in ("amsgrad", "float32-layers", "leaky-relu", "embedding-scaled"))
    for dtype, impossible in (("float64", ["amsgrad"]), ("float32", ["float32-layers", "amsgrad"])):
        found = explained(lambda dtype=dtype: planted(dtype, "nesterov-momentum"), dtype, (*HYPOTHESES, *others))
        assert sorted(found.impossible) == sorted(impossible)
        assert sorted(found.without_effect) == ["embedding-scaled", "leaky-relu"]
        assert "gives no occasion" in found.unplanted["amsgrad"].why
        tried = {name for replay in found.replays for name in replay.names}
        assert not tried & set(found.unplanted)


def test_a_mistake_that_ends_in_nan_is_explained_by_its_like() -> None:
    def diverging(build: Any, case: Case, dtype: str, device: str) -> Trainer:
        return Stepwise(build(case, dtype, device), case, dtype, rule=undefined)

    def undefined(rule: Any, name: str, p: Array, g: Array, state: State) -> Array:
        return p * np.sqrt(2.5 - state.step)

    mistake = Mistake(
        name="not-a-number",
        phase=Phase.UPDATE,
        sentence="It ends in NaN.",
        reference="made for this test",
        how=diverging,
    )
    found = explained(lambda: diverging(toy.build, CASE, "float64", "cpu"), hypotheses=(*HYPOTHESES, mistake))
    assert [replay.names for replay in found.explanations] == [("not-a-number",)]
    without = explained(lambda: diverging(toy.build, CASE, "float64", "cpu"))
    assert without.explanations == ()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["log-without-clamp", "log-without-clamp-beside-its-gradient"])
@pytest.mark.parametrize("dtype", NARROW)
def test_a_mistake_that_needs_the_overflow_of_a_narrow_dtype_is_found_there(dtype: str, name: str) -> None:
    """In float64 no probability of this run meets the clamps, so that there is no such mistake."""
    case = load_suite("impls").entry("iris-logistic").case
    tried = ("mean-for-sum", "label-smoothing", "log-without-clamp", "log-without-clamp-beside-its-gradient")
    mistake = KNOWN[name]
    assert isinstance(mistake.plant(logistic_numpy.build, case, "float64", "cpu"), ChangesNothing)
    wrong = mistake.plant(logistic_numpy.build, case, dtype, "cpu")
    assert not isinstance(wrong, Unplanted)
    run = gather(record(wrong, replace(case, metrics=()), case.epochs))
    assert np.isnan(run.loss).any()
    wrong.load(logistic_numpy.build(case, dtype, "cpu").export())
    witness = Witness(logistic_numpy.build, case, dtype)
    place = locate(wrong, witness, logistic_numpy.build(case, "float64", "cpu"), 0, 3)
    assert place.phase == "loss"
    replays = Replays(logistic_numpy.build, case, [KNOWN[one] for one in tried])
    floor = measure(logistic_numpy.build, case, case.epochs, dtypes=(dtype,))[dtype]
    found = diagnose(run, place, replays, floor, dtype)
    assert [replay.names for replay in found.explanations] == [(name,)]


def test_a_mistake_that_rounds_is_replayed_in_the_dtype_of_the_run() -> None:
    rounding = (KNOWN["half-precision-accumulation"],)

    def rounded(dtype: str) -> Callable[[], Trainer]:
        return lambda: planted(dtype, rounding[0].name)

    for dtype in ("float32", "float64"):
        assert explained(rounded(dtype), dtype, rounding).explanations[0].names == (rounding[0].name,)


def test_a_replay_is_made_once_for_many_runs() -> None:
    made = []

    def counted(case: Case, dtype: str, device: str) -> Trainer:
        made.append(dtype)
        return toy.build(case, dtype, device)

    replays = Replays(counted, CASE, HYPOTHESES)
    long = replays.path(("sum-for-mean",), 4)
    assert replays.path(("sum-for-mean",), 2) is long
    assert len(made) == 1
    longer = replays.path(("sum-for-mean",), 5)
    assert longer is not None
    assert len(longer.loss) == 5
    np.testing.assert_array_equal(longer.loss[:4], long.loss)


def test_out_of_time_is_said() -> None:
    run = gather(record(planted("float64", "sum-for-mean"), CASE, CASE.epochs))
    place = locate(
        planted("float64", "sum-for-mean"), Witness(toy.build, CASE, "float64"), toy.build(CASE, "float64", "cpu"), 0, 1
    )
    found = diagnose(run, place, Replays(toy.build, CASE, HYPOTHESES), floors()["float64"], seconds=-1)
    assert found.unfinished
    assert found.replays == ()
    assert "in the time there was" in found.why({})
