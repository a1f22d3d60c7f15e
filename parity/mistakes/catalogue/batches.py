"""Mistakes in the order of the batches, and in when a figure is taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from parity.mistakes.mistake import Mistake, of_schedule
from parity.mistakes.planting import in_order, one_by_one
from parity.recording.steps import Phase
from parity.schedules import altered
from parity.spec import Case, InOrder, RandomRow, RandomRows, Schedule, Shuffled, ShuffledByLoader
from parity.trainer import Build, Trained, Trainer, by_segment, predicted, verbs
from parity.typing import Array, Batches


def another_generator(schedule: Schedule, rows: int) -> Iterator[Array]:
    if isinstance(schedule, Shuffled):
        return shuffled(schedule, rows, np.random.default_rng)
    assert isinstance(schedule, RandomRow | RandomRows)
    generator = np.random.default_rng(schedule.seed)
    if isinstance(schedule, RandomRow):
        return (generator.integers(rows, size=1) for _ in itertools.count())
    size = schedule.batch_size
    return (generator.permutation(rows)[:size] for _ in itertools.count())


def shuffled(schedule: Shuffled, rows: int, make: Callable[[int], Any], anew: bool = True) -> Iterator[Array]:
    """Shuffle with another generator; ``anew=False`` shuffles the order that the epoch before has left."""
    end = rows if schedule.keep_last else rows - rows % schedule.batch_size
    generator, order = make(schedule.seed), np.arange(rows)
    while True:
        generator = make(schedule.seed) if schedule.reseed else generator
        order = np.arange(rows) if anew else order.copy()
        generator.shuffle(order)
        for start in range(0, end, schedule.batch_size):
            yield order[start : min(start + schedule.batch_size, end)]


def shuffled_again(schedule: Shuffled, rows: int) -> Iterator[Array]:
    return shuffled(schedule, rows, np.random.RandomState, anew=False)


def has_a_seed(case: Case) -> bool:
    return hasattr(case.schedule, "seed")


def another_seed(schedule: Any, rows: int) -> Iterator[Array]:
    return one_by_one(altered(schedule, seed=schedule.seed + 1), rows)


def not_reshuffled(schedule: Schedule, rows: int) -> Iterator[Array]:
    return itertools.cycle(next(schedule.epochs(rows)))


def not_reseeded(schedule: Shuffled, rows: int) -> Iterator[Array]:
    return one_by_one(replace(schedule, reseed=False), rows)


def not_shuffled(schedule: Shuffled | ShuffledByLoader | RandomRow | RandomRows, rows: int) -> Iterator[Array]:
    size = 1 if isinstance(schedule, RandomRow) else schedule.batch_size
    whole = isinstance(schedule, Shuffled | ShuffledByLoader) and schedule.keep_last
    return _in_turn(rows, size, rows if whole else rows - rows % size)


def _in_turn(rows: int, size: int, end: int) -> Iterator[Array]:
    order = np.arange(rows)
    return itertools.cycle([order[start : min(start + size, end)] for start in range(0, end, size)])


def with_replacement(schedule: Shuffled | ShuffledByLoader | RandomRows, rows: int) -> Iterator[Array]:
    generator = np.random.RandomState(schedule.seed)
    return (generator.randint(rows, size=schedule.batch_size, dtype=np.int64) for _ in itertools.count())


def has_last_batch(case: Case, kept: bool) -> bool:
    """Tell whether the order keeps a short last batch, or drops it, and has other batches besides."""
    schedule = case.schedule
    if not isinstance(schedule, InOrder | Shuffled | ShuffledByLoader):
        return False
    return schedule.keep_last == kept and len(case.data().x) >= schedule.batch_size


def other_last_batch(schedule: InOrder | Shuffled | ShuffledByLoader, rows: int) -> Iterator[Array]:
    return one_by_one(replace(schedule, keep_last=not schedule.keep_last), rows)


def one_batch_late(schedule: Schedule, rows: int) -> Iterator[Array]:
    order = one_by_one(schedule, rows)
    first = next(order)
    return itertools.chain((first, first), order)


def one_epoch_ahead(schedule: Schedule, rows: int) -> Iterator[Array]:
    epochs = schedule.epochs(rows)
    next(epochs)
    return itertools.chain.from_iterable(epochs)


def loss_after_update(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    """Report each batch's loss after its update."""
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
    """Ask a trainer for its figures before each segment that it trains, not after."""

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        before = predicted(trainer, inputs)
        trained = trainer.train(segments, inputs)
        early = zip(before, trained.predictions, strict=True)
        return trained._replace(predictions=tuple(np.concatenate([first, later[:-1]]) for first, later in early))

    return replace(verbs(trainer), train=train)


