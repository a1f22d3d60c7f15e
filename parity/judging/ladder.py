"""The ladder: seven rungs that every implementation climbs, each for one place where a port can go wrong.

contract → prediction → gradients → update → training → figures → resume. A rung compares with the float64 reference
from shared states, so a mistake shows on the rung of its own phase: a wrong loss on ``gradients``, a wrong optimizer on
``update``, batches in another order on ``training``. Predictions are compared on a batch's rows and on every row that
is held out. Tolerances follow ``parity.tolerance`` and are measured for each comparison: the reference is evaluated
again at the same state with its rounding errors stirred.

``figures`` holds the run of ``training`` against what the case's source printed, and not against the reference: it is
the rung where a mistake falls that the reference shares. A case that has no figures of a dtype has no such rung there.
"""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from parity.dtypes import carrier, rounded
from parity.judging.floors.floor import Floor
from parity.judging.floors.noise import in_lockstep
from parity.judging.policy import asserts_parameters
from parity.judging.published import figures as printed_figures
from parity.judging.published import missed
from parity.judging.verdict import Verdict, judge_run
from parity.judging.witness import HELD_OUT, Check, Expected, Witness, held, take_apart
from parity.recording.format import NAMES, TENSOR_NAME
from parity.recording.steps import Phase, step_of
from parity.spec import Case
from parity.tolerance import FACTOR
from parity.trainer import Build, State, Trainer, joined, record
from parity.trajectory import Trajectory, gather
from parity.typing import Array, Batches, Params

RUNGS = ("contract", "prediction", "gradients", "update", "training", "figures", "resume")
STATES = 3
"""Predictions, gradients and single updates are compared at this many states: of the first, middle and last epoch."""


def rungs_of(case: Case, dtype: str) -> tuple[str, ...]:
    """Give the rungs that a case has in a dtype: without ``figures`` where its source printed none.

    >>> from parity.tests import toy
    >>> rungs_of(toy.MOMENTUM, "float32")
    ('contract', 'prediction', 'gradients', 'update', 'training', 'resume')
    """
    prints = any(dtype in published.dtypes for published in case.publication.figures)
    return tuple(rung for rung in RUNGS if rung != "figures" or prints)


class FallError(AssertionError):
    """An implementation falls from a rung. The message says where, by how much, and what would have passed."""


@dataclass(frozen=True)
class Rung:
    """How one rung went: its verdict, the largest share of the tolerance used, and what went wrong, if anything."""

    rung: str
    verdict: Verdict
    ratio: float | None
    message: str


