"""The five verbs that every implementation offers, and the only training loop there is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from parity.spec import Case, Metric
from parity.trajectory import Chunk
from parity.typing import Array, Batches, Params

CHUNK_BYTES = 16 << 20
"""``record`` hands over a chunk before it holds more bytes than this, if one snapshot is not larger."""
CHUNK_EPOCHS = 256
"""The most epochs in a chunk."""


@dataclass
class State:
    """Everything that a run needs to go on exactly.

    Attributes:
        params: Canonical name to array, in the run's dtype; the buffers of the case are among them.
        slots: The optimizer's slots by ``<slot>/<parameter>``, as in ``momentum/dense/kernel``, each in its parameter's
            layout.
        step: The number of updates done.
        slot_scale: The slots are this many times what ``parity.spec`` defines. Keras folds the learning rate into its
            momentum (scale -learning_rate); dividing it out would round, and a resumed run would not be exact.

    Examples:
        >>> state = State({"dense/bias": np.ones(1)}, {"momentum/dense/bias": np.array([-0.5])}, 3, slot_scale=-0.5)
        >>> state.slots_at(1.0)["momentum/dense/bias"].tolist()
        [1.0]
    """

    params: Params
    slots: Params = field(default_factory=dict)
    step: int = 0
    slot_scale: float = 1.0

    def slots_at(self, scale: float) -> Params:
        """Give the slots as a framework of another scale keeps them.

        Args:
            scale: How many times what ``parity.spec`` defines the slots are to be.

        Returns:
            The slots by name; the very arrays of this state if the scale is its own.
        """
        if scale == self.slot_scale:
            return self.slots
        return {name: slot * (scale / self.slot_scale) for name, slot in self.slots.items()}


class Trained(NamedTuple):
    """What ``train`` gives back for S segments of B batches each.

    Examples:
        >>> Trained(np.zeros((2, 4)), {"dense/bias": np.zeros((2, 3))}).losses.shape
        (2, 4)
    """

    losses: Array
    """(S, B), the run's dtype: each batch's loss, before its update."""
    params: Params
    """Canonical name to (S, *shape): the parameters at the end of each segment."""
    predictions: tuple[Array, ...] = ()
    """(S, n, ...) for each array of inputs: what the model said of it at the end of each segment."""


def joined(pieces: Sequence[Trained]) -> Trained:
    """Join what came of one stretch of segments after another, as if they had been one call.

    Args:
        pieces: What ``train`` gave for each stretch, in order.

    Returns:
        Losses, parameters and predictions of all segments.

    Examples:
        >>> piece = Trained(np.zeros((1, 4)), {"dense/bias": np.zeros((1, 3))})
        >>> joined([piece, piece]).losses.shape
        (2, 4)
    """
    if len(pieces) == 1:
        return pieces[0]
    losses, params, predictions = zip(*pieces, strict=True)
    return Trained(
        np.concatenate(losses),
        {name: np.concatenate([piece[name] for piece in params]) for name in params[0]},
        tuple(map(np.concatenate, zip(*predictions, strict=True))),
    )


def continued(pieces: Sequence[Trained]) -> Trained:
    """Join what came of one segment that was trained in pieces.

    Args:
        pieces: What ``train`` gave for each piece, in order.

    Returns:
        The losses of them all, side by side; parameters and predictions as the last piece left them.

    Examples:
        >>> piece = Trained(np.zeros((1, 4)), {"dense/bias": np.zeros((1, 3))})
        >>> continued([piece, piece]).losses.shape
        (1, 8)
    """
    return pieces[-1]._replace(losses=np.concatenate([piece.losses for piece in pieces], 1))


class Trainer(Protocol):
    """An implementation made ready for one case, dtype and device: five verbs, with NumPy at their boundary.

    An implementation file offers ``build(case, dtype, device) -> Trainer`` and nothing else in public. ``build``
    puts the case's data on the device once. Arrays that go in are cast to the run's dtype. Arrays that come out have
    that dtype, bfloat16 in float32, and are fresh copies. Names and shapes are those of the canonical layout.

    ``parity.trainers`` has a class for each framework that needs no more than a model's forward pass.

    Examples:
        >>> import numpy as np
        >>> from parity import Case, Dataset, FullBatch, Loss, Sgd, gather
        >>> from parity.trainers.numpy_trainer import NumpyTrainer
        >>> line = Case(
        ...     name="line",
        ...     data=lambda: Dataset(np.ones((4, 1)), np.zeros((4, 1))),
        ...     initial=lambda: {"dense/kernel": np.ones((1, 1))},
        ...     loss=Loss("squared_error", "mean"),
        ...     optimizer=Sgd(0.25),
        ...     schedule=FullBatch(),
        ...     epochs=2,
        ... )
        >>> trainer = NumpyTrainer(
        ...     line,
        ...     "float64",
        ...     lambda params, x: (x @ params["dense/kernel"], x),
        ...     lambda params, x, error: {"dense/kernel": x.T @ error},
        ... )
        >>> loss, gradients = trainer.gradients(np.ones((4, 1)), np.zeros((4, 1)))
        >>> float(loss), gradients["dense/kernel"].tolist()
        (1.0, [[2.0]])
    """

    def predict(self, x: Array) -> Array:
        """Predict, with the buffers as they are. Changes nothing.

        Args:
            x: Inputs (batch, ...).

        Returns:
            What the model says of each row, (batch, ...).
        """
        ...

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        """Take the loss of one batch and its gradients, weight decay left out. Changes nothing, buffers neither.

        Args:
            x: Inputs (batch, ...).
            y: Targets (batch, ...).

        Returns:
            The loss, and by canonical name a gradient of each parameter's shape; buffers have none.
        """
        ...

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        """Update once for each batch of each segment, in order, and predict after each segment.

        A framework may run as many steps as it likes before it comes back (scan, loop in a graph). One segment of one
        batch is a single step.

        Args:
            segments: Batches of row indices into the case's training data, (batch,) int64 each; as many batches in each
                segment.
            inputs: Arrays (n, ...) that are predicted at the end of each segment.

        Returns:
            Each batch's loss, and each segment's parameters and predictions.
        """
        ...

    def export(self) -> State:
        """Give the state.

        Returns:
            Copies of parameters and slots as they are now, in the canonical layout.
        """
        ...

    def load(self, state: State) -> None:
        """Take over a state. What follows equals, bit for bit, what would have followed where it was exported.

        Args:
            state: What ``export`` gave, here or in another implementation of the case.
        """
        ...


class Train(Protocol):
    """``Trainer.train`` as a function.

    Examples:
        >>> def idle(segments, inputs=()):
        ...     return Trained(np.zeros((len(segments), 1)), {})
        >>> train: Train = idle
    """

    def __call__(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained: ...


@dataclass(frozen=True, kw_only=True)
class Verbs:
    """The five verbs as a record of functions, which is a ``Trainer``: ``replace`` makes another one of it.

    Attributes:
        predict: ``Trainer.predict``.
        gradients: ``Trainer.gradients``.
        train: ``Trainer.train``.
        export: ``Trainer.export``.
        load: ``Trainer.load``.
        inner: The trainer that has the model, if it is known: a deep recording looks for layers there.

    Examples:
        >>> Verbs(predict=abs, gradients=None, train=None, export=None, load=None).predict(-1)
        1
    """

    predict: Callable[[Array], Array]
    gradients: Callable[[Array, Array], tuple[float, Params]]
    train: Train
    export: Callable[[], State]
    load: Callable[[State], None]
    inner: Any = None


def innermost(trainer: Trainer) -> Trainer:
    """Find the trainer that has the model, however often its verbs were replaced.

    Args:
        trainer: Any trainer.

    Returns:
        The trainer that its verbs were taken from; itself, if they were taken from none.

    Examples:
        >>> from types import SimpleNamespace
        >>> own = SimpleNamespace(predict=abs, gradients=None, train=None, export=None, load=None)
        >>> innermost(verbs(own)) is own
        True
    """
    inner: Trainer | None = getattr(trainer, "inner", None)
    return trainer if inner is None else inner


def verbs(trainer: Trainer) -> Verbs:
    """Take a trainer's verbs, to replace some of them.

    Args:
        trainer: Any trainer.

    Returns:
        Its five verbs.

    Examples:
        >>> from dataclasses import replace
        >>> plain = Verbs(predict=abs, gradients=None, train=None, export=None, load=None)
        >>> replace(verbs(plain), predict=lambda x: plain.predict(x) / 2).predict(-1)
        0.5
    """
    return Verbs(
        predict=trainer.predict,
        gradients=trainer.gradients,
        train=trainer.train,
        export=trainer.export,
        load=trainer.load,
        inner=innermost(trainer),
    )


def by_segment(train_one: Callable[[Batches, Sequence[Array]], Trained]) -> Train:
    """Make ``train`` of a function for one segment.

    Args:
        train_one: Trains one segment of batches and predicts the inputs after it.

    Returns:
        The verb, which joins what comes of each segment.

    Examples:
        >>> train = by_segment(lambda batches, inputs: Trained(np.zeros((1, len(batches))), {}))
        >>> train([(np.arange(3),), (np.arange(3),)]).losses.shape
        (2, 1)
    """

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([train_one(segment, inputs) for segment in segments])

    return train


def predicted(trainer: Trainer, inputs: Sequence[Array]) -> tuple[Array, ...]:
    """Predict at the end of a segment.

    Args:
        trainer: A trainer at the end of a segment.
        inputs: Arrays (n, ...).

    Returns:
        For each input (1, n, ...), as ``Trained.predictions`` has them.

    Examples:
        >>> from types import SimpleNamespace
        >>> doubling = SimpleNamespace(predict=lambda x: 2 * x)
        >>> [prediction.shape for prediction in predicted(doubling, [np.ones((4, 1))])]
        [(1, 4, 1)]
    """
    return tuple(trainer.predict(x)[None] for x in inputs)


def record(trainer: Trainer, case: Case, epochs: int, start: int = 0) -> Iterator[Chunk]:
    """Train a case and yield what happens, a chunk of snapshots at a time.

    A snapshot is taken every ``case.every`` epochs and after the last one, with the case's metrics.

    Args:
        trainer: An implementation made ready for the case.
        case: The case.
        epochs: The epoch to train to.
        start: The epoch to go on from. If it is positive the trainer must hold that epoch's state.

    Yields:
        Chunks that ``gather`` joins; the first is the state before training, unless ``start`` is positive.

    Raises:
        ValueError: If a metric gives anything but one number a snapshot.

    Examples:
        >>> import numpy as np
        >>> from parity import Case, Dataset, FullBatch, Loss, Sgd, gather
        >>> from parity.trainers.numpy_trainer import NumpyTrainer
        >>> line = Case(
        ...     name="line",
        ...     data=lambda: Dataset(np.ones((4, 1)), np.zeros((4, 1))),
        ...     initial=lambda: {"dense/kernel": np.ones((1, 1))},
        ...     loss=Loss("squared_error", "mean"),
        ...     optimizer=Sgd(0.25),
        ...     schedule=FullBatch(),
        ...     epochs=2,
        ... )
        >>> trainer = NumpyTrainer(
        ...     line,
        ...     "float64",
        ...     lambda params, x: (x @ params["dense/kernel"], x),
        ...     lambda params, x, error: {"dense/kernel": x.T @ error},
        ... )
        >>> run = gather(record(trainer, line, line.epochs))
        >>> run.loss.tolist(), run.params["dense/kernel"][:, 0, 0].tolist()
        ([[1.0], [0.25]], [1.0, 0.5, 0.25])
    """
    data = case.data()
    first = trainer.export().params
    splits = {split: data.split(split) for split in case.splits}
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
"""What an implementation file offers: ``build(case, dtype, device)``."""
