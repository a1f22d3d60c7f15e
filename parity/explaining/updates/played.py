"""Play recorded updates back: an implementation with recorded gradients, and a case of which row k is update k."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.explaining.updates.rules import made as by_rule
from parity.mistakes.stepwise import Stepwise
from parity.nn.updates import slot_names
from parity.recording.steps import Step
from parity.spec import Case, Dataset, Loss, Optimizer
from parity.trainer import Build, State, Trained, Trainer, Verbs
from parity.typing import Array, Batches, Params


@dataclass(frozen=True)
class OneByOne:
    """A batch order in which row k is the only batch of epoch k + 1."""

    ordered = True

    def epochs(self, rows: int) -> Iterator[Batches]:
        return ((np.array([row]),) for row in itertools.cycle(range(rows)))


def playback(steps: Sequence[Step], start: State) -> Verbs:
    """Make verbs which return, for row k, what was recorded at update k, whatever the parameters are."""

    def gradients(x: Array, y: Array) -> tuple[float, Params]:
        step = steps[int(x[0])]
        return float(step.trained), step.gradients

    def no_model(x: Array) -> Array:
        raise NotImplementedError("a recorded update has no model to ask")

    def no_training(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        raise NotImplementedError("a recorded update is made again by its rule: see Stepwise")

    # The recorded answers do not depend on the state that is loaded.
    return Verbs(
        predict=no_model, gradients=gradients, train=no_training, export=lambda: start, load=lambda state: None
    )


def playing(steps: Sequence[Step]) -> Build:
    """Make an implementation of recorded gradients, whose updates NumPy makes with the case's optimizer."""

    def build(case: Case, dtype: str, device: str) -> Trainer:
        initial, names = case.initial(), slot_names(case.optimizer)
        # A slot that was not recorded begins at zero, as at the beginning of training.
        slots = {f"{slot}/{name}": np.zeros_like(p) for slot in names for name, p in initial.items()}
        begun = State(initial, slots | steps[0].before.slots, steps[0].before.step)
        return Stepwise(playback(steps, begun), case, dtype, rule=by_rule)

    return build


def played(steps: Sequence[Step], optimizer: Optimizer) -> Case:
    """Make a case of recorded updates: row k stands for the batch of update k, and an epoch is one update.

    The gradients of the steps are clipped already, if the optimizer clips.
    """
    rows = np.arange(len(steps))
    data = Dataset(rows, rows)
    initial = {name: value.astype(np.float64) for name, value in steps[0].before.params.items()}
    return Case(
        name="recorded-updates",
        data=lambda: data,
        initial=lambda: initial,
        loss=Loss("total", "sum"),
        optimizer=replace(optimizer, clipping=None),
        schedule=OneByOne(),
        epochs=len(steps),
    )
