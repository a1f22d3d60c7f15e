"""Steps: single updates with all that went into them, made by a live trainer or read from a deep recording.

``parity run --deep N``, and ``parity.recorder`` in a loop of one's own, record the first N updates deeply. For each
update k, from 0, the recording holds beside its snapshots:

    steps/<k>/rows               (batch,) int64, the rows that the run was told to take, or
    steps/<k>/batch              (inputs, SIZE) float64, a sketch of each tensor that the model was given: see
                                 ``parity.recording.sketch``
    steps/<k>/prediction         (batch, ...) of these rows, before the update
    steps/<k>/loss               their loss, before the update, and
    steps/<k>/gradients/<name>   its gradient for each parameter that is trained
    steps/<k>/trained            the loss that the update itself gave
    steps/<k>/params/<name>      the state before the update: parameters, and
    steps/<k>/slots/<slot>/...   the optimizer's slots, in the units of ``parity.spec``

and, of a run that was watched or that says so by itself,

    steps/<k>/activations/<layer>            what each layer gave, and
    steps/<k>/activation_gradients/<layer>   the loss's gradient for it
    steps/<k>/unclipped/<name>               the gradients before they were clipped
    steps/<k>/learning_rate                  () float64

and the state after the last of them as ``steps/<N>/...``. So a recording holds all inputs and outputs of a step. The
step can be held against the reference at the run's own state, or against another recording. A run that follows another
begins each update where the other did, and not where its own update before has ended. So it holds too

    steps/<k>/after/params/<name>            the state after the update, and
    steps/<k>/after/slots/<slot>/...
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple, TypeVar, overload

import numpy as np

from parity.spec import Case
from parity.trainer import State, Trained, Trainer, by_segment, continued, predicted, verbs
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Array, Batches, Params

T = TypeVar("T")


class Phase(StrEnum):
    """A part of a step that can go wrong."""

    BATCH = "batch"
    """The step took other rows than it was told to, or its loss was taken at another time."""
    PREDICTION = "prediction"
    LOSS = "loss"
    GRADIENT = "gradient"
    UPDATE = "update"
    STATE = "state"
    """The state in which one step leaves the next."""
    UNRECORDED = "unrecorded"
    """Unknown: losses and snapshots alone are recorded."""


ASKED = (Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT, Phase.BATCH, Phase.UPDATE)
"""The phases of a step from a shared state, in the order in which they are asked."""


NOTHING = np.empty(0)
"""What a run did not record."""
AFTER = "after/"
"""Before the names of the state after an update, if the next update does not begin there."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One update with all that went into it."""

    before: State
    """The state from which the update began."""
    rows: Array
    """(batch,) int64: the rows that the run was told to take; empty if the run knows none."""
    prediction: Array
    """(batch, ...): the prediction of these rows before the update."""
    loss: Array
    """(): their loss before the update."""
    gradients: Params
    """The gradient of that loss for each parameter that is trained."""
    trained: Array
    """(): the loss that the update itself returned."""
    after: State
    """The state after the update."""
    batch: Array = field(default_factory=lambda: NOTHING)
    """(inputs, SIZE) float64: a sketch of each tensor that the model was given; empty if the run kept none."""
    activations: Params = field(default_factory=dict)
    """What each layer gave, by the layer's name."""
    activation_gradients: Params = field(default_factory=dict)
    """The gradient of the loss for what each layer gave."""
    strays: Mapping[Phase, Sequence[Mapping[str, float]]] = field(default_factory=dict)
    """How far each shadow that walked beside the run strayed from it, by phase and tensor, as in ``seen``."""

    @property
    def number(self) -> int:
        """Count the updates before this one."""
        return self.before.step

    def seen(self) -> dict[Phase, Params]:
        """Give the tensors of each phase, by name. Slots are in the units of ``parity.spec``."""
        return {
            Phase.STATE: {**self.before.params, **self.before.slots_at(1.0)},
            Phase.PREDICTION: {"prediction": self.prediction} if self.prediction.size else {},
            Phase.LOSS: {"loss": self.loss},
            Phase.GRADIENT: self.gradients,
            # If the gradients agree and this loss does not, its rows or its time are wrong.
            Phase.BATCH: {"loss": self.trained},
            Phase.UPDATE: {**self.after.params, **self.after.slots_at(1.0)},
        }


