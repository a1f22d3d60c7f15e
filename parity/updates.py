"""Whether a run's updates are those of the optimizer that it says it has, and which mistake makes them so.

An update is made of a state and of gradients. Where both were recorded (see ``parity.deep``) it can be made again, by
the rule as it should be and by every mistaken one, with no model at hand: the recorded gradients are played back, and
the mistakes of the phase ``update`` are replayed on them as ``parity.diagnose`` replays mistakes on a reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.crosscheck import least_floor
from parity.deep import Step, steps_of
from parity.diagnose import Diagnosis, Replays, diagnose
from parity.hypotheses import CATALOGUE
from parity.locate import Location
from parity.planting import Stepwise
from parity.spec import Array, Batches, Case, Dataset, Loss, Optimizer, Params, optimizer_from
from parity.trainer import State, Trained, Trainer
from parity.trainers.numpy_trainer import slot_names
from parity.trajectory import Trajectory

AT_THE_END = ("learning-rate-folded-into-the-velocity", "learning-rate-a-decay-step-off")
"""They are planted in a run's last epoch, which a recording of its first updates has not seen."""
MISTAKES = tuple(known for known in CATALOGUE if known.phase == "update" and known.name not in AT_THE_END)


@dataclass(frozen=True)
class OneByOne:
    """Row k is the only batch of epoch k + 1."""

    ordered = True

    def epochs(self, rows: int) -> Iterator[Batches]:
        return ((np.array([row]),) for row in itertools.cycle(range(rows)))


class Playback:
    """A trainer that answers for row k what was recorded at update k, whatever its parameters are."""

    def __init__(self, steps: Sequence[Step], start: State) -> None:
        self.steps, self.start = steps, start

    def predict(self, x: Array) -> Array:
        raise NotImplementedError("a recorded update has no model to ask")

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        step = self.steps[int(x[0])]
        return float(step.trained), step.gradients

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        raise NotImplementedError("a recorded update is made again by its rule: see Stepwise")

    def export(self) -> State:
        return self.start

    def load(self, state: State) -> None:
        """Nothing that was recorded depends on it."""


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """The optimizer that a run says it has; None where it says none, or in words that are not ``parity.spec``'s."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else None


def explain_updates(run: Trajectory, optimizer: Optimizer, location: Location, seconds: float = 45.0) -> Diagnosis:
    """Which mistake in the optimizer makes of a run's recorded gradients what was recorded after them.

    ``location`` is where an update was found to part from another run's, both recorded deeply. ``untouched`` is what
    the optimizer as it should be leaves: within the noise, this run is right.
    """
    steps = steps_of(run)
    case = played(steps, optimizer)

    def build(case: Case, dtype: str, device: str) -> Trainer:
        # A slot that was not recorded begins at zero, as it does where training begins.
        zeros = {f"{slot}/{name}": np.zeros_like(p) for slot in slot_names(optimizer) for name, p in initial.items()}
        return Stepwise(Playback(steps, State(case.initial(), zeros | steps[0].before.slots)), case, dtype)

    initial = case.initial()
    states = [steps[0].before, *(step.after for step in steps)]
    updated = Trajectory(
        run.meta,
        np.arange(len(states)),
        np.array([[step.trained] for step in steps]).reshape(len(steps), 1),
        {name: np.stack([state.params[name] for state in states]) for name in initial},
        {},
    )
    number = (location.epoch - 1) * max(1, run.loss.shape[1]) + location.batch
    there = replace(location, epoch=number + 1, batch=0)
    replays = Replays(build, case, MISTAKES)
    found = diagnose(updated, there, replays, least_floor(updated), run.meta["dtype"], seconds=seconds)
    return replace(found, location=location)


def played(steps: Sequence[Step], optimizer: Optimizer) -> Case:
    """Recorded updates as a case: row k stands for what went into update k, and an epoch is one update."""
    rows = np.arange(len(steps))
    data = Dataset(rows, rows)
    initial = {name: value.astype(np.float64) for name, value in steps[0].before.params.items()}
    return Case(
        name="recorded-updates",
        source="a deep recording",
        data=lambda: data,
        initial=lambda: initial,
        loss=Loss("total", "sum"),
        optimizer=optimizer,
        schedule=OneByOne(),
        epochs=len(steps),
    )
