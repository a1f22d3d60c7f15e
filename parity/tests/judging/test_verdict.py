"""The verdict on two runs: what differs fails, and what was not compared never passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from parity.judging.floors.floor import Floor, least_floor
from parity.judging.verdict import EXIT_STATUS, Judgement, Verdict, judge, overall
from parity.tests.judging.runs import (
    BATCHES,
    EPOCHS,
    SHAPES,
    at,
    copy,
    epoch_at,
    exhaustive,
    floor_of,
    make,
    places,
    put,
    tolerance_at,
)
from parity.trajectory import Trajectory


def test_a_run_agrees_with_itself() -> None:
    run = make()
    assert judge(copy(run), run, floor_of(run)).verdict is Verdict.PASS
    assert judge(copy(run), run, floor_of(run)).ratio == 0


@exhaustive
@given(places, st.floats(1.001, 1e6), st.sampled_from([-1, 1]))
def test_a_single_difference_beyond_its_tolerance_fails_and_is_named(
    place: tuple[Any, ...], factor: float, sign: int
) -> None:
    reference = make()
    run, floor = copy(reference), floor_of(reference)
    put(run, place, at(run, place) + sign * factor * tolerance_at(floor, place))
    found = judge(run, reference, floor)
    assert (found.verdict, found.parameter, found.epoch) == (Verdict.FAIL, place[0], epoch_at(place))
    assert found.difference is not None
    assert (found.difference.a, found.difference.b) == (at(run, place), at(reference, place))
    assert found.tolerance == tolerance_at(floor, place)
    assert found.ratio == pytest.approx(factor, rel=1e-3)
    assert f"epoch {epoch_at(place)}" in found.reason
    index = f", batch {place[2]}: loss" if place[0] == "loss" else f"{place[0]}[{', '.join(map(str, place[2:]))}]"
    assert index in found.reason


@exhaustive
@given(places, st.floats(0.01, 0.999))
def test_a_difference_within_its_tolerance_passes_with_its_share(place: tuple[Any, ...], share: float) -> None:
    reference = make()
    run, floor = copy(reference), floor_of(reference)
    put(run, place, at(run, place) + share * tolerance_at(floor, place))
    found = judge(run, reference, floor)
    assert (found.verdict, found.parameter, found.epoch) == (Verdict.PASS, place[0], epoch_at(place))
    assert found.ratio == pytest.approx(share, rel=1e-3)


@exhaustive
@given(places, st.sampled_from([np.nan, np.inf, -np.inf]), st.sampled_from(["run", "reference", "both"]))
def test_what_is_not_finite_never_passes(place: tuple[Any, ...], value: float, side: str) -> None:
    run, reference = make(), make()
    floor = floor_of(reference)
    if side != "reference":
        put(run, place, value)
    if side != "run":
        put(reference, place, value)
    assert judge(run, reference, floor).verdict is not Verdict.PASS


@exhaustive
@given(places, st.sampled_from([np.nan, np.inf]), st.sampled_from(["run", "reference", "both"]))
def test_nor_where_the_floor_was_measured_on_it(place: tuple[Any, ...], value: float, side: str) -> None:
    """A floor that is not finite allows no distance."""
    run, reference = make(), make()
    floor = floor_of(reference)
    if side != "reference":
        put(run, place, value)
    if side != "run":
        put(reference, place, value)
    floors = floor.loss if place[0] == "loss" else floor.params[place[0]]
    floors.reshape(-1)[place[1] * (BATCHES if place[0] == "loss" else 1) :] = value
    assert judge(run, reference, floor).verdict is not Verdict.PASS


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["loss", *SHAPES])
def test_an_infinite_tolerance_passes_nothing(name: str, value: float) -> None:
    run = make()
    floor = floor_of(run)
    (floor.loss if name == "loss" else floor.params[name])[-1] = value
    assert judge(copy(run), run, floor).verdict is Verdict.INCONCLUSIVE
    far = copy(run)
    put(far, (name, -1), 1e9)
    assert judge(far, run, floor).verdict is not Verdict.PASS
    # What parts before the floor does is still seen.
    put(far, (name, 0), 1e9)
    assert judge(far, run, floor).verdict is Verdict.FAIL


@exhaustive
@given(places, places, st.floats(1.5, 9.0), st.floats(1.5, 9.0))
def test_of_two_differences_the_first_is_named(
    one: tuple[Any, ...], other: tuple[Any, ...], first: float, second: float
) -> None:
    assume((one[0], one[1]) != (other[0], other[1]) and epoch_at(one) < epoch_at(other))
    reference = make()
    run, floor = copy(reference), floor_of(reference)
    put(run, one, at(run, one) + first * tolerance_at(floor, one))
    put(run, other, at(run, other) + second * tolerance_at(floor, other))
    found = judge(run, reference, floor)
    assert (found.verdict, found.parameter, found.epoch) == (Verdict.FAIL, one[0], epoch_at(one))
    assert found.ratio == pytest.approx(max(first, second), rel=1e-3)


def test_an_epochs_loss_comes_before_the_parameters_at_its_end() -> None:
    reference = make()
    run = copy(reference)
    run.params["dense/bias"][2] += 1
    run.loss[1, 2] += 1
    assert judge(run, reference, floor_of(reference)).parameter == "loss"


def test_without_parameters_the_loss_alone_counts() -> None:
    reference = make()
    run = copy(reference)
    run.params["dense/bias"][2] += 1
    assert judge(run, reference, floor_of(reference), params=False).verdict is Verdict.PASS
    run.loss[3, 0] += 1
    assert judge(run, reference, floor_of(reference), params=False).verdict is Verdict.FAIL


def test_snapshots_every_few_epochs_are_named_by_their_epoch() -> None:
    reference = make(every=5)
    run = copy(reference)
    run.params["dense/bias"][3] += 1
    assert judge(run, reference, floor_of(reference)).epoch == 15


def test_where_the_reference_never_moves_from_zero_nothing_else_passes() -> None:
    """The floor of a tensor that is zero throughout is zero: the same zero passes, the least other value does not."""
    reference = make()
    reference.params["scale"][:] = 0
    floor = floor_of(reference)
    floor.params["scale"][:] = 0
    run = copy(reference)
    assert judge(run, reference, floor).verdict is Verdict.PASS
    run.params["scale"][3] = 5e-324
    assert judge(run, reference, floor).verdict is Verdict.FAIL


Change = Callable[[Trajectory, Floor], Any]
NOT_COMPARED: dict[str, Change] = {
    "parameter missing": lambda run, floor: run.params.pop("dense/bias"),
    "parameter unknown": lambda run, floor: run.params.update(more=run.params["scale"]),
    "no parameters": lambda run, floor: run.params.clear(),
    "a snapshot less": lambda run, floor: vars(run).update(
        epochs=run.epochs[:-1], params={name: values[:-1] for name, values in run.params.items()}
    ),
    "other epochs": lambda run, floor: vars(run).update(epochs=run.epochs * 2),
    "an epoch's losses less": lambda run, floor: vars(run).update(loss=run.loss[:-1]),
    "a batch less": lambda run, floor: vars(run).update(loss=run.loss[:, :-1]),
    "no losses": lambda run, floor: vars(run).update(loss=run.loss[:0]),
    "another shape": lambda run, floor: run.params.update({"dense/bias": run.params["dense/bias"][:, None]}),
    "another size": lambda run, floor: run.params.update({"dense/bias": run.params["dense/bias"][:, :1]}),
    "another batch order": lambda run, floor: run.meta.update(batch_order="b" * 64),
    "a shorter floor": lambda run, floor: vars(floor).update(loss=floor.loss[:-1]),
    "a floor without a parameter": lambda run, floor: floor.params.pop("dense/bias"),
    "a floor of fewer snapshots": lambda run, floor: floor.params.update(scale=floor.params["scale"][:-1]),
}


@pytest.mark.parametrize("change", NOT_COMPARED.values(), ids=NOT_COMPARED)
@pytest.mark.parametrize("params", [True, False], ids=["all", "losses alone"])
def test_what_was_not_compared_is_inconclusive(change: Change, params: bool) -> None:
    reference = make()
    reference.meta["batch_order"] = "a" * 64
    run, floor = copy(reference), floor_of(reference)
    change(run, floor)
    found = judge(run, reference, floor, params=params)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason
    assert "\n" not in found.reason


def test_a_run_that_trained_nothing_is_inconclusive_unless_it_begins_elsewhere() -> None:
    run = make().until(0)
    floor = floor_of(make()).until(0, 1)
    found = judge(run, run, floor)
    assert (found.verdict, found.reason.partition(":")[0]) == (Verdict.INCONCLUSIVE, "nothing was trained")
    other = copy(run)
    put(other, ("scale", 0), 7.0)
    assert judge(other, run, floor).verdict is Verdict.FAIL


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_what_is_not_finite_in_the_reference_agrees_with_nothing(value: float) -> None:
    """Where the tolerance is made of the run itself, too, with no measured floor."""
    run, other = make(), make()
    put(other, ("loss", 1, 2), value)
    for pair in ((run, other), (other, run), (other, other)):
        found = judge(*pair, least_floor(pair[1]))
        assert (found.verdict, found.epoch, found.parameter) == (Verdict.FAIL, 2, "loss")
        assert found.reason.endswith("what is not finite agrees with nothing")


def test_a_comparison_of_nothing_is_inconclusive() -> None:
    nothing = Trajectory({}, np.zeros(1, np.int64), np.zeros((0, 0)), {}, {})
    assert judge(nothing, nothing, Floor(np.zeros((0, 0)), {})).verdict is Verdict.INCONCLUSIVE
    # Parameters that hold no value are nothing, too.
    hollow = replace(nothing, params={"empty": np.zeros((1, 0))})
    before = judge(hollow, hollow, Floor(np.zeros((0, 0)), {"empty": np.zeros(1)}), params=False)
    assert before.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("own", "shape", "hint"),
    [
        ("fc.weight", (2, 3), "fc.weight there may be it, with its axes in another order: both runs need one name"),
        ("kernel", (3, 2), "kernel there may be it: both runs need one name"),
        ("other", (4, 2), ""),
    ],
)
def test_a_parameter_under_another_name_is_pointed_out(own: str, shape: tuple[int, ...], hint: str) -> None:
    run, reference = make(), make()
    run.params.pop("dense/kernel")
    run.params[own] = np.zeros((EPOCHS + 1, *shape))
    found = judge(run, reference, floor_of(reference))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith(
        "parameter dense/kernel is missing from the first run" + ("; " + hint if hint else "")
    )
    assert bool(hint) == ("may be it" in found.reason)


def test_a_verdict_on_many_is_the_worst_and_none_is_a_doubt() -> None:
    assert overall([]) is Verdict.INCONCLUSIVE
    order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]
    for verdicts in product(order, repeat=3):
        assert overall(list(verdicts)) is order[max(map(order.index, verdicts))]
    assert [EXIT_STATUS[verdict] for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)] == [0, 1, 3]


def test_every_verdict_but_pass_has_a_reason() -> None:
    assert Judgement(Verdict.PASS).reason == ""
    reference = make()
    run = copy(reference)
    run.loss[0, 0] = np.nan
    found = judge(run, reference, floor_of(reference))
    assert "nan" in found.reason
    assert "epoch 1, batch 0" in found.reason
