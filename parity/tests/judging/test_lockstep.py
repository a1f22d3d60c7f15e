"""Runs in lockstep, floors that end before a run does, and the verdicts on both."""

from dataclasses import replace

import numpy as np
import pytest

from parity.judging.floors.floor import Floor
from parity.judging.floors.noise import in_lockstep, measure, measure_stretches
from parity.judging.verdict import Judgement, Verdict, judge, judge_both, judge_check, judge_run
from parity.spec import Adam, Case
from parity.tests import toy
from parity.trainer import Trained, record
from parity.trajectory import Trajectory, gather

CASE = replace(toy.ADAM, epochs=12)


class Drifting:
    """A faithful trainer but for one parameter, which a mistake moves a little further at every update."""

    def __init__(self, case: Case, step: float) -> None:
        self.trainer, self.step = toy.build(case, "float64", "cpu"), step
        self.predict, self.gradients = self.trainer.predict, self.trainer.gradients
        self.export, self.load = self.trainer.export, self.trainer.load

    def train(self, segments, inputs=()):
        (segment,) = segments
        losses = []
        for rows in segment:
            losses.append(self.trainer.train([(rows,)]).losses)
            state = self.export()
            state.params["dense/bias"] += self.step
            self.load(state)
        return Trained(np.concatenate(losses, 1), {name: value[None] for name, value in state.params.items()})


def free(case: Case, dtype: str = "float64") -> Trajectory:
    return gather(record(toy.build(case, dtype, "cpu"), case, case.epochs))


@pytest.mark.parametrize(("length", "every"), [(1, 1), (3, 1), (4, 2), (2, 4), (5, 3), (100, 1)])
def test_a_faithful_run_in_lockstep_is_the_reference(length: int, every: int) -> None:
    case = replace(CASE, every=every)
    held = in_lockstep(toy.build(case, "float64", "cpu"), toy.build(case, "float64", "cpu"), case, length)
    run, reference = gather(record(held.trainer, case, case.epochs)), free(case)
    assert run.loss.tobytes() == reference.loss.tobytes()
    for name, values in reference.params.items():
        assert run.params[name].tobytes() == values.tobytes()


@pytest.mark.parametrize(("length", "every", "updates"), [(1, 1, 3), (3, 1, 9), (4, 2, 12), (2, 4, 6)])
def test_a_stretch_starts_from_the_reference(length: int, every: int, updates: int) -> None:
    """What a snapshot is off is what went wrong since its stretch began, however long the run."""
    case = replace(CASE, every=every, optimizer=replace(toy.MOMENTUM.optimizer, learning_rate=0.0))
    held = in_lockstep(Drifting(case, 1.0), toy.build(case, "float64", "cpu"), case, length)
    run, reference = gather(record(held.trainer, case, case.epochs)), free(case)
    off = np.asarray(run.params["dense/bias"] - reference.params["dense/bias"])[:, 0]
    assert off[-1] == pytest.approx(updates)
    assert off.max() == pytest.approx(updates)


def test_a_floor_is_carried_in_proportion_to_what_grows() -> None:
    reference = Trajectory(
        {}, np.arange(5), np.array([[8.0], [4], [2], [1]]), {"w": np.array([1.0, 2, 2, 6, 3])[:, None]}, {}
    )
    floor = Floor(np.array([[1e-9], [2e-9]]), {"w": np.array([0, 1e-9, 4e-9])})
    carried = floor.carried(reference)
    assert carried.loss.ravel().tolist() == [1e-9, 2e-9, 2e-9, 2e-9]
    assert carried.params["w"].tolist() == pytest.approx([0, 1e-9, 4e-9, 12e-9, 12e-9])


def measured(epochs: int) -> Floor:
    return measure(toy.build, CASE, epochs)["float64"]


def test_a_run_longer_than_its_floor_is_inconclusive() -> None:
    found = judge(free(CASE), free(CASE), measured(4))
    assert (found.verdict, found.reach) == (Verdict.INCONCLUSIVE, 4)
    assert "agrees up to epoch 4" in found.reason
    assert "up to epoch 12 of 12" in found.note


def test_it_fails_where_its_floor_reaches() -> None:
    reference = free(CASE)
    wrong = free(replace(CASE, optimizer=Adam(learning_rate=0.1 * (1 + 1e-7))))
    found = judge(wrong, reference, measured(4))
    assert found.verdict is Verdict.FAIL
    assert found.epoch <= 4


