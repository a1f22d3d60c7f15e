"""Mistakes in the order of the batches, and in when a figure is taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from parity.mistakes.mistake import Mistake as Mistake
from parity.mistakes.planting import in_order, one_by_one
from parity.spec import Case, RandomRow, RandomRows, Schedule, Shuffled
from parity.trainer import Build, Trained, Trainer, by_segment, predicted, verbs
from parity.typing import Array, Batches

if TYPE_CHECKING:
    pass


def another_generator(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if isinstance(schedule, Shuffled):
        return shuffled(schedule, rows, np.random.default_rng)
    generator = np.random.default_rng(getattr(schedule, "seed", None))
    if isinstance(schedule, RandomRow):
        return (generator.integers(rows, size=1) for _ in itertools.count())
    if isinstance(schedule, RandomRows):
        return (generator.permutation(rows)[: schedule.batch_size] for _ in itertools.count())
    return None


def shuffled(schedule: Shuffled, rows: int, make: Callable[[int], Any], anew: bool = True) -> Iterator[Array]:
    """As the schedule's own, with another generator; ``anew=False`` shuffles what the epoch before has shuffled."""
    end = rows if schedule.keep_last else rows - rows % schedule.batch_size
    generator, order = make(schedule.seed), np.arange(rows)
    while True:
        generator = make(schedule.seed) if schedule.reseed else generator
        order = np.arange(rows) if anew else order.copy()
        generator.shuffle(order)
        for start in range(0, end, schedule.batch_size):
            yield order[start : min(start + schedule.batch_size, end)]


