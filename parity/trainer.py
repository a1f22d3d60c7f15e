"""The five verbs that every implementation offers, and the only training loop there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from parity.spec import Case, Metric
from parity.trajectory import Chunk
from parity.typing import Array, Batches, Params

CHUNK_BYTES = 16 << 20
CHUNK_EPOCHS = 256
T = TypeVar("T")


@dataclass
class State:
    """Everything a run needs to go on exactly: parameters, optimizer slots and the number of updates done.

    Slots are named ``<slot>/<parameter>``, as in ``momentum/dense/kernel``, and have the parameter's canonical
    layout. They are ``slot_scale`` times what ``parity.spec`` defines: Keras folds the learning rate into its
    momentum (scale -learning_rate), and dividing it out would round, so that a resumed run would not be exact.
    """

    params: Params
    slots: Params = field(default_factory=dict)
    step: int = 0
    slot_scale: float = 1.0

    def slots_at(self, scale: float) -> Params:
        """The slots as a framework of that scale keeps them: the very arrays where the scale is this state's own."""
        if scale == self.slot_scale:
            return self.slots
        return {name: slot * (scale / self.slot_scale) for name, slot in self.slots.items()}


class Trained(NamedTuple):
    """What ``train`` gives back for S segments of B batches each."""

    losses: Array
    """(S, B), the run's dtype: each batch's loss, before its update."""
    params: Params
    """Canonical name to (S, *shape): the parameters at the end of each segment."""
    predictions: tuple[Array, ...] = ()
    """(S, n, ...) for each array of inputs: what the model said of it at the end of each segment."""


def joined(pieces: Sequence[Trained]) -> Trained:
    """What came of one stretch of segments after another, as if it were one."""
    if len(pieces) == 1:
        return pieces[0]
    losses, params, predictions = zip(*pieces, strict=True)
    return Trained(
        np.concatenate(losses),
        {name: np.concatenate([piece[name] for piece in params]) for name in params[0]},
        tuple(map(np.concatenate, zip(*predictions, strict=True))),
    )


def continued(pieces: Sequence[Trained]) -> Trained:
    """What came of one segment that was trained in pieces: the losses of them all, the rest as the last left it."""
    return pieces[-1]._replace(losses=np.concatenate([piece.losses for piece in pieces], 1))


def all_rows(segments: Sequence[Batches], rows: int) -> bool:
    """Whether every batch is all rows of the data in their order, so that none need be gathered."""
    distinct = {id(batch): batch for segment in segments for batch in segment}
    return all(np.array_equal(batch, np.arange(rows)) for batch in distinct.values())


def placing(put: Callable[[Array], T], *arrays: Array | None) -> Callable[[Array], T]:
    """``put``, which copies an array to a device; these very arrays it copies once, now."""
    placed = {id(array): (array, put(array)) for array in arrays if array is not None}

    def place(values: Array) -> T:
        return placed[id(values)][1] if id(values) in placed else put(values)

    return place


class Trainer(Protocol):
    """An implementation made ready for one case, dtype and device. NumPy at its boundary.

    An implementation file offers ``build(case, dtype, device) -> Trainer`` and nothing else in public. ``build``
    puts the case's data on the device once. Arrays that go in are cast to the run's dtype, arrays that come out
    have it and are fresh copies; bfloat16 comes out in float32, as ``parity.dtypes`` says.
    """

    def predict(self, x: Array) -> Array:
        """What the model says of ``x``, ``(batch, ...)``. Changes nothing."""
        ...

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        """The loss of one batch and its gradient for every parameter, weight decay left out. Changes nothing."""
        ...

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        """Update once for every batch of every segment, in order, and predict every one of ``inputs`` after each.

        A batch is named by its row indices. All segments hold the same number of batches. A framework may run
        as many steps as it likes before it comes back (scan, loop in a graph): one segment of one batch is a
        single step.
        """
        ...

    def export(self) -> State:
        """The state as it is now, in the canonical layout."""
        ...

    def load(self, state: State) -> None:
        """Become ``state``: what follows equals, bit for bit, what would have followed where it was exported."""
        ...


