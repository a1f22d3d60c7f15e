"""Stir the rounding errors of runs, and measure the noise floor with them. See ``parity.tolerance``."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from parity.dtypes import DTYPES, NARROW
from parity.judging.floors.floor import Floor, floor_of, strays
from parity.spec import Case, Dataset, Loss, Metric
from parity.tolerance import FACTOR, RUNS, stir
from parity.trainer import Build, State, Trained, Trainer, by_segment, continued, predicted, record, verbs
from parity.trajectory import Trajectory, gather
from parity.typing import Array, Batches, Params


def stirring(trainer: Trainer, generator: np.random.Generator, ordered: bool, dtype: str) -> Trainer:
    """Stir every rounding error of a trainer, as ``parity.tolerance`` says.

    Args:
        trainer: The trainer, whose verbs are replaced.
        generator: The source of the random directions.
        ordered: Whether the order of a batch's rows means something, so that the rows keep it.
        dtype: The dtype whose last place is stirred.

    Returns:
        A trainer that stirs after every update.
    """

    def moved(params: Params) -> Params:
        return {name: stir(value, generator, dtype) for name, value in params.items()}

    def segment_of(segment: Batches, inputs: Sequence[Array]) -> Trained:
        pieces = []
        for rows in segment:
            pieces.append(trainer.train([(rows if ordered else generator.permutation(rows),)]))
            state = trainer.export()
            trainer.load(State(moved(state.params), moved(state.slots), state.step, state.slot_scale))
        params = {name: value[None] for name, value in trainer.export().params.items()}
        return continued(pieces)._replace(params=params, predictions=predicted(trainer, inputs))

    return replace(verbs(trainer), train=by_segment(segment_of))


class Lockstep(NamedTuple):
    """A trainer in lockstep with a reference, and the means to stop and resume such a run."""

    trainer: Trainer
    checkpoint: Callable[[], State | None]
    """Returns the state that the run can go on from: the reference's at the end of a stretch, else None."""
    resume: Callable[[State], None]
    """Goes on from a state that ``checkpoint`` returned."""


def in_lockstep(trainer: Trainer, reference: Trainer, case: Case, length: int) -> Lockstep:
    """Start every stretch of ``length`` epochs from the exact state of a reference that trains beside the trainer."""
    stretch = length * len(next(case.schedule.epochs(len(case.data().x))))
    done = 0

    def segment_of(segment: Batches, inputs: Sequence[Array]) -> Trained:
        nonlocal done
        pieces = []
        cuts = range(stretch - done % stretch, len(segment), stretch)
        for start, end in pairwise((0, *cuts, len(segment))):
            if done and done % stretch == 0:
                trainer.load(reference.export())
            pieces.append(trainer.train([segment[start:end]], inputs if end == len(segment) else ()))
            reference.train([segment[start:end]])
            done += end - start
        return continued(pieces)

    def checkpoint() -> State | None:
        return None if done % stretch else reference.export()

    def resume(state: State) -> None:
        nonlocal done
        reference.load(state)
        done = state.step

    return Lockstep(replace(verbs(trainer), train=by_segment(segment_of)), checkpoint, resume)


def stirred(build: Build, case: Case, dtype: str, seed: int) -> tuple[Trainer, Case]:
    """The reference in ``dtype`` with its rounding errors stirred by ``default_rng(seed)``, and its stirred case."""
    generator = np.random.default_rng(seed)
    # Stirring the inputs means moving what the run in this dtype sees, after its cast.
    data = case.data()
    x = stir(data.x, generator, dtype)
    # Of another generator: what the rows to train on see does not depend on whether rows are held out.
    held_out = None if data.x_test is None else stir(data.x_test, np.random.default_rng((seed, 1)), dtype)
    stirred_data = Dataset(x, data.y, held_out, data.y_test)
    initial = {name: stir(value, generator, dtype) for name, value in case.initial().items()}
    stirred_case = replace(case, data=lambda: stirred_data, initial=lambda: initial)
    return stirring(build(stirred_case, dtype, "cpu"), generator, case.schedule.ordered, dtype), stirred_case


def in_float64(trainer: Trainer) -> Trainer:
    """Round the results of a longdouble trainer to float64, so that they can be stored."""

    def rounded(params: Params) -> Params:
        return {name: value.astype(np.float64) for name, value in params.items()}

    def export() -> State:
        state = trainer.export()
        return State(rounded(state.params), rounded(state.slots), state.step, state.slot_scale)

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        losses, params, predictions = trainer.train(segments, inputs)
        wide = tuple(prediction.astype(np.float64) for prediction in predictions)
        return Trained(losses.astype(np.float64), rounded(params), wide)

    return replace(verbs(trainer), predict=lambda x: trainer.predict(x).astype(np.float64), train=train, export=export)


