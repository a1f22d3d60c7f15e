"""Verdicts: what was not compared never passes, and every difference that counts is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from parity.judging.floor import Floor, least_floor
from parity.judging.outcome import Outcome
from parity.judging.published import figures, log_lines
from parity.judging.verdict import EXIT_STATUS, Judgement, Verdict, judge, overall
from parity.report.words import missed
from parity.spec import Publication, Published
from parity.tests import toy
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory, TrajectoryError

exhaustive = settings(derandomize=True, deadline=None, max_examples=100, database=None)
EPOCHS, BATCHES = 4, 3
SHAPES = {"dense/kernel": (3, 2), "dense/bias": (2,), "scale": ()}
UNIT = 1e-9
"""The floor at the first epoch; it grows by as much at every epoch, as floors do."""


def make(dtype: str = "float64", every: int = 1) -> Trajectory:
    generator = np.random.default_rng(1)
    epochs = np.arange(0, EPOCHS * every + 1, every)
    params = {name: generator.normal(size=(len(epochs), *shape)).astype(dtype) for name, shape in SHAPES.items()}
    loss = generator.normal(size=(EPOCHS * every, BATCHES)).astype(dtype)
    return Trajectory({"dtype": dtype}, epochs, loss, params, {})


def floor_of(run: Trajectory) -> Floor:
    loss = UNIT * (1 + np.arange(run.loss.size, dtype=np.float64)).reshape(run.loss.shape)
    return Floor(loss, {name: UNIT * (1 + np.arange(len(run.epochs), dtype=np.float64)) for name in run.params})


def copy(run: Trajectory) -> Trajectory:
    params = {name: np.array(values) for name, values in run.params.items()}
    return replace(run, meta=dict(run.meta), epochs=run.epochs.copy(), loss=run.loss.copy(), params=params)


places = st.one_of(
    st.tuples(st.just("loss"), st.integers(0, EPOCHS - 1), st.integers(0, BATCHES - 1)),
    *(
        st.tuples(st.just(name), st.integers(0, EPOCHS), *(st.integers(0, side - 1) for side in shape))
        for name, shape in SHAPES.items()
    ),
)


def put(run: Trajectory, place: tuple[Any, ...], value: Any) -> None:
    (run.loss if place[0] == "loss" else run.params[place[0]])[place[1:]] = value


def at(run: Trajectory, place: tuple[Any, ...]) -> Any:
    return (run.loss if place[0] == "loss" else run.params[place[0]])[place[1:]]


def tolerance_at(floor: Floor, place: tuple[Any, ...]) -> float:
    return FACTOR * float(floor.loss[place[1:]] if place[0] == "loss" else floor.params[place[0]][place[1]])


def epoch_at(place: tuple[Any, ...]) -> int:
    return place[1] + 1 if place[0] == "loss" else place[1]


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


# Metrics: compared where the judgement is asked to, with floors of their own.


def with_metrics(**values: Any) -> tuple[Trajectory, Floor]:
    """A run with an accuracy of eighths, and a floor by which one row may change at epoch 2."""
    run = make()
    run.metrics["accuracy"] = np.array([0.5, 0.5, 0.625, 0.75, 0.75])
    floor = replace(floor_of(run), metrics={"accuracy": np.array([0, 0, 0.125, 0, 0]) / FACTOR})
    return run, floor


@pytest.mark.parametrize(
    ("epoch", "value", "verdict"),
    [
        (2, 0.5, Verdict.PASS),
        (2, 0.75, Verdict.PASS),
        (2, 0.875, Verdict.FAIL),
        (3, 0.625, Verdict.FAIL),
        (0, 0.625, Verdict.FAIL),
        (2, np.nan, Verdict.FAIL),
        (4, np.inf, Verdict.FAIL),
    ],
)
def test_a_metric_may_be_off_by_its_rows_and_no_more(epoch: int, value: float, verdict: Verdict) -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.metrics["accuracy"][epoch] = value
    found = judge(run, reference, floor, metrics=True)
    assert found.verdict is verdict
    assert (found.parameter, found.epoch) == ("metrics/accuracy", epoch)
    if np.isfinite(value) and verdict is Verdict.FAIL:
        assert f"at epoch {epoch}: metrics/accuracy is {value:.9g}, the reference has" in found.reason
    assert judge(run, reference, floor).verdict is Verdict.PASS
    # Where parameters are not asserted, what is made of them is not.
    assert judge(run, reference, floor, params=False, metrics=True).verdict is Verdict.PASS


def test_a_parameter_that_is_off_is_said_before_a_metric_that_follows() -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.params["scale"] = np.array(run.params["scale"])
    put(run, ("scale", 3), float(run.params["scale"][3]) + 1.0)
    run.metrics["accuracy"][3] = 0.0
    found = judge(run, reference, floor, metrics=True)
    assert (found.parameter, found.epoch) == ("scale", 3)
    assert found.ratio is not None
    assert np.isfinite(found.ratio)


def test_a_metric_without_a_value_equals_its_like_alone() -> None:
    reference, floor = with_metrics()
    reference.metrics["accuracy"][4] = np.nan
    run, _ = with_metrics()
    assert judge(run, reference, floor, metrics=True).verdict is Verdict.FAIL
    run.metrics["accuracy"][4] = np.nan
    assert judge(run, reference, floor, metrics=True).verdict is Verdict.PASS


def test_metrics_that_are_not_on_both_sides_or_have_no_floor_are_a_doubt() -> None:
    reference, floor = with_metrics()
    without, bare = make(), floor_of(make())
    for run, other, of, said in (
        (without, reference, floor, "metric accuracy is missing from the first run"),
        (reference, without, floor, "metric accuracy is missing from the second run"),
        (reference, reference, bare, "the noise floor was measured without the metric accuracy"),
    ):
        found = judge(run, other, of, metrics=True)
        assert (found.verdict, said in found.reason) == (Verdict.INCONCLUSIVE, True)
    assert judge(without, without, bare, metrics=True).verdict is Verdict.PASS


def test_a_metric_is_compared_as_far_as_its_floor_reaches() -> None:
    reference, floor = with_metrics()
    run, _ = with_metrics()
    run.metrics["accuracy"][4] = 0.0
    short = replace(floor, metrics={"accuracy": floor.metrics["accuracy"][:3]})
    found = judge(run, reference, short, metrics=True)
    assert (found.verdict, found.note) == (Verdict.PASS, "metrics were compared up to epoch 2")


# Published figures: the rules by which ours are held against them.


def verdict_of(published: Published, run: Trajectory, floor: Floor | None, dtype: str = "float64") -> list[Any]:
    case = replace(toy.MOMENTUM, publication=Publication(figures=(published,)))
    return [
        (figure.epoch, figure.published, figure.ours, figure.verdict) for figure in figures(case, run, dtype, floor)
    ]


def published(text: str, rule: Any = "printed", **more: Any) -> Published:
    given = {"quantity": "w", "values": {2: text}, "format": "%.3f", "of": "params/scale", "source": "made up"}
    return Published(**{**given, "rule": rule, **more})


def with_value(value: float) -> Trajectory:
    run = make()
    run.params["scale"][2] = value
    return run


@pytest.mark.parametrize(
    ("text", "value", "verdict"),
    [
        ("1.235", 1.2349, Verdict.PASS),
        ("1.235", 1.2344, Verdict.FAIL),
        ("nan", np.nan, Verdict.PASS),
        ("nan", 1.0, Verdict.FAIL),
        ("1.000", np.nan, Verdict.FAIL),
        ("-0.000", -1e-9, Verdict.PASS),
        ("0.000", -1e-9, Verdict.FAIL),
    ],
)
def test_printed_figures_must_read_the_same(text: str, value: float, verdict: Verdict) -> None:
    assert verdict_of(published(text), with_value(value), None) == [(2, text, f"{value:.3f}", verdict)]


def test_figures_within_the_floor_may_be_off_by_it_and_by_the_rounding_of_the_print() -> None:
    run = make()
    floor = floor_of(run)
    allowed = floor.params["scale"][2] / 6**0.5 + 0.5e-3
    for off, verdict in ((0.99 * allowed, Verdict.PASS), (1.01 * allowed, Verdict.FAIL), (np.nan, Verdict.FAIL)):
        for sign in (-1, 1):
            found = verdict_of(published("1.235", "floor"), with_value(1.235 + sign * off), floor)
            assert [figure[3] for figure in found] == [verdict]
    # Without a floor nothing is known.
    assert verdict_of(published("1.235", "floor"), with_value(1.235), None)[0][3] is Verdict.INCONCLUSIVE


def test_figures_within_an_envelope_may_be_off_by_its_margin() -> None:
    for off, verdict in ((0.0999, Verdict.PASS), (0.102, Verdict.FAIL), (np.nan, Verdict.FAIL), (np.inf, Verdict.FAIL)):
        found = verdict_of(published("1.235", "envelope", margin=0.1), with_value(1.235 + off), None)
        assert [figure[3] for figure in found] == [verdict]


@pytest.mark.parametrize(
    ("text", "value", "verdict"),
    [
        ("1.2e-05", 1.2004e-5, Verdict.PASS),
        ("1.2e-05", 8e-6, Verdict.FAIL),
        ("1.2e-05", 1.6e-5, Verdict.FAIL),
        ("1.2e+05", 1.2004e5, Verdict.PASS),
        ("1.2e+05", 1.26e5, Verdict.FAIL),
        ("12", 12.4, Verdict.PASS),
        ("12", 12.6, Verdict.FAIL),
    ],
)
def test_the_last_printed_digit_is_where_its_exponent_puts_it(text: str, value: float, verdict: Verdict) -> None:
    found = verdict_of(published(text, "envelope", margin=1e-9), with_value(value), None)
    assert [figure[3] for figure in found] == [verdict]


@pytest.mark.parametrize("allowed", [np.inf, np.nan])
@pytest.mark.parametrize("value", [1.235, np.inf, np.nan])
def test_figures_never_pass_where_no_finite_distance_is_allowed(allowed: float, value: float) -> None:
    floor = floor_of(make())
    floor.params["scale"][2] = allowed
    assert verdict_of(published("1.235", "floor"), with_value(value), floor)[0][3] is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("text", ["nan", "inf"])
def test_a_published_value_that_is_not_finite_has_nothing_near_it(text: str) -> None:
    found = verdict_of(published(text, "envelope", margin=0.1), with_value(float(text)), None)
    assert found[0][3] is Verdict.INCONCLUSIVE


def test_figures_count_only_in_their_dtypes_and_at_epochs_that_were_recorded() -> None:
    run = make()
    assert verdict_of(published("1.235", dtypes=("float32",)), run, None) == []
    assert verdict_of(published("1.235", values={EPOCHS + 1: "1.235"}), run, None) == []
    assert [figure[0] for figure in verdict_of(published("", values={0: "", 4: ""}), run, None)] == [0, 4]


def test_a_figure_of_an_epoch_that_was_not_recorded_is_a_doubt_and_says_why() -> None:
    run = make(every=2)
    rows = {"a loss": {0: "1.000"}, "w": {3: "1.235", 2: "9.000", 2 * EPOCHS + 1: "1.000"}}
    several = tuple(published("", quantity=name, values=values) for name, values in rows.items())
    publication = Publication(figures=(replace(several[0], of="loss"), several[1]), log="{a loss} {w}")
    case = replace(toy.MOMENTUM, every=2, publication=publication)
    found = figures(case, run, "float64", None)
    assert [(figure.epoch, figure.verdict, figure.reason) for figure in found] == [
        (0, Verdict.INCONCLUSIVE, "losses begin at epoch 1"),
        (3, Verdict.INCONCLUSIVE, "snapshots every 2 epochs"),
        (2, Verdict.FAIL, ""),
    ]
    marks = {line.published: line.mark for line in log_lines(case, found)}
    assert marks == {
        "1.000": "? a loss (losses begin at epoch 1)",
        "1.235": "? w (snapshots every 2 epochs)",
        "9.000": "≠ w",
    }
    outcome = Outcome("toy", "numpy", "float64", "cpu", Judgement(Verdict.PASS), tuple(found))
    doubt = "published a loss of epoch 0 is 1.000, ours not recorded (losses begin at epoch 1)"
    # A failure stands for its quantity, before a doubt.
    wrong = f"published w of epoch 2 is 9.000, ours {run.params['scale'][1]:.3f}, and 1 more of 2"
    assert missed(outcome) == [(Verdict.INCONCLUSIVE, doubt), (Verdict.FAIL, wrong)]


def test_a_figure_is_taken_from_its_own_place() -> None:
    run = make()
    run.params["dense/kernel"][2, 1, 0] = 1.5
    run.loss[1, 2], run.loss[1, 0] = 2.5, 3.5
    run.metrics["accuracy"] = np.arange(EPOCHS + 1) / 10
    places: list[tuple[dict[str, Any], str]] = [
        ({"of": "params/dense/kernel", "index": (1, 0)}, "1.500"),
        ({"of": "loss"}, "2.500"),
        ({"of": "loss", "index": (0,)}, "3.500"),
        ({"of": "metrics/accuracy"}, "0.200"),
        ({"of": lambda run: 100 * run.metrics["accuracy"]}, "20.000"),
    ]
    for place, ours in places:
        assert verdict_of(published(ours, **place), run, None) == [(2, ours, ours, Verdict.PASS)]


@pytest.mark.parametrize(
    ("place", "missing"),
    [
        ({"of": "metrics/accuracy"}, "metrics/accuracy"),
        ({"of": "params/other"}, "params/other"),
        ({"of": "params/dense/kernel", "index": (0, 7)}, r"params/dense/kernel\[0, 7\]"),
        ({"of": "loss", "index": (BATCHES,)}, rf"loss\[{BATCHES}\]"),
        ({"of": lambda run: run.metrics["accuracy"]}, "'accuracy'"),
    ],
)
def test_a_figure_of_what_was_not_recorded_is_said_in_a_line(place: dict[str, Any], missing: str) -> None:
    with pytest.raises(TrajectoryError, match=rf"^published 'w': the run holds no {missing}: [^\n]*$"):
        verdict_of(published("1.000", **place), make(), None)


def test_a_metric_has_no_noise_floor_to_be_held_against() -> None:
    run = make()
    run.metrics["accuracy"] = np.ones(EPOCHS + 1)
    found = verdict_of(published("1.000", "floor", of="metrics/accuracy"), run, floor_of(run))
    assert found[0][3] is Verdict.INCONCLUSIVE