class Train(Protocol):
    """``Trainer.train`` as a function."""

    def __call__(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained: ...


@dataclass(frozen=True, kw_only=True)
class Verbs:
    """The five verbs as a record of functions, which is a ``Trainer``: ``replace`` makes another one of it."""

    predict: Callable[[Array], Array]
    gradients: Callable[[Array, Array], tuple[float, Params]]
    train: Train
    export: Callable[[], State]
    load: Callable[[State], None]


def verbs(trainer: Trainer) -> Verbs:
    """The verbs of a trainer, to replace some of them.

    A trainer whose gradients are halved::

        def halved(x, y):
            loss, gradients = trainer.gradients(x, y)
            return loss, {name: g / 2 for name, g in gradients.items()}

        other = replace(verbs(trainer), gradients=halved)
    """
    return Verbs(
        predict=trainer.predict,
        gradients=trainer.gradients,
        train=trainer.train,
        export=trainer.export,
        load=trainer.load,
    )


def by_segment(train_one: Callable[[Batches, Sequence[Array]], Trained]) -> Train:
    """``train``, made of a function that trains one segment and predicts the inputs after it."""

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([train_one(segment, inputs) for segment in segments])

    return train


def predicted(trainer: Trainer, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """``Trained.predictions`` of a segment that ends where the trainer is now."""
    return tuple(trainer.predict(x)[None] for x in inputs)


def record(trainer: Trainer, case: Case, epochs: int, start: int = 0) -> Iterator[Chunk]:
    """Train ``case`` for ``epochs`` epochs and yield what happens, a chunk of snapshots at a time.

    The first chunk is the state before training, unless ``start`` is positive: then the trainer must hold the
    state of epoch ``start`` and the run goes on from there. A snapshot is taken every ``case.every`` epochs and
    after the last one, and with each what the case's metrics score. ValueError where a metric gives anything but a
    number a snapshot.
    """
    data = case.data()
    first = trainer.export().params
    splits = {metric.split: data.split(metric.split) for metric in case.metrics}
    inputs = tuple(x for x, _ in splits.values())

    def chunk(epochs: Array, losses: Array, params: Params, predictions: Sequence[Array]) -> Chunk:
        asked = dict(zip(splits, predictions, strict=True))
        metrics = {m.name: _scores(m, asked[m.split], splits[m.split][1]) for m in case.metrics}
        return Chunk(epochs, losses, params, metrics)

    predictions = predicted(trainer, inputs)
    if start == 0:
        params = {name: value[None] for name, value in first.items()}
        yield chunk(np.zeros(1, np.int64), np.zeros((0, 0)), params, predictions)
    order = itertools.islice(case.schedule.epochs(len(data.x)), start, epochs)
    bytes_each = sum(value.nbytes for value in (*first.values(), *predictions))
    limit = max(1, min(CHUNK_EPOCHS // case.every, CHUNK_BYTES // max(1, bytes_each)))
    done = start
    while done < epochs:
        # A short last segment travels alone: all segments of one call have the same number of batches.
        whole = min(limit, (epochs - done) // case.every)
        lengths = [case.every] * whole or [epochs - done]
        segments = [sum((next(order) for _ in range(length)), ()) for length in lengths]
        trained = trainer.train(segments, inputs)
        ends = done + np.cumsum(lengths)
        done = int(ends[-1])
        yield chunk(ends, trained.losses.reshape(sum(lengths), -1), trained.params, trained.predictions)


def _scores(metric: Metric, predictions: Array, y: Array) -> Array:
    scores = np.asarray(metric.score(predictions, y), np.float64)
    if scores.shape != predictions.shape[:1]:
        raise ValueError(
            f"metric {metric.name!r} gives {scores.shape} for the predictions {predictions.shape} of "
            f"{len(predictions)} snapshots: it must leave one number for each, so reduce every axis but the first"
        )
    return scores


Build = Callable[[Case, str, str], Trainer]
