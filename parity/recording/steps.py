"""Deep recordings: a run's first updates with all that went into them, and what can be read from them alone.

``parity run --deep N``, and ``parity.recorder`` from a loop of one's own, record for each update k (from 0) of the
first N, beside the snapshots of ``trajectory``:

    steps/<k>/rows               (batch,) int64, the rows that the run was told to take
    steps/<k>/prediction         (batch, ...) of these rows, before the update
    steps/<k>/loss               their loss, before the update, and
    steps/<k>/gradients/<name>   its gradient for each parameter that is trained
    steps/<k>/trained            the loss that the update itself gave
    steps/<k>/params/<name>      the state before the update: parameters, and
    steps/<k>/slots/<slot>/...   the optimizer's slots, in the units of ``parity.spec``

and the state after the last of them as ``steps/<N>/...``. All inputs and outputs of a step are there, so that it can be
taken apart as ``locate`` does with a live implementation: at the run's own states, held against the reference, or,
where no reference is at hand, against another deep recording as far as both are in the same state.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.spec import Case
from parity.trainer import State, Trained, Trainer, continued, joined, predicted
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Array, Batches, Params


class Watched:
    """A trainer whose first ``updates`` updates are made one by one, with a look at what goes into each.

    ``take`` hands over what was seen since the last call, by the names above without ``steps/``.
    """

    def __init__(self, trainer: Trainer, case: Case, updates: int) -> None:
        self.trainer, self.data, self.updates = trainer, case.data(), updates
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load
        self.done = 0
        self._seen: Params = self._state()

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        if self.done >= self.updates:
            return self.trainer.train(segments, inputs)
        return joined([self._segment(segment, inputs) for segment in segments])

    def take(self) -> Params:
        seen, self._seen = self._seen, {}
        return seen

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        watched = segment[: max(0, self.updates - self.done)]
        pieces = [self._watch(rows) for rows in watched]
        if len(watched) < len(segment):
            pieces.append(self.trainer.train([segment[len(watched) :]]))
        return continued(pieces)._replace(predictions=predicted(self.trainer, inputs))

    def _watch(self, rows: Array) -> Trained:
        x, y = self.data.x[rows], self.data.y[rows]
        prediction, (loss, gradients) = self.trainer.predict(x), self.trainer.gradients(x, y)
        trained = self.trainer.train([(rows,)])
        found = {"rows": rows, "prediction": prediction, "loss": np.asarray(loss), "trained": trained.losses[0, 0]}
        found |= {f"gradients/{name}": g for name, g in gradients.items()}
        self._seen |= {f"{self.done}/{name}": np.array(value) for name, value in found.items()}
        self.done += 1
        self._seen |= self._state()
        return trained

    def _state(self) -> Params:
        state = self.trainer.export()
        found = {f"params/{name}": value for name, value in state.params.items()}
        found |= {f"slots/{name}": value for name, value in state.slots_at(1.0).items()}
        return {f"{self.done}/{name}": value for name, value in found.items()}


@dataclass(frozen=True)
class Step:
    """One recorded update: the state before it, what was seen on the way, and the state after it."""

    number: int
    before: State
    rows: Array
    prediction: Array
    loss: Array
    gradients: Params
    trained: Array
    after: State


def steps_of(run: Trajectory) -> list[Step]:
    """The updates that a run recorded deeply, from the first on; none where it did not, or not under these names.

    TrajectoryError where one of them is there in part only.
    """
    found: list[Step] = []
    tensors: dict[str, Params] = {}
    for name, value in run.steps.items():
        number, _, rest = name.partition("/")
        tensors.setdefault(number, {})[rest] = value
    for k in range(len(tensors) - 1 if "0" in tensors else 0):
        here, after = tensors.get(str(k), {}), tensors.get(str(k + 1), {})
        needed = ["rows", "prediction", "loss", "trained", *(f"params/{name}" for name in run.params)]
        missing = [name for name in needed if name not in here]
        missing += [] if _part(here, "gradients") else ["gradients"]
        missing += [name for name in (f"params/{name}" for name in run.params) if name not in after]
        if missing:
            raise TrajectoryError(f"the deep recording of update {k} lacks {missing[0]}: record the run again")
        if here["loss"].size != 1 or here["trained"].size != 1:
            raise TrajectoryError(f"the loss of update {k}, recorded deeply, is no single number: record the run again")
        gradients = _part(here, "gradients")
        seen = here["rows"], here["prediction"], here["loss"], gradients, here["trained"]
        found.append(Step(k, _state(here, k), *seen, _state(after, k + 1)))
    return found


def _state(tensors: Params, number: int) -> State:
    return State(_part(tensors, "params"), _part(tensors, "slots"), number)


def _part(tensors: Params, name: str) -> Params:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def epochs_and_batches(run: Trajectory) -> Iterator[tuple[int, int]]:
    """The epoch, from 1, and the batch, from 0, of each update."""
    batches = max(1, run.loss.shape[1])
    return ((number // batches + 1, number % batches) for number in itertools.count())


def rows_in_words(rows: Array) -> str:
    """The first few."""
    return ", ".join(map(str, rows[:4].tolist())) + (", …" if len(rows) > 4 else "")
