"""A failure that is seen in lockstep is explained from that run, and as it was judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.explaining.explain import explain
from parity.judging.floors.noise import in_lockstep, measure
from parity.judging.verdict import Verdict, judge
from parity.mistakes.catalogue import CATALOGUE
from parity.suite import Entry, Implementation
from parity.tests import toy
from parity.trainer import record
from parity.trajectory import gather

LENGTH = 2
ENTRY = Entry(toy.MOMENTUM, Path("toy/spec.py"), {})


class Toy(Implementation):
    """The toy model as a suite's implementation."""

    def build(self, case, dtype, device):
        return toy.build(case, dtype, device)


REFERENCE = Toy("numpy", "toy", Path("toy.py"))


@pytest.mark.slow
def test_a_mistake_is_replayed_in_lockstep_where_the_run_in_lockstep_failed() -> None:
    case = replace(toy.MOMENTUM, epochs=6)
    (plant,) = (mistake.plant for mistake in CATALOGUE if mistake.name == "momentum-missing")
    floor = measure(toy.build, case, case.epochs, LENGTH, dtypes=("float32", "float64"))["float64"]
    right = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))

    def planted():
        return plant(toy.build, case, "float64", "cpu")

    held = in_lockstep(planted(), toy.build(case, "float64", "cpu"), case, LENGTH)
    run = gather(record(held.trainer, case, case.epochs))
    judgement = judge(run, right, floor)
    assert (judgement.verdict, judgement.epoch) == (Verdict.FAIL, 1)
    found = {
        lockstep: explain(
            ENTRY,
            planted(),
            REFERENCE,
            run,
            failed=judgement.epoch,
            dtype="float64",
            floor=floor,
            lockstep=lockstep,
        ).diagnosis
        for lockstep in (LENGTH, None)
    }
    assert found[LENGTH].explanations[0].names == ("momentum-missing",)
    # Replayed in a free run, the right mistake leaves what the returns to the reference's state took away.
    assert not found[None].explanations


@pytest.mark.slow
def test_a_step_that_goes_wrong_late_is_looked_for_from_where_its_stretch_begins() -> None:
    case = replace(toy.MOMENTUM, epochs=6)
    floor = measure(toy.build, case, case.epochs, LENGTH, dtypes=("float32", "float64"))["float64"]

    def late():
        """The learning rate is another from the fourth epoch on."""
        trainer = toy.build(case, "float64", "cpu")
        train, rule = trainer.train, case.optimizer
        each = len(next(case.schedule.epochs(len(case.data().x))))

        def drifting(segments, inputs=()):
            later = trainer.state.step >= 3 * each
            trainer.case = replace(
                case, optimizer=replace(rule, learning_rate=2 * rule.learning_rate) if later else rule
            )
            return train(segments, inputs)

        trainer.train = drifting
        return trainer

    held = in_lockstep(late(), toy.build(case, "float64", "cpu"), case, LENGTH)
    run = gather(record(held.trainer, replace(case, every=1), case.epochs))
    right = gather(record(toy.build(case, "float64", "cpu"), case, case.epochs))
    judgement = judge(run, right, floor)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.epoch == 4
    location = explain(
        ENTRY, late(), REFERENCE, run, failed=4, dtype="float64", floor=floor, lockstep=LENGTH
    ).diagnosis.location
    assert (location.phase, location.epoch, location.batch) == ("update", 4, 0)
    assert np.isfinite(location.check.floors)
