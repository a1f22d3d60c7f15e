"""Published figures: the rules by which ours are held against them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import Floor
from parity.judging.published import figures, log_lines, missed
from parity.judging.verdict import Verdict
from parity.spec import Publication, Published
from parity.tests import toy
from parity.tests.judging.runs import BATCHES, EPOCHS, floor_of, make
from parity.trajectory import Trajectory, TrajectoryError


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
    ("off", "verdict"), [(-0.21, Verdict.FAIL), (-0.19, Verdict.PASS), (0.009, Verdict.PASS), (0.012, Verdict.FAIL)]
)
def test_an_envelope_may_reach_farther_down_than_up(off: float, verdict: Verdict) -> None:
    found = verdict_of(published("1.235", "envelope", margin=(0.2, 0.01)), with_value(1.235 + off), None)
    assert [figure[3] for figure in found] == [verdict]


@pytest.mark.parametrize(
    ("before", "verdict"), [(1.335, Verdict.PASS), (1.235, Verdict.FAIL), (1.5, Verdict.FAIL), (np.nan, Verdict.FAIL)]
)
def test_a_figure_within_its_envelope_must_have_changed_as_other_draws_do(before: float, verdict: Verdict) -> None:
    run = with_value(1.235)
    run.params["scale"][1] = before
    rule = published("1.235", "envelope", margin=1.0, change=(-0.2, -0.05))
    case = replace(toy.MOMENTUM, publication=Publication(figures=(rule,)))
    (found,) = figures(case, run, "float64", None)
    assert found.verdict is verdict
    if before == 1.235:
        assert found.reason == "+0 since the epoch before, other draws -0.2 to -0.05"


def test_a_change_from_an_epoch_that_was_not_recorded_is_a_doubt() -> None:
    case = replace(
        toy.MOMENTUM,
        every=2,
        publication=Publication(figures=(published("1.235", "envelope", margin=9.0, change=(-1.0, 1.0)),)),
    )
    (found,) = figures(case, make(every=2), "float64", None)
    assert (found.verdict, found.reason) == (Verdict.INCONCLUSIVE, "epoch 1 was not recorded")


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


def test_a_figure_that_the_suite_printed_itself_is_not_called_published() -> None:
    case = replace(toy.MOMENTUM, publication=Publication(figures=(published("9.000", by="own run"),)))
    found = figures(case, with_value(1.235), "float64", None)
    ((verdict, sentence),) = missed(found)
    assert [line.mark for line in log_lines(case, found)] == ["≠ w (an own run's)"]
    assert (verdict, sentence) == (Verdict.FAIL, "our own run's w of epoch 2 is 9.000, ours 1.235")


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
    doubt = "published a loss of epoch 0 is 1.000, ours not recorded (losses begin at epoch 1)"
    # A failure stands for its quantity, before a doubt.
    wrong = f"published w of epoch 2 is 9.000, ours {run.params['scale'][1]:.3f}, and 1 more of 2"
    assert missed(found) == [(Verdict.INCONCLUSIVE, doubt), (Verdict.FAIL, wrong)]


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


def test_what_the_source_shows_no_output_of_is_printed_from_ours_alone() -> None:
    run = make()
    run.loss[:] = np.arange(run.loss.size, dtype=np.float64).reshape(run.loss.shape)
    run.metrics["accuracy"] = np.arange(EPOCHS + 1) / 10
    publication = Publication(
        prints=(
            Published("Avg. loss", {}, "%r", "loss", "made up", index=(0,)),
            Published("accuracy[0]", {}, "%.2f%%", "metrics/accuracy", "made up"),
        ),
        log="step {step} | {Avg. loss}\nEpoch {epoch:03d}: {accuracy[0]}",
        logged=range(2, 100, 2),
        end="in the end {accuracy[0]}",
    )
    case = replace(toy.MOMENTUM, publication=publication)
    assert figures(case, run, "float64", None) == []
    assert log_lines(case, []) == []
    lines = log_lines(case, [], run)
    assert [line.ours for line in lines] == [
        f"step 1 | {float(BATCHES)}",
        "Epoch 002: 0.20%",
        f"step 3 | {float(3 * BATCHES)}",
        "Epoch 004: 0.40%",
        f"in the end {EPOCHS / 10:.2f}%",
    ]
    assert {(line.published, line.mark, line.verdict) for line in lines} == {("", "", None)}


def test_a_quantity_may_be_called_as_its_source_calls_it() -> None:
    """In ``Avg. loss`` and ``weights[0]`` Python's own formatting would look for parts of a value."""
    rule = published("1.235", quantity="Avg. w[0]")
    case = replace(toy.MOMENTUM, publication=Publication(figures=(rule,), log="Epoch #{epoch}: w={Avg. w[0]}"))
    (line,) = log_lines(case, figures(case, with_value(1.235), "float64", None))
    assert (line.ours, line.published, line.mark) == ("Epoch #2: w=1.235", "Epoch #2: w=1.235", "=")