def step_of(trainer: Trainer, state: State, x: Array, y: Array, rows: Array, asked: Collection[Phase] = ASKED) -> Step:
    """Make one update from a state with a live trainer, and keep all that goes into it.

    Args:
        trainer: Any implementation. If the update is asked, the trainer is left in the state after it.
        state: The state from which the update begins.
        x: (batch, ...), the inputs of the rows.
        y: (batch, ...), their targets.
        rows: (batch,) int64, the rows that the update is told to take.
        asked: The phases that are asked. Only the verbs that they need are called; all else is left empty, and fits
            nothing that is expected.

    Returns:
        The step, in the trainer's dtype.
    """
    trainer.load(state)
    prediction = loss = trained = np.empty(0)
    gradients, after = Params(), State({}, step=state.step)
    if Phase.PREDICTION in asked:
        prediction = trainer.predict(x)
    if not {Phase.LOSS, Phase.GRADIENT}.isdisjoint(asked):
        said, gradients = trainer.gradients(x, y)
        loss = np.asarray(said)
    if not {Phase.BATCH, Phase.UPDATE}.isdisjoint(asked):
        trained = trainer.train([(rows,)]).losses.reshape(-1)[0]
        after = trainer.export()
    return Step(
        before=state, rows=rows, prediction=prediction, loss=loss, gradients=gradients, trained=trained, after=after
    )


class Watched(NamedTuple):
    """A trainer that is watched, and the means to take what was seen."""

    trainer: Trainer
    take: Callable[[], Params]
    """Returns what was seen since the last call, by the names above without ``steps/``."""


def watched(
    trainer: Trainer, case: Case, updates: int, layers: Callable[[Array, Array], Params] | None = None
) -> Watched:
    """Watch a trainer: its first ``updates`` updates are made one by one, and all that goes into each is kept.

    ``layers`` says what the layers of its model give for a batch, by the names above without ``steps/<k>/``.
    """
    data = case.data()
    done, seen = 0, _named(0, trainer.export())

    def take() -> Params:
        nonlocal seen
        taken, seen = seen, {}
        return taken

    def watch(rows: Array) -> Trained:
        nonlocal done, seen
        x, y = data.x[rows], data.y[rows]
        prediction, (loss, gradients) = trainer.predict(x), trainer.gradients(x, y)
        inside = layers(x, y) if layers is not None else {}
        trained = trainer.train([(rows,)])
        found = {"rows": rows, "prediction": prediction, "loss": np.asarray(loss), "trained": trained.losses[0, 0]}
        found |= {f"gradients/{name}": g for name, g in gradients.items()} | inside
        seen |= {f"{done}/{name}": np.array(value) for name, value in found.items()}
        done += 1
        seen |= _named(done, trainer.export())
        return trained

    def segment_of(segment: Batches, inputs: Sequence[Array]) -> Trained:
        first = segment[: max(0, updates - done)]
        pieces = [watch(rows) for rows in first]
        if len(first) < len(segment):
            pieces.append(trainer.train([segment[len(first) :]]))
        return continued(pieces)._replace(predictions=predicted(trainer, inputs))

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return (trainer.train if done >= updates else one_by_one)(segments, inputs)

    one_by_one = by_segment(segment_of)
    return Watched(replace(verbs(trainer), train=train), take)


def _named(number: int, state: State) -> Params:
    """Name the tensors of a state as a recording does."""
    found = {f"params/{name}": value for name, value in state.params.items()}
    found |= {f"slots/{name}": value for name, value in state.slots_at(1.0).items()}
    return {f"{number}/{name}": value for name, value in found.items()}


class Lazy(Sequence[T]):
    """A sequence whose items are made when they are asked for: steps may be more than the memory holds.

    >>> squares = Lazy(4, lambda number: number**2)
    >>> squares[2], list(squares[1:])
    (4, [1, 4, 9])
    """

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._places, self._make = range(count), make

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, key: int) -> T: ...
    @overload
    def __getitem__(self, key: slice) -> Lazy[T]: ...
    def __getitem__(self, key: int | slice) -> T | Lazy[T]:
        if not isinstance(key, slice):
            return self._make(self._places[key])
        places = self._places[key]
        return Lazy(len(places), lambda number: self._make(places[number]))