def shuffled_again(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    return shuffled(schedule, rows, np.random.RandomState, anew=False) if isinstance(schedule, Shuffled) else None


def another_seed(schedule: Any, rows: int) -> Iterator[Array] | None:
    return one_by_one(replace(schedule, seed=schedule.seed + 1), rows) if hasattr(schedule, "seed") else None


def not_reshuffled(schedule: Schedule, rows: int) -> Iterator[Array]:
    return itertools.cycle(next(schedule.epochs(rows)))


def not_reseeded(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    return one_by_one(replace(schedule, reseed=False), rows) if isinstance(schedule, Shuffled) else None


def not_shuffled(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if isinstance(schedule, Shuffled):
        return _in_turn(rows, schedule.batch_size, rows if schedule.keep_last else rows - rows % schedule.batch_size)
    size = {RandomRow: 1, RandomRows: getattr(schedule, "batch_size", 0)}.get(type(schedule))
    return _in_turn(rows, size, rows - rows % size) if size else None


def _in_turn(rows: int, size: int, end: int) -> Iterator[Array]:
    order = np.arange(rows)
    return itertools.cycle([order[start : min(start + size, end)] for start in range(0, end, size)])


def with_replacement(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if not isinstance(schedule, Shuffled | RandomRows):
        return None
    generator = np.random.RandomState(schedule.seed)
    return (generator.randint(rows, size=schedule.batch_size, dtype=np.int64) for _ in itertools.count())


def other_last_batch(schedule: Schedule, rows: int, keep: bool) -> Iterator[Array] | None:
    if not isinstance(schedule, Shuffled) or schedule.keep_last == keep:
        return None
    if rows < schedule.batch_size:
        return None  # The last batch is the only one.
    return one_by_one(replace(schedule, keep_last=keep), rows)


def one_batch_late(schedule: Schedule, rows: int) -> Iterator[Array]:
    order = one_by_one(schedule, rows)
    first = next(order)
    return itertools.chain((first, first), order)


def one_epoch_ahead(schedule: Schedule, rows: int) -> Iterator[Array]:
    epochs = schedule.epochs(rows)
    next(epochs)
    return itertools.chain.from_iterable(epochs)


def loss_after_update(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    """``train`` takes each batch's loss once more after its update, and reports that."""
    trainer, data = build(case, dtype, device), case.data()

    def segment_of(segment: Batches, inputs: Sequence[Array]) -> Trained:
        losses = []
        for rows in segment:
            trained = trainer.train([(rows,)])
            losses.append(trainer.gradients(data.x[rows], data.y[rows])[0])
        predictions = predicted(trainer, inputs)
        return trained._replace(losses=np.array([losses], trained.losses.dtype), predictions=predictions)

    return replace(verbs(trainer), train=by_segment(segment_of))


def too_early(trainer: Trainer) -> Trainer:
    """A trainer that is asked for its figures before each segment that it trains, not after."""

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        before = predicted(trainer, inputs)
        trained = trainer.train(segments, inputs)
        early = zip(before, trained.predictions, strict=True)
        return trained._replace(predictions=tuple(np.concatenate([first, later[:-1]]) for first, later in early))

    return replace(verbs(trainer), train=train)


def stale_figures(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    """Where a published figure is one of the metrics, after an epoch."""
    early = any(
        (callable(published.of) or published.of.startswith("metrics/")) and max(published.values) > 0
        for published in case.publication.figures
    )
    return too_early(build(case, dtype, device)) if early and case.metrics else None


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        "shuffle-with-another-generator",
        "batch",
        "The rows are shuffled by NumPy's newer generator instead of RandomState, under the same seed.",
        "qiskit-community/qiskit-aqua#921; biocore/calour#211",
        in_order(another_generator),
    ),
    Mistake(
        "shuffle-with-another-seed",
        "batch",
        "The generator of the batch order is seeded with the next number.",
        "PyTorch documentation, Reproducibility; hirofumi0810/neural_sp#314",
        in_order(another_seed),
    ),
    Mistake(
        "not-shuffled",
        "batch",
        "The rows come in the order of the data instead of a random one.",
        "kmonachopoulos/ImageNet-to-TFrecord#4; keras-team/keras-io#1872",
        in_order(not_shuffled),
    ),
    Mistake(
        "not-reshuffled",
        "batch",
        "Every epoch repeats the batches of the first instead of being shuffled anew.",
        "pytorch/pytorch#31771: DistributedSampler without set_epoch",
        in_order(not_reshuffled),
    ),
    Mistake(
        "generator-not-made-anew",
        "batch",
        "The generator goes on from epoch to epoch instead of being made anew, with its seed, at each.",
        "pytorch/pytorch#11324; kyutai-labs/pocket-tts#287: when an order repeats and when it goes on",
        in_order(not_reseeded),
    ),
    Mistake(
        "shuffled-in-place",
        "batch",
        "Each epoch shuffles the order that the epoch before has left instead of the order of the data.",
        "NumPy documentation, RandomState.shuffle works in place",
        in_order(shuffled_again),
    ),
    Mistake(
        "drawn-with-replacement",
        "batch",
        "The rows of a batch are drawn with replacement instead of without.",
        "PyTorch documentation, RandomSampler(replacement)",
        in_order(with_replacement),
    ),
    Mistake(
        "last-batch-dropped",
        "batch",
        "The short last batch of an epoch is dropped, so that every later batch comes a step early.",
        "TimDettmers/ConvE#2; NVIDIA/DeepLearningExamples#177",
        in_order(partial(other_last_batch, keep=False)),
    ),
    Mistake(
        "last-batch-kept",
        "batch",
        "The short last batch of an epoch is kept, so that every later batch comes a step late.",
        "keras-team/keras#8310; thinking-machines-lab/tinker-cookbook#392",
        in_order(partial(other_last_batch, keep=True)),
    ),
    Mistake(
        "one-batch-late",
        "batch",
        "The first batch is used twice, and every other batch one step late.",
        "TensorFlow guide, Better performance with the tf.data API: prefetching",
        in_order(one_batch_late),
    ),
    Mistake(
        "epoch-off-by-one",
        "batch",
        "Every epoch has the batches of the next, as if one had been drawn and thrown away first.",
        "agentscope-ai/Trinity-RFT#593; huggingface/accelerate#4203: an order one epoch ahead or behind",
        in_order(one_epoch_ahead),
    ),
    Mistake(
        "loss-after-the-update",
        "batch",
        "A batch's loss is taken after its update instead of before.",
        "keras-team/keras#12274; tensorflow/tensorflow#29964",
        loss_after_update,
    ),
    Mistake(
        "evaluation-before-the-update",
        "state",
        "An epoch's figures are taken before its updates instead of after.",
        "keras-team/keras#503; keras-team/keras#12274",
        stale_figures,
        figures_only=True,
    ),
)
