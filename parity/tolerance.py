"""How far rounding alone carries a run, measured, and the tolerance that follows from it.

The reference is run again with every rounding error stirred: inputs and initial parameters moved by one unit in
the last place, parameters and optimizer slots moved again after every update, the rows of every batch permuted
so that sums add up in another order. How far such runs stray from the undisturbed float64 run, at most, up to
each snapshot, is the noise floor. Any faithful implementation strays about as far; a mistake strays further.

For a quantity q (a parameter tensor, or the loss), with u the unit roundoff of the dtype and S the running
maximum of |reference|:

    stray32(t) = max over RUNS stirred float32 runs, s <= t, of |stirred(s) - reference(s)|
    stray64(t) = max(the same in float64, 2^-29 stray32(t))
    floor(t)   = max(stray(t), 4 u S(t))
    tolerance  = FACTOR · floor

float16 and bfloat16 likewise, each by itself, with the run that nothing stirs as one more of its runs. The NumPy
reference has them as processors do: sums and products in float32, what is kept in two bytes.

The float32 term in stray64 carries over what 16 float64 runs may miss: float64 rounding is float32 rounding
times 2^-29, and a path that float32 shows to be sensitive is no less so in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from parity.compare import distance, scale
from parity.dtypes import DTYPES, NARROW, rounded, spacing, unit
from parity.spec import Array, Batches, Case, Dataset, Params
from parity.trainer import State, Trained, Trainer, continued, joined, predicted, record
from parity.trajectory import Trajectory, TrajectoryError, gather

RUNS = 16
FACTOR = 16
"""Faithful implementations used at most 9.65 floors in float32 and 7.0 in float64; one constant for everything."""

Build = Callable[[Case, str, str], Trainer]


@dataclass(frozen=True)
class Floor:
    """The noise floor of one case in one dtype: ``loss`` (E, B) and each parameter (S,), in the quantity's units."""

    loss: Array
    params: Params

    def until(self, epochs: int, snapshots: int) -> Floor:
        """The floor of a shorter run of the same case: it grows along the run, so its beginning is its own."""
        return Floor(self.loss[:epochs], {name: values[:snapshots] for name, values in self.params.items()})

    def carried(self, reference: Trajectory) -> Floor:
        """The floor on the whole of a longer run, where a run in lockstep may be as far off as it ever was measured.

        In lockstep nothing grows from stretch to stretch but what the rounding errors are relative to. So the last
        value stays, in proportion to the running max|reference|.
        """
        if len(self.loss) == len(reference.loss):
            return self
        scales = {name: np.maximum.accumulate(scale(values)) for name, values in reference.params.items()}
        loss = np.maximum.accumulate(np.abs(reference.loss.astype(np.float64)).ravel()).reshape(reference.loss.shape)
        return Floor(
            _carried(self.loss.ravel(), loss.ravel()).reshape(loss.shape),
            {name: _carried(values, scales[name]) for name, values in self.params.items()},
        )