def has_early_figures(case: Case) -> bool:
    """Tell whether a figure of a metric is published, of an epoch after the first update."""
    figures = case.publication.figures
    early = ((callable(f.of) or f.of.startswith("metrics/")) and max(f.values) > 0 for f in figures)
    return any(early) and bool(case.metrics)


def stale_figures(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    return too_early(build(case, dtype, device))


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="shuffle-with-another-generator",
        phase=Phase.BATCH,
        sentence="The rows are shuffled by NumPy's newer generator instead of RandomState, under the same seed.",
        reference="qiskit-community/qiskit-aqua#921; biocore/calour#211",
        applies=of_schedule(Shuffled, RandomRow, RandomRows),
        how=in_order(another_generator),
    ),
    Mistake(
        name="shuffle-with-another-seed",
        phase=Phase.BATCH,
        sentence="The generator of the batch order is seeded with the next number.",
        reference="PyTorch documentation, Reproducibility; hirofumi0810/neural_sp#314",
        applies=has_a_seed,
        how=in_order(another_seed),
    ),
    Mistake(
        name="not-shuffled",
        phase=Phase.BATCH,
        sentence="The rows come in the order of the data instead of a random one.",
        reference="kmonachopoulos/ImageNet-to-TFrecord#4; keras-team/keras-io#1872",
        applies=of_schedule(Shuffled, ShuffledByLoader, RandomRow, RandomRows),
        how=in_order(not_shuffled),
    ),
    Mistake(
        name="not-reshuffled",
        phase=Phase.BATCH,
        sentence="Every epoch repeats the batches of the first instead of being shuffled anew.",
        reference="pytorch/pytorch#31771: DistributedSampler without set_epoch",
        how=in_order(not_reshuffled),
    ),
    Mistake(
        name="generator-not-made-anew",
        phase=Phase.BATCH,
        sentence="The generator goes on from epoch to epoch instead of being made anew, with its seed, at each.",
        reference="pytorch/pytorch#11324; kyutai-labs/pocket-tts#287: when an order repeats and when it goes on",
        applies=of_schedule(Shuffled),
        how=in_order(not_reseeded),
    ),
    Mistake(
        name="shuffled-in-place",
        phase=Phase.BATCH,
        sentence="Each epoch shuffles the order that the epoch before has left instead of the order of the data.",
        reference="NumPy documentation, RandomState.shuffle works in place",
        applies=of_schedule(Shuffled),
        how=in_order(shuffled_again),
    ),
    Mistake(
        name="drawn-with-replacement",
        phase=Phase.BATCH,
        sentence="The rows of a batch are drawn with replacement instead of without.",
        reference="PyTorch documentation, RandomSampler(replacement)",
        applies=of_schedule(Shuffled, ShuffledByLoader, RandomRows),
        how=in_order(with_replacement),
    ),
    Mistake(
        name="last-batch-dropped",
        phase=Phase.BATCH,
        sentence="The short last batch of an epoch is dropped, so that every later batch comes a step early.",
        reference="TimDettmers/ConvE#2; NVIDIA/DeepLearningExamples#177",
        applies=partial(has_last_batch, kept=True),
        how=in_order(other_last_batch),
    ),
    Mistake(
        name="last-batch-kept",
        phase=Phase.BATCH,
        sentence="The short last batch of an epoch is kept, so that every later batch comes a step late.",
        reference="keras-team/keras#8310; thinking-machines-lab/tinker-cookbook#392",
        applies=partial(has_last_batch, kept=False),
        how=in_order(other_last_batch),
    ),
    Mistake(
        name="one-batch-late",
        phase=Phase.BATCH,
        sentence="The first batch is used twice, and every other batch one step late.",
        reference="TensorFlow guide, Better performance with the tf.data API: prefetching",
        how=in_order(one_batch_late),
    ),
    Mistake(
        name="epoch-off-by-one",
        phase=Phase.BATCH,
        sentence="Every epoch has the batches of the next, as if one had been drawn and thrown away first.",
        reference="agentscope-ai/Trinity-RFT#593; huggingface/accelerate#4203: an order one epoch ahead or behind",
        how=in_order(one_epoch_ahead),
    ),
    Mistake(
        name="loss-after-the-update",
        phase=Phase.BATCH,
        sentence="A batch's loss is taken after its update instead of before.",
        reference="keras-team/keras#12274; tensorflow/tensorflow#29964",
        how=loss_after_update,
    ),
    Mistake(
        name="evaluation-before-the-update",
        phase=Phase.STATE,
        sentence="An epoch's figures are taken before its updates instead of after.",
        reference="keras-team/keras#503; keras-team/keras#12274",
        applies=has_early_figures,
        how=stale_figures,
        figures_only=True,
    ),
)