def steps_of(run: Trajectory) -> Sequence[Step]:
    """Read the updates that a run recorded deeply, from the first on.

    Returns:
        The steps, each read when it is asked for; none if the run recorded none, or under other names.

    Raises:
        TrajectoryError: A step is there in part only.
    """
    names: dict[str, list[str]] = {}
    for name in run.steps:
        number, _, rest = name.partition("/")
        names.setdefault(number, []).append(rest)
    count = max(0, len(names) - 1) if "0" in names else 0
    params = [f"params/{name}" for name in run.params]
    for k in range(count):
        here = set(names.get(str(k), ()))
        own = {name.removeprefix(AFTER) for name in here if name.startswith(AFTER)}
        after = own or set(names.get(str(k + 1), ()))
        seen = "batch" if "batch" in here else "rows"
        missing = [name for name in (seen, "loss", "trained", *params) if name not in here]
        missing += [] if any(name.startswith("gradients/") for name in here) else ["gradients"]
        missing += [name for name in params if name not in after]
        if missing:
            raise TrajectoryError(f"the deep recording of update {k} lacks {missing[0]}: record the run again")
        if any(run.steps[f"{k}/{name}"].size != 1 for name in ("loss", "trained")):
            raise TrajectoryError(f"the loss of update {k}, recorded deeply, is no single number: record the run again")

    def tensors(number: int, *parts: str) -> Params:
        return {name: run.steps[f"{number}/{name}"] for name in names[str(number)] if name.startswith(parts or "")}

    def step(k: int) -> Step:
        here = tensors(k)
        own, strays = _part(here, "after"), _part(here, "strays")
        after = own or tensors(k + 1, "params/", "slots/", "strays/")
        return Step(
            before=_state(here, k),
            rows=here.get("rows", NOTHING.astype(np.int64)),
            prediction=here.get("prediction", NOTHING),
            loss=here["loss"].reshape(()),
            gradients=_part(here, "gradients"),
            trained=here["trained"].reshape(()),
            after=_state(after, k + 1),
            batch=here.get("batch", NOTHING),
            activations=_part(here, "activations"),
            activation_gradients=_part(here, "activation_gradients"),
            strays=_strays(strays, _part(strays if own else after, "after" if own else "strays")),
        )

    return Lazy(count, step)


def _state(tensors: Params, number: int) -> State:
    return State(_part(tensors, "params"), _part(tensors, "slots"), number)


def _strays(here: Params, after: Params) -> dict[Phase, list[Mapping[str, float]]]:
    """Sort the strays of an update, and those of the next one's beginning, as ``Step.seen`` sorts its tensors."""

    def state(of: Params) -> Params:
        return _part(of, "params") | _part(of, "slots")

    loss = {name: far for name, far in here.items() if name == "loss"}
    phases = {
        Phase.STATE: state(here),
        Phase.PREDICTION: {name: far for name, far in here.items() if name == "prediction"},
        Phase.LOSS: loss,
        Phase.GRADIENT: _part(here, "gradients"),
        Phase.BATCH: loss,
        Phase.UPDATE: state(after),
    }
    found: dict[Phase, list[Mapping[str, float]]] = {}
    for phase, tensors in phases.items():
        for number in range(min((far.size for far in tensors.values()), default=0)):
            each = {name: float(far.reshape(-1)[number]) for name, far in tensors.items()}
            # A noise floor of an infinite distance would let everything pass.
            found.setdefault(phase, []).append({name: far for name, far in each.items() if np.isfinite(far)})
    return found


def _part(tensors: Params, name: str) -> Params:
    return {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}


def epochs_and_batches(run: Trajectory) -> Iterator[tuple[int, int]]:
    """Count the epoch, from 1, and the batch, from 0, of each update of a run."""
    batches = max(1, run.loss.shape[1])
    return ((number // batches + 1, number % batches) for number in itertools.count())


def update_at(run: Trajectory, epoch: int, batch: int) -> int:
    """Number, from 0, the update of an epoch, from 1, and a batch, from 0."""
    batches: int = run.loss.shape[1]
    return (epoch - 1) * max(1, batches) + batch


def rows_in_words(rows: Array) -> str:
    """List the first few rows."""
    return ", ".join(map(str, rows[:4].tolist())) + (", …" if len(rows) > 4 else "")