def checked(build: Build, case: Case, longdouble: bool) -> tuple[Trainer, Case]:
    """Build the run that the float64 reference itself is held against, and its case.

    That is the same in longdouble, if the reference can run in it and the machine's longdouble is wider than float64;
    else a stirred run which the noise floor was not made from.
    """
    if longdouble and np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        return in_float64(build(case, "longdouble", "cpu")), case
    return stirred(build, case, "float64", seed=RUNS)


def measure(
    build: Build,
    case: Case,
    epochs: int,
    lockstep: int | None = None,
    on_run: Callable[[], None] = lambda: None,
    dtypes: Sequence[str] = DTYPES,
) -> dict[str, Floor]:
    """Measure the noise floor of ``case`` in each dtype on the reference that ``build`` makes.

    ``lockstep`` measures runs that start every so many epochs from the reference's state. ``on_run`` is called
    after each of the ``runs_of(dtypes)`` runs.
    """
    reference = _with_predictions(build(case, "float64", "cpu"), case, case.splits, epochs)
    floors: dict[str, Floor] = {}
    wide: list[Params] = []
    for dtype in dtypes:
        strayed: list[Params] = []
        for seed in range(runs_of((dtype,))):
            trainer, run_case = stirred(build, case, dtype, seed) if seed < RUNS else (build(case, dtype, "cpu"), case)
            if lockstep is not None:
                trainer = in_lockstep(trainer, build(case, "float64", "cpu"), case, lockstep).trainer
            with np.errstate(all="ignore"):  # what overflows makes the floor infinite, and that is said
                run = _with_predictions(trainer, run_case, case.splits, epochs)
            strayed.append(strays(run, reference))
            on_run()
        if dtype == "float32":
            wide = [{name: 2.0**-29 * values for name, values in stray.items()} for stray in strayed]
        floors[dtype] = floor_of([*strayed, *wide] if dtype == "float64" else strayed, reference, dtype)
    return {dtype: _of_metrics(floor, case, reference) for dtype, floor in floors.items()}


def measure_stretches(
    build: Build,
    case: Case,
    length: int,
    starts: Collection[int],
    on_run: Callable[[], None] = lambda: None,
    dtypes: Sequence[str] = DTYPES,
) -> Iterator[tuple[int, dict[str, Floor]]]:
    """Measure the noise floors of single stretches of a run in lockstep, each at the state in which it begins.

    Args:
        build: Makes the reference, which is trained once from the start of the case to the end of the last stretch.
        case: The case.
        length: The epochs of a stretch.
        starts: After how many epochs each of the stretches begins.
        on_run: Called after each of the ``runs_of(dtypes)`` runs of each stretch.
        dtypes: The dtypes whose floors are measured.

    Yields:
        Each stretch's start, and its floor in each dtype: the loss (length, batches), each parameter (length,).
    """
    reference, done = build(case, "float64", "cpu"), 0
    order = case.schedule.epochs(len(case.data().x))
    for start in sorted(starts):
        for batches in itertools.islice(order, start - done):
            reference.train([batches])
        state, stretch = reference.export(), list(itertools.islice(order, length))
        right, done = _trained(reference, stretch), start + length
        floors: dict[str, Floor] = {}
        wide: list[Params] = []
        for dtype in dtypes:
            strayed: list[Params] = []
            for seed in range(runs_of((dtype,))):
                trainer = stirred(build, case, dtype, seed)[0] if seed < RUNS else build(case, dtype, "cpu")
                trainer.load(state)
                with np.errstate(all="ignore"):  # what overflows makes the floor infinite, and that is said
                    strayed.append(strays(_trained(trainer, stretch), right))
                on_run()
            if dtype == "float32":
                wide = [{name: 2.0**-29 * values for name, values in stray.items()} for stray in strayed]
            floors[dtype] = floor_of([*strayed, *wide] if dtype == "float64" else strayed, right, dtype)
        yield start, floors


def _trained(trainer: Trainer, stretch: Sequence[Batches]) -> Trajectory:
    """Train a stretch from the state that is loaded, with a snapshot after each of its epochs."""
    pieces = [trainer.train([batches]) for batches in stretch]
    losses = np.concatenate([piece.losses.reshape(1, -1) for piece in pieces])
    params = {name: np.concatenate([piece.params[name] for piece in pieces]) for name in pieces[0].params}
    return Trajectory({}, np.arange(1, len(stretch) + 1), losses, params, {})


PREDICTIONS = "predictions of "
"""Before the name of a split, whose predictions stand among a run's parameters while floors are measured."""


