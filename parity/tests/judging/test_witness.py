"""One update taken apart: made by a live trainer or read from a recording, held against what is expected of it."""

from __future__ import annotations

import numpy as np
import pytest

from parity.judging.witness import Witness, as_expected, take_apart
from parity.recording.steps import ASKED, Phase, step_of, steps_of
from parity.tests import toy
from parity.tests.explaining.toys import recorded

CASE = toy.MOMENTUM
ROWS = next(CASE.schedule.epochs(toy.ROWS))[0]


def live(asked=ASKED, build=toy.build):
    trainer, data = build(CASE, "float64", "cpu"), toy.data()
    return step_of(trainer, toy.build(CASE, "float64", "cpu").export(), data.x[ROWS], data.y[ROWS], ROWS, asked)


def witness() -> Witness:
    return Witness(toy.build, CASE, "float64")


def test_a_live_step_is_the_recorded_one() -> None:
    recorded_step = steps_of(recorded(toy.build(CASE, "float64", "cpu"), updates=1))[0]
    ours, theirs = live().seen(), recorded_step.seen()
    assert list(ours) == list(theirs)
    for phase, tensors in ours.items():
        assert tensors.keys() == theirs[phase].keys()
        for name, value in tensors.items():
            np.testing.assert_array_equal(value, theirs[phase][name])


def test_a_step_is_taken_apart_into_the_phases_that_are_asked() -> None:
    step = live(build=toy.build_transposed)
    checks = take_apart(step, witness().step(step.before, ROWS))
    assert list(checks) == list(ASKED)
    assert [check.tensor for check in checks[Phase.UPDATE]] == list(step.seen()[Phase.UPDATE])
    assert [phase for phase, some in checks.items() if not all(check.agrees for check in some)] == list(ASKED)
    some = (Phase.LOSS, Phase.GRADIENT)
    assert list(take_apart(step, witness().step(step.before, ROWS, some))) == list(some)


@pytest.mark.parametrize("phase", ASKED)
def test_what_was_not_asked_agrees_with_nothing(phase: Phase) -> None:
    others = [other for other in ASKED if {other, phase} not in ({Phase.LOSS, Phase.GRADIENT}, {*ASKED[3:]})]
    step = live([other for other in others if other is not phase])
    with pytest.raises(ValueError, match=r"missing|\(0,\)"):
        take_apart(step, witness().step(step.before, ROWS, (phase,)))


def test_another_run_s_step_is_expected_as_far_as_both_recorded_the_same() -> None:
    step = live()
    expected = as_expected(live(), step, "float64", {Phase.LOSS: [{"loss": 0.5}]})
    assert list(expected) == [Phase.STATE, *ASKED]
    assert expected[Phase.LOSS].floors == {"loss": 0.5}
    assert all(check.agrees for some in take_apart(step, expected).values() for check in some)
    without_slots = as_expected(live(), live(ASKED[:3]), "float64", {})
    assert without_slots[Phase.UPDATE].values == {}