def _carried(floor: Array, scales: Array) -> Array:
    measured = len(floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A tensor that is still zero where the floor ends has no proportion to keep.
        growth = np.where(scales[measured - 1] > 0, scales[measured:] / scales[measured - 1], 1.0)
    return np.concatenate([floor, floor[-1] * growth])


class Stirred:
    """A trainer whose every rounding error is stirred: see the module's docstring."""

    def __init__(self, trainer: Trainer, generator: np.random.Generator, ordered: bool, dtype: str) -> None:
        self.trainer, self.generator, self.ordered, self.dtype = trainer, generator, ordered, dtype
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([self._segment(segment, inputs) for segment in segments])

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        pieces = []
        for rows in segment:
            stirred = rows if self.ordered else self.generator.permutation(rows)
            pieces.append(self.trainer.train([(stirred,)]))
            state = self.trainer.export()
            self.trainer.load(State(self._stir(state.params), self._stir(state.slots), state.step, state.slot_scale))
        params = {name: value[None] for name, value in self.trainer.export().params.items()}
        return continued(pieces)._replace(params=params, predictions=predicted(self.trainer, inputs))

    def _stir(self, params: Params) -> Params:
        return {name: stir(value, self.generator, self.dtype) for name, value in params.items()}


class Lockstep:
    """A trainer that starts every stretch of ``length`` epochs from the exact state of a reference beside it."""

    def __init__(self, trainer: Trainer, reference: Trainer, case: Case, length: int) -> None:
        self.trainer, self.reference = trainer, reference
        self.stretch = length * len(next(case.schedule.epochs(len(case.data().x))))
        self.done = 0
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([self._segment(segment, inputs) for segment in segments])

    def checkpoint(self) -> State | None:
        """What the run can go on from: at the end of a stretch the reference's state is all there is, else None."""
        return None if self.done % self.stretch else self.reference.export()

    def resume(self, state: State) -> None:
        """Go on from what ``checkpoint`` gave."""
        self.reference.load(state)
        self.done = state.step

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        pieces = []
        cuts = range(self.stretch - self.done % self.stretch, len(segment), self.stretch)
        for start, end in pairwise((0, *cuts, len(segment))):
            if self.done and self.done % self.stretch == 0:
                self.trainer.load(self.reference.export())
            pieces.append(self.trainer.train([segment[start:end]], inputs if end == len(segment) else ()))
            self.reference.train([segment[start:end]])
            self.done += end - start
        return continued(pieces)


def stir(values: Array, generator: np.random.Generator, dtype: str) -> Array:
    """Floats rounded to ``dtype``, each moved by one unit in its last place; zeros, infinities and integers stay."""
    if values.dtype.kind != "f":
        return values
    values = rounded(values, dtype)
    signs = generator.integers(0, 2, values.shape, np.int8) * 2 - 1
    step = spacing(np.where(np.isfinite(values), values, 0), dtype) * signs
    with np.errstate(over="ignore"):
        return np.where(values == 0, values, values + step).astype(values.dtype)


def stirred(build: Build, case: Case, dtype: str, seed: int) -> tuple[Trainer, Case]:
    """The reference in ``dtype`` with its rounding errors stirred by ``default_rng(seed)``, and its stirred case."""
    generator = np.random.default_rng(seed)
    # Stirring the inputs means moving what the run in this dtype sees, after its cast.
    data = case.data()
    x = stir(data.x, generator, dtype)
    stirred_data = Dataset(x, data.y, data.x_test, data.y_test)
    initial = {name: stir(value, generator, dtype) for name, value in case.initial().items()}
    stirred_case = replace(case, data=lambda: stirred_data, initial=lambda: initial, metrics=())
    return Stirred(build(stirred_case, dtype, "cpu"), generator, case.schedule.ordered, dtype), stirred_case


class Rounded:
    """A longdouble trainer whose results are rounded to float64, so that they can be stored."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.gradients, self.load = trainer.gradients, trainer.load

    def predict(self, x: Array) -> Array:
        return self.trainer.predict(x).astype(np.float64)

    def export(self) -> State:
        state = self.trainer.export()
        return State(_rounded(state.params), _rounded(state.slots), state.step, state.slot_scale)

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        losses, params, predictions = self.trainer.train(segments, inputs)
        wide = tuple(prediction.astype(np.float64) for prediction in predictions)
        return Trained(losses.astype(np.float64), _rounded(params), wide)


def _rounded(params: Params) -> Params:
    return {name: value.astype(np.float64) for name, value in params.items()}


def checked(build: Build, case: Case, longdouble: bool) -> tuple[Trainer, Case]:
    """What the float64 reference itself is held against: the same in longdouble, where it can and that is wider.

    Elsewhere a stirred run that the floor was not made from.
    """
    if longdouble and np.finfo(np.longdouble).eps < np.finfo(np.float64).eps:
        return Rounded(build(case, "longdouble", "cpu")), case
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
    plain = replace(case, metrics=())
    reference = gather(record(build(plain, "float64", "cpu"), plain, epochs))
    floors: dict[str, Floor] = {}
    for dtype in dtypes:
        strayed: list[Params] = []
        for seed in range(runs_of((dtype,))):
            trainer, run_case = (
                stirred(build, case, dtype, seed) if seed < RUNS else (build(plain, dtype, "cpu"), plain)
            )
            if lockstep is not None:
                trainer = Lockstep(trainer, build(case, "float64", "cpu"), case, lockstep)
            with np.errstate(all="ignore"):  # what overflows makes the floor infinite, and that is said
                run = gather(record(trainer, run_case, epochs))
            strayed.append(strays(run, reference))
            on_run()
        if dtype == "float64" and "float32" in floors:
            wide = {"loss": floors["float32"].loss.ravel(), **floors["float32"].params}
            strayed.append({name: 2.0**-29 * values for name, values in wide.items()})
        floors[dtype] = floor_of(strayed, reference, dtype)
    return floors


def floor_of(strayed: Sequence[Params], reference: Trajectory, dtype: str) -> Floor:
    """The noise floor that follows from how far runs strayed, each as ``strays`` says it; the least without any."""
    losses = np.abs(reference.loss.astype(np.float64).ravel())
    # As ``scale`` has it: nothing lies within a tolerance that is made of what is not finite.
    scales = {"loss": np.where(np.isfinite(losses), losses, np.nan)}
    scales |= {name: scale(values) for name, values in reference.params.items()}
    grown = {name: 4 * unit(dtype) * np.maximum.accumulate(values) for name, values in scales.items()}
    for stray in strayed:
        for name, values in stray.items():
            grown[name] = np.maximum(np.maximum.accumulate(values), grown[name])
    return Floor(grown.pop("loss").reshape(reference.loss.shape), grown)


def runs_of(dtypes: Sequence[str]) -> int:
    """The number of runs that measuring the floors of these dtypes takes."""
    # An update of less than half a unit in the last place of its parameter is lost, and in a narrow dtype most may
    # be. Stirring would carry some of them over: there the floor must know the run that nothing stirs, too.
    return sum(RUNS + (dtype in NARROW) for dtype in dtypes)


def file_name(folder: str, lockstep: int | None, dtype: str) -> str:
    """What the file of a case's floor is called: the narrow dtypes have one each, float32 and float64 share theirs."""
    stretch = f"-lockstep{lockstep}" if lockstep else ""
    return folder + stretch + (f"-{dtype}" if dtype in NARROW else "") + ".safetensors"


def strays(run: Trajectory, reference: Trajectory) -> Params:
    """The largest distance of a run from the reference: ``loss`` (E·B,) and each parameter (S,), float64."""
    # Each loss counts as a snapshot: what is not finite is infinitely far, even from its like.
    loss = distance(run.loss.reshape(-1), reference.loss.reshape(-1))
    return {"loss": loss} | {name: distance(run.params[name], reference.params[name]) for name in reference.params}


def save(floors: dict[str, Floor], path: Path, fingerprint: str) -> None:
    """Write the floors of one case, float32 rounded up, with the fingerprint of what they were measured on."""
    tensors = {}
    for dtype, floor in floors.items():
        for name, values in ({"loss": floor.loss} | {f"params/{n}": v for n, v in floor.params.items()}).items():
            tensors[f"{dtype}/{name}"] = np.nextafter(values.astype(np.float32), np.float32(np.inf))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    save_file(tensors, scratch, {"fingerprint": fingerprint, "runs": str(RUNS)})
    scratch.replace(path)


def load(path: Path, fingerprint: str) -> dict[str, Floor] | None:
    """The floors in a file that ``save`` wrote; None where there is no file or it was measured on something else.

    TrajectoryError says that the file is damaged and how to make it anew.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "numpy") as file:
            if (file.metadata() or {}).get("fingerprint") != fingerprint:
                return None
            tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, AttributeError) as error:  # the last two for a dtype that NumPy lacks
        raise _damaged(path, str(error)) from error
    floors: dict[str, Floor] = {}
    for dtype in {name.split("/", 1)[0] for name in tensors}:
        prefix = f"{dtype}/params/"
        params = {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}
        loss = tensors.get(f"{dtype}/loss")
        if loss is None or loss.ndim != 2:
            raise _damaged(path, f"it holds no {dtype}/loss of epochs and batches")
        for name, values in params.items():
            if values.ndim != 1:
                raise _damaged(path, f"{prefix}{name} is not one value a snapshot")
        floors[dtype] = Floor(loss, params)
    return floors


def _damaged(path: Path, how: str) -> TrajectoryError:
    return TrajectoryError(f"{path} is damaged ({how}): delete it, or measure it with 'parity floor'")
