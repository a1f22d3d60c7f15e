"""Deep recordings: what is seen, and what a walk along one finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.explaining.pairs import walk_pair
from parity.explaining.pattern import growth
from parity.explaining.walk import walk_recorded
from parity.mistakes.planting import in_order
from parity.mistakes.stepwise import Stepwise
from parity.recording import steps as deep
from parity.recording.reader import read
from parity.recording.steps import ASKED
from parity.recording.writer import Writer
from parity.tests import toy
from parity.tests.explaining.test_walk import FAULTS, backwards
from parity.tests.explaining.toys import CASE, recorded, witness
from parity.trainer import record
from parity.trajectory import Trajectory, TrajectoryError, gather
from parity.typing import Array, Params


def test_a_watched_run_keeps_its_path_and_is_seen_whole() -> None:
    case = replace(CASE, epochs=4)
    plain = gather(record(toy.build(case, "float64", "cpu"), case, 4))
    seen = recorded(toy.build(case, "float64", "cpu"), updates=4, case=case)
    np.testing.assert_array_equal(seen.loss, plain.loss)
    for name, values in plain.params.items():
        np.testing.assert_array_equal(seen.params[name], values)
    steps = deep.steps_of(seen)
    assert [step.number for step in steps] == [0, 1, 2, 3]
    # Three updates are an epoch: the state after the third is the snapshot's.
    for name, values in plain.params.items():
        np.testing.assert_array_equal(steps[0].before.params[name], values[0])
        np.testing.assert_array_equal(steps[2].after.params[name], values[1])
    assert [float(step.trained) for step in steps] == plain.loss.ravel()[:4].tolist()
    assert set(steps[0].before.slots) == {f"momentum/{name}" for name in plain.params}


def test_a_deep_recording_survives_the_disk(tmp_path: Path) -> None:
    watched = deep.watched(toy.build(CASE, "float32", "cpu"), CASE, 5)
    with Writer(tmp_path / "run", {}) as writer:
        for number, chunk in enumerate(record(watched.trainer, replace(CASE, every=2), CASE.epochs)):
            writer.add(chunk, watched.take())
            if number:
                writer.flush()
    found, wanted = read(tmp_path / "run"), recorded(toy.build(CASE, "float32", "cpu"))
    assert found.steps.keys() == wanted.steps.keys()
    for name, value in wanted.steps.items():
        np.testing.assert_array_equal(found.steps[name], value)
    assert len(deep.steps_of(found)) == 5
    assert not deep.steps_of(replace(found, steps={}))


@pytest.mark.parametrize("name", ["3/rows", "4/params/dense/kernel"])
def test_an_update_that_is_there_in_part_is_said(name: str) -> None:
    run = recorded(toy.build(CASE, "float64", "cpu"))
    with pytest.raises(TrajectoryError, match=f"lacks {name.partition('/')[2]}"):
        deep.steps_of(replace(run, steps={key: value for key, value in run.steps.items() if key != name}))


def test_a_loss_that_is_no_number_is_said_and_other_names_are_left_alone() -> None:
    run = recorded(toy.build(CASE, "float64", "cpu"))
    with pytest.raises(TrajectoryError, match="no single number"):
        deep.steps_of(replace(run, steps={**run.steps, "2/loss": np.zeros(3)}))
    assert not deep.steps_of(replace(run, steps={"mine/a": np.zeros(3), "mine_too/b": np.zeros(3)}))


# Taken apart from the recording alone


@pytest.mark.parametrize("phase", ASKED)
def test_a_recorded_fault_is_found_in_its_phase(phase: str) -> None:
    trainer = FAULTS[phase]
    trainer.load(toy.build(CASE, "float64", "cpu").export())
    found = walk_recorded(recorded(trainer), witness())
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == (phase, 1, 0)
    assert list(found.agreed) == list(ASKED[: ASKED.index(phase)])


def test_right_updates_agree_and_what_would_reach_further_is_said() -> None:
    found = walk_recorded(recorded(toy.build(CASE, "float64", "cpu")), witness())
    assert found is not None
    assert found.check is None
    assert "each of the 5 updates" in found.note
    assert "more of them would reach further" in found.note
    assert max(found.agreed.values()) <= 1


def test_a_fault_is_found_at_the_update_that_it_begins_with() -> None:
    def late(gradients: Any, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        calls.append(loss)
        # Each update asks twice: once to be watched, once to train.
        return loss, {name: g * (2 if len(calls) > 6 else 1) for name, g in found.items()}

    calls: list[float] = []
    trainer = Stepwise(toy.build(CASE, "float64", "cpu"), CASE, "float64", evaluate=late)
    found = walk_recorded(recorded(trainer), witness())
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == ("gradient", 2, 0)


def test_what_zeros_hide_is_seen_in_a_later_recorded_update() -> None:
    nought = {name: np.zeros_like(p) for name, p in CASE.initial().items()}
    case = replace(CASE, initial=lambda: nought)
    found = walk_recorded(recorded(toy.build_transposed(case, "float64", "cpu"), case=case), witness(case))
    assert found is not None
    assert (found.phase, found.epoch, found.batch) == ("prediction", 1, 0)
    assert "zero" in found.note


def test_other_initial_parameters_and_other_rows_are_said() -> None:
    other = replace(CASE, initial=lambda: {name: p + 1e-9 for name, p in CASE.initial().items()})
    found = walk_recorded(recorded(toy.build(other, "float64", "cpu"), case=other), witness())
    assert found is not None
    assert found.phase == "state"
    assert "initial parameters" in found.note
    run = recorded(toy.build(CASE, "float64", "cpu"))
    turned = walk_recorded(replace(run, steps={**run.steps, "1/rows": run.steps["1/rows"][::-1]}), witness())
    assert turned is not None
    assert (turned.phase, turned.batch) == ("batch", 1)
    assert "took the rows" in turned.note


def test_two_recordings_are_taken_apart_without_a_reference() -> None:
    right = recorded(toy.build(CASE, "float64", "cpu"))
    same = walk_pair(right, right)
    assert same is not None
    assert same.check is None
    for phase in ("prediction", "loss", "gradient", "update"):
        trainer = FAULTS[phase]
        trainer.load(toy.build(CASE, "float64", "cpu").export())
        found = walk_pair(recorded(trainer), right)
        assert found is not None
        assert (found.phase, found.epoch, found.batch) == (phase, 1, 0)
    late = in_order(backwards)(toy.build, CASE, "float64", "cpu")
    found = walk_pair(recorded(late), right)
    assert found is not None
    assert found.phase == "batch"
    assert walk_pair(replace(right, steps={}), right) is None


# How a distance grows


def apart(distance: Callable[[Array], Array]) -> str:
    epochs = np.arange(12)
    base = np.ones((12, 2))
    run = base + distance(epochs.astype(float))[:, None]
    loss = np.zeros((11, 1))
    return growth(
        Trajectory({}, epochs, loss, {"w": run}, {}),
        Trajectory({}, epochs, loss, {"w": base}, {}),
    )


def test_the_growth_of_a_distance_is_put_in_words() -> None:
    assert apart(lambda t: 1e-3 * t) == "grows in proportion to the epochs"
    assert apart(lambda t: 1e-6 * 2.0**t) == "grows 2-fold an epoch"
    assert apart(lambda t: 1e-4 * t**3) == "grows as the epochs to the power 3"
    assert apart(lambda t: np.full(12, 1e-3)) == "stays as it is from epoch to epoch"
    assert apart(lambda t: 1e-3 * np.random.RandomState(0).uniform(0.1, 1, 12)) == ""
    assert apart(lambda t: 0 * t) == ""