@dataclass(kw_only=True)
class Climb:
    """What the rungs of one cell share: the case, both builds and the states at which they are compared."""

    build: Build
    reference: Build
    case: Case
    dtype: str
    device: str
    floor: Floor
    lockstep_floor: Floor | None = None

    def __post_init__(self) -> None:
        self.data = self.case.data()
        self._trainer: Trainer | None = None
        self.witness = Witness(self.reference, self.case, self.dtype)
        trainer = self.reference(self.case, "float64", "cpu")
        order = self.case.schedule.epochs(len(self.data.x))
        self.first_epoch: Batches = next(order)
        marks = sorted({0, self.case.epochs // 2, self.case.epochs - 1})[:STATES]
        self.meetings: list[tuple[int, State, Array]] = []
        done = 0
        batches = self.first_epoch
        for mark in marks:
            while done < mark:
                trainer.train([batches])
                batches = next(order)
                done += 1
            self.meetings.append((mark, trainer.export(), batches[0]))

    @cached_property
    def run(self) -> Trajectory:
        """The implementation's free run, whole."""
        return gather(record(self.begin(), self.case, self.case.epochs))

    def new(self) -> Trainer:
        """Build a trainer of the implementation."""
        self._trainer = self.build(self.case, self.dtype, self.device)
        return self._trainer

    def begin(self) -> Trainer:
        """Put the trainer that was built last at the beginning of the run: to build another may mean to compile."""
        trainer = self._trainer or self.new()
        trainer.load(self.meetings[0][1])
        return trainer


def climb(
    build: Build,
    reference: Build,
    case: Case,
    dtype: str,
    device: str,
    floor: Floor,
    lockstep_floor: Floor | None = None,
    rungs: tuple[str, ...] | None = None,
) -> list[Rung]:
    """Climb the rungs in order, all that the case has unless some are named.

    A rung that is not held is reported, and the next is tried all the same.
    """
    shared = Climb(
        build=build,
        reference=reference,
        case=case,
        dtype=dtype,
        device=device,
        floor=floor,
        lockstep_floor=lockstep_floor,
    )
    steps = []
    for rung in rungs_of(case, dtype) if rungs is None else rungs:
        try:
            ratio = HOLDS[rung](shared)
            steps.append(Rung(rung, Verdict.PASS, ratio, ""))
        except FallError as fall:
            steps.append(Rung(rung, Verdict.FAIL, None, f"{case.name} {dtype}, {rung}: {fall}"))
        except Exception as error:
            # What an implementation raises costs it this rung; what the others say is worth having.
            message = f"{case.name} {dtype}, {rung}: {type(error).__name__}: {error}\n{traceback.format_exc()}"
            steps.append(Rung(rung, Verdict.INCONCLUSIVE, None, message))
    return steps


def contract(shared: Climb) -> float:
    """Shapes, dtypes and names are the case's; what comes out is a copy; looking changes nothing."""
    case, dtype = shared.case, carrier(shared.dtype)
    trainer = shared.new()
    initial = case.initial()
    for name in (*initial, *(metric.name for metric in case.metrics)):
        _expect(bool(TENSOR_NAME.fullmatch(f"params/{name}")), f"{name!r} cannot be recorded: {NAMES}")
    state = trainer.export()
    _same_names("export", state.params, initial)
    for name, value in state.params.items():
        _expect(value.dtype == dtype, f"parameter {name} has dtype {value.dtype}, the run {dtype}")
        _expect(
            value.shape == initial[name].shape, f"parameter {name} is {value.shape}, the case {initial[name].shape}"
        )
        _expect(
            np.array_equal(value, rounded(initial[name], shared.dtype)),
            f"parameter {name} does not start from the case's initial values",
        )
    _expect(state.step == 0, f"a new trainer says that it has done {state.step} updates")
    wanted = shared.meetings[0][1].slots_at(1.0)
    _same_names("optimizer slots", state.slots, wanted)
    for name, value in state.slots.items():
        _expect(value.dtype == dtype, f"slot {name} has dtype {value.dtype}, the run {dtype}")
        _expect(value.shape == wanted[name].shape, f"slot {name} is {value.shape}, the reference {wanted[name].shape}")
    for value in (*state.params.values(), *state.slots.values()):
        value[...] = 7  # A view into the trainer would let this through.
    _expect_state(trainer.export(), initial, shared.dtype, "writing into an exported array changed the trainer")

    rows = shared.first_epoch[0]
    x, y = shared.data.x[rows], shared.data.y[rows]
    kept = x.copy(), y.copy()
    prediction = trainer.predict(x)
    _expect(isinstance(prediction, np.ndarray), f"predict returned {type(prediction).__name__}, not a NumPy array")
    _expect(prediction.dtype == dtype, f"predictions have dtype {prediction.dtype}, the run {dtype}")
    wide = shared.witness.prediction(shared.meetings[0][1], rows).values["prediction"]
    _expect(prediction.shape == wide.shape, f"predictions are {prediction.shape}, the reference's {wide.shape}")
    loss, gradients = trainer.gradients(x, y)
    _expect(np.ndim(loss) == 0, f"the loss is not one number but {np.shape(loss)}")
    _same_names("gradients", gradients, case.trained(initial))
    for name, value in gradients.items():
        _expect(value.dtype == dtype, f"the gradient of {name} has dtype {value.dtype}, the run {dtype}")
        _expect(value.shape == initial[name].shape, f"the gradient of {name} is {value.shape}")
    _expect(
        np.array_equal(x, kept[0], equal_nan=True) and np.array_equal(y, kept[1], equal_nan=True),
        "predict or gradients wrote into its input",
    )
    _expect_state(trainer.export(), initial, shared.dtype, "predict or gradients changed the parameters")

    losses, params, predictions = trainer.train([shared.first_epoch, shared.first_epoch], [x, x[:1]])
    _expect(losses.shape == (2, len(shared.first_epoch)), f"train returned losses {losses.shape}")
    _expect(losses.dtype == dtype, f"losses have dtype {losses.dtype}, the run {dtype}")
    _same_names("train", params, initial)
    for name, value in params.items():
        _expect(value.shape == (2, *initial[name].shape), f"snapshots of {name} are {value.shape}")
        _expect(value.dtype == dtype, f"snapshots of {name} have dtype {value.dtype}, the run {dtype}")
    after = trainer.export()
    _expect(
        after.step == 2 * len(shared.first_epoch),
        f"the trainer counts {after.step} updates after {2 * len(shared.first_epoch)}",
    )
    for name, value in params.items():
        _expect(np.array_equal(value[-1], after.params[name]), f"the last snapshot of {name} is not what export gives")
    _expect(len(predictions) == 2, f"train predicted {len(predictions)} inputs, not the 2 that it was given")
    for given, asked in zip(predictions, (prediction, prediction[:1]), strict=True):
        _expect(given.shape == (2, *asked.shape), f"the predictions of train are {given.shape}, of {asked.shape} twice")
        _expect(given.dtype == dtype, f"the predictions of train have dtype {given.dtype}, the run {dtype}")
    expected = replace(shared.witness.prediction(after, rows), values={"prediction": trainer.predict(x)})
    # A compiler may round what it makes part of a loop otherwise, so within the tolerance.
    for check in held({"prediction": predictions[0][-1]}, expected):
        _expect(check.agrees, f"train's last prediction is not what predict says, {check.floors:.3g} noise floors away")
    return 0.0


def prediction(shared: Climb) -> float:
    """The same prediction from the same state, of a batch's rows and of every row that is held out."""
    trainer = shared.begin()
    shares = []
    for epoch, state, rows in shared.meetings:
        trainer.load(state)
        got = {"prediction": trainer.predict(shared.data.x[rows])}
        shares.append(_hold(got, shared.witness.prediction(state, rows), epoch))
        if shared.data.x_test is not None:
            got = {HELD_OUT: trainer.predict(shared.data.x_test)}
            shares.append(_hold(got, shared.witness.held_out_prediction(state), epoch))
    return max(shares)


def gradients(shared: Climb) -> float:
    """Hold loss and gradients, from the same state and batch, against the reference's."""
    return _hold_steps(shared, Phase.LOSS, Phase.GRADIENT)


def update(shared: Climb) -> float:
    """Hold one update from the same state against the reference's: its loss, then parameters and optimizer slots."""
    return _hold_steps(shared, Phase.BATCH, Phase.UPDATE)


def training(shared: Climb) -> float:
    """Every batch's loss and every snapshot, with its metrics, of a free run; where the case says so, in lockstep."""
    case = shared.case
    lockstep = not asserts_parameters(case, shared.dtype)
    reference = gather(record(shared.reference(case, "float64", "cpu"), case, case.epochs))
    if lockstep and shared.lockstep_floor is None:
        raise FallError("no noise floor was measured for the lockstep run")

    def stretches() -> tuple[int, Trajectory, Floor]:
        assert shared.lockstep_floor is not None
        held = in_lockstep(shared.begin(), shared.reference(case, "float64", "cpu"), case, case.stretch)
        return case.stretch, gather(record(held.trainer, case, case.epochs)), shared.lockstep_floor

    found = judge_run(
        shared.run, reference, shared.floor, params=not lockstep, stretches=stretches if lockstep else None
    )
    if found.verdict is not Verdict.PASS:
        smallest = f"; {found.ratio:.3g} times the tolerance would have passed" if (found.ratio or 0) > 1 else ""
        raise FallError(found.reason + smallest)
    return found.ratio or 0.0


def figures(shared: Climb) -> float:
    """The free run has every figure that the case's source printed."""
    off = missed(printed_figures(shared.case, shared.run, shared.dtype, shared.floor))
    if off:
        raise FallError("; ".join(sentence for _, sentence in off))
    return 0.0


def resume(shared: Climb) -> float:
    """A run that is stopped, exported, loaded into a new trainer and continued equals the run that was not."""
    case = shared.case
    order = case.schedule.epochs(len(shared.data.x))
    segments = list(itertools.islice(order, min(case.epochs, 8)))
    # What a run is asked as well: one that is asked something else may have to be compiled once more.
    asked = [shared.data.split(split)[0] for split in case.splits]
    whole = shared.begin()
    losses, params, predictions = whole.train(segments, asked)
    half = len(segments) // 2
    finished = whole.export()
    first = shared.begin()
    begun = first.train(segments[:half], asked) if half else None
    second = shared.new()  # Nothing was trained in it: all that it needs must come with the state.
    second.load(first.export())
    ended = second.train(segments[half:], asked)
    resumed = joined([begun, ended]) if begun else ended
    _expect(np.array_equal(losses, resumed.losses), "resuming changed the losses")
    for before, after in zip(predictions, resumed.predictions, strict=True):
        _expect(np.array_equal(before, after), "resuming changed the predictions")
    for name, value in params.items():
        _expect(np.array_equal(value, resumed.params[name]), f"resuming changed {name}")
    left, right = finished, second.export()
    _expect(left.step == right.step, f"the step count is {right.step} after resuming, not {left.step}")
    for name, value in left.slots.items():
        _expect(np.array_equal(value, right.slots[name]), f"resuming changed slot {name}")
    return 0.0


HOLDS: dict[str, Callable[[Climb], float]] = {
    "contract": contract,
    "prediction": prediction,
    "gradients": gradients,
    "update": update,
    "training": training,
    "figures": figures,
    "resume": resume,
}


def _hold_steps(shared: Climb, *phases: Phase) -> float:
    """Hold these phases of a step, at each shared state, and return the largest share of the tolerance used."""
    trainer, data = shared.begin(), shared.data
    shares = []
    for epoch, state, rows in shared.meetings:
        step = step_of(trainer, state, data.x[rows], data.y[rows], rows, phases)
        expected = shared.witness.step(state, rows, phases)
        try:
            checks = take_apart(step, expected)
        except ValueError as error:
            raise FallError(str(error)) from error
        shares += [_largest_share(checks[phase], expected[phase], epoch) for phase in phases]
    return max(shares)


def _hold(got: Params, expected: Expected, epoch: int) -> float:
    """Hold tensors against what is expected, and return the largest share of the tolerance used."""
    try:
        checks = held(got, expected)
    except ValueError as error:
        raise FallError(str(error)) from error
    return _largest_share(checks, expected, epoch)


def _largest_share(checks: Sequence[Check], expected: Expected, epoch: int) -> float:
    """Return the largest share of the tolerance that any tensor uses; FallError names a tensor that exceeds it."""
    for check in checks:
        if not check.agrees and check.worst is not None:
            worst, allowed = check.worst, FACTOR * expected.floors[check.tensor]
            raise FallError(
                f"from the reference's state after epoch {epoch}, {check.tensor}{list(worst.index)} is {worst.a:.9g}, "
                f"the reference has {worst.b:.9g}; the largest difference {worst.absolute:.3g} exceeds {allowed:.3g} "
                f"and a tolerance of {worst.absolute:.3g} would have passed"
            )
    return max(check.share for check in checks)


def _same_names(what: str, got: Params, wanted: Params) -> None:
    missing, extra = sorted(set(wanted) - set(got)), sorted(set(got) - set(wanted))
    _expect(not missing, f"{what} lacks {', '.join(missing)}")
    _expect(not extra, f"{what} has {', '.join(extra)}, which the case does not know")


def _expect_state(state: State, initial: Params, dtype: str, message: str) -> None:
    _expect(all(np.array_equal(state.params[n], rounded(v, dtype)) for n, v in initial.items()), message)


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise FallError(message)