def test_it_says_up_to_where_it_kept_the_tolerance() -> None:
    run, reference = free(CASE), free(CASE)
    run.params["dense/bias"][9:] += 1e-6
    assert "up to epoch 8 of 12" in judge(run, reference, measured(4)).note
    run.loss[6] += 1e-6
    assert "up to epoch 6 of 12" in judge(run, reference, measured(4)).note


def test_the_reference_is_checked_as_far_as_its_check_reaches() -> None:
    short = replace(CASE, epochs=4)
    found = judge_check(free(CASE), free(short), measured(4))
    assert (found.verdict, found.reach) == (Verdict.INCONCLUSIVE, 4)
    assert judge_check(free(short), free(short), measured(4)).verdict is Verdict.PASS
    other = free(replace(short, optimizer=Adam(learning_rate=0.2)))
    assert judge_check(free(CASE), other, measured(4)).verdict is Verdict.FAIL


def test_a_stretch_that_parts_where_no_floor_was_measured_convicts_nobody() -> None:
    held, floor = free(CASE), measured(4)
    held.params["dense/bias"][9] += 1e-6
    found = judge_run(free(CASE), free(CASE), floor, stretches=lambda: (2, held, floor))
    assert (found.verdict, found.epoch) == (Verdict.INCONCLUSIVE, 9)
    assert "in lockstep every 2 epochs; the noise floor was measured up to epoch 4" in found.reason
    held.params["dense/bias"][3] += 1e-6
    found = judge_run(free(CASE), free(CASE), floor, stretches=lambda: (2, held, floor))
    assert (found.verdict, found.epoch) == (Verdict.FAIL, 3)


PASSED = Judgement(Verdict.PASS, 0.5)
FAILED = Judgement(Verdict.FAIL, 3.0, reason="first differs")
ENDED = Judgement(Verdict.INCONCLUSIVE, 0.6, reach=4, reason="agrees up to epoch 4", note="up to epoch 4")


@pytest.mark.parametrize(
    ("alone", "lockstep", "verdict", "ratio"),
    [
        (PASSED, PASSED, Verdict.PASS, 0.5),
        (PASSED, FAILED, Verdict.FAIL, 3.0),
        (ENDED, PASSED, Verdict.PASS, 0.6),
        (ENDED, FAILED, Verdict.FAIL, 3.0),
        (ENDED, Judgement(Verdict.INCONCLUSIVE, reason="other shapes"), Verdict.INCONCLUSIVE, None),
    ],
)
def test_lockstep_settles_what_a_long_free_run_leaves_open(alone, lockstep, verdict, ratio) -> None:
    found = judge_both(alone, lockstep, 2)
    assert (found.verdict, found.ratio) == (verdict, ratio)
    assert ("rounding alone" in found.note) == (alone is ENDED and lockstep is PASSED)


def test_a_stretch_at_the_beginning_has_the_floor_of_a_run_in_lockstep() -> None:
    ((start, floors),) = measure_stretches(toy.build, CASE, 2, [0])
    run = measure(toy.build, CASE, 2, lockstep=2)
    assert start == 0
    for dtype, floor in floors.items():
        # A whole run begins from initial values that are stirred, too.
        assert np.all(floor.loss <= 4 * run[dtype].loss)
        assert np.all(run[dtype].loss <= 4 * floor.loss)
        assert {name: len(values) for name, values in floor.params.items()} == dict.fromkeys(run[dtype].params, 2)


def test_a_stretch_that_was_measured_has_its_own_floor_and_convicts() -> None:
    held, floor = free(CASE), measured(4)
    held.params["dense/bias"][9] += 1e-6
    (own,) = (floors["float64"] for _, floors in measure_stretches(toy.build, CASE, 2, [8]))
    found = judge_run(free(CASE), free(CASE), floor, stretches=lambda: (2, held, floor))
    assert found.unmeasured == (8,)
    convicting = replace(floor, stretches={8: own})
    found = judge_run(free(CASE), free(CASE), floor, stretches=lambda: (2, held, convicting))
    assert (found.verdict, found.epoch, found.unmeasured) == (Verdict.FAIL, 9, ())
    wide = replace(own, loss=own.loss * 1e9, params={name: 1e9 * values for name, values in own.params.items()})
    acquitting = replace(floor, stretches={8: wide})
    found = judge_run(free(CASE), free(CASE), floor, stretches=lambda: (2, held, acquitting))
    assert found.verdict is Verdict.PASS