def _with_predictions(trainer: Trainer, case: Case, splits: Sequence[str], epochs: int) -> Trajectory:
    """A run in memory that holds, among its parameters, what it predicts of each split at every snapshot."""
    kept: dict[str, list[Array]] = {split: [] for split in splits}

    def keep(split: str) -> Metric:
        def score(predictions: Array, y: Array) -> Array:
            kept[split].append(predictions)
            return np.zeros(len(predictions))

        return Metric(split, split, score)  # type: ignore[arg-type]

    run = gather(record(trainer, replace(case, metrics=tuple(map(keep, splits))), epochs))
    predictions = {f"{PREDICTIONS}{split}": np.concatenate(pieces) for split, pieces in kept.items()}
    return replace(run, params={**run.params, **predictions}, metrics={})


def _of_metrics(floor: Floor, case: Case, reference: Trajectory) -> Floor:
    """A floor whose predictions have become the floors of the metrics that are made of them."""
    params = {name: values for name, values in floor.params.items() if not name.startswith(PREDICTIONS)}
    metrics = {}
    for metric in case.metrics:
        name = f"{PREDICTIONS}{metric.split}"
        y = case.data().split(metric.split)[1]
        predictions, allowed = np.asarray(reference.params[name]), FACTOR * floor.params[name]
        metrics[metric.name] = metric_tolerances(metric, predictions, y, allowed, case.loss) / FACTOR
    return Floor(floor.loss, params, metrics)


def metric_tolerances(metric: Metric, predictions: Array, y: Array, allowed: Array, loss: Loss) -> Array:
    """How far a metric may be from the reference's where every prediction is within its own tolerance.

    A metric that counts is moved by the rows whose decision the tolerance can change, by their share and by no other:
    those that lie nearer to a tie. One that adds up is moved by all rows. Both are found by scoring the reference's
    predictions again with each moved by its whole tolerance: towards the targets, away from them, all up, all down,
    and RUNS times either way at random, for metrics that know no target. Predictions stay what they are: a probability
    between 0 and 1, its logarithm below 0.

    Args:
        metric: What is scored.
        predictions: The reference's, (S, n, ...), at S snapshots.
        y: The targets of the n rows, as ``metric.score`` takes them.
        allowed: The tolerance of the predictions at each snapshot, (S,).
        loss: The case's loss, which says what a prediction is.

    Returns:
        The largest distance of the metric at each snapshot, (S,) float64.

    >>> right = Metric("accuracy", "test", lambda p, y: np.mean((p > 0.5) == y, 1))
    >>> p, y = np.array([[0.1, 0.4999, 0.9, 0.6]]), np.array([0, 0, 1, 1])
    >>> metric_tolerances(right, p, y, np.array([1e-3]), Loss("binary_crossentropy", "mean"))
    array([0.25])
    >>> metric_tolerances(right, p, y, np.array([1e-5]), Loss("binary_crossentropy", "mean"))
    array([0.])
    """
    exact = np.asarray(metric.score(predictions, y), np.float64)
    furthest = np.zeros(len(exact))
    far = allowed.reshape(-1, *(1,) * (predictions.ndim - 1))
    with np.errstate(all="ignore"):
        for signs in _directions(predictions, y):
            moved = predictions + signs * far
            if loss.kind == "binary_crossentropy":
                moved = np.clip(moved, 0, 1)
            elif loss.kind == "nll":
                moved = np.minimum(moved, 0)
            # What is not a number is no distance: it would let everything pass.
            furthest = np.fmax(furthest, np.abs(metric.score(moved, y) - exact))
    return furthest


def _directions(predictions: Array, y: Array) -> Iterator[Array]:
    """Signs that broadcast to ``predictions``, (S, n, ...): which way each of them is moved."""
    if y.dtype.kind in "iu" and y.ndim == predictions.ndim - 2:  # the class of each row
        towards = np.where(np.arange(predictions.shape[-1]) == y[..., None], 1.0, -1.0)[None]
        yield from (towards, -towards)
    elif y.shape == predictions.shape[1:]:
        towards = np.where(y > predictions, 1.0, -1.0)
        yield from (towards, -towards)
    yield from (np.ones(1), -np.ones(1))
    for seed in range(RUNS):
        generator = np.random.default_rng(seed)
        yield generator.integers(0, 2, predictions.shape, np.int8) * 2.0 - 1


def runs_of(dtypes: Sequence[str]) -> int:
    """The number of runs that measuring the floors of these dtypes takes."""
    # An update of less than half a unit in the last place of its parameter is lost, and in a narrow dtype most may
    # be. Stirring would carry some of them over: there the floor must know the run that nothing stirs, too.
    return sum(RUNS + (dtype in NARROW) for dtype in dtypes)
