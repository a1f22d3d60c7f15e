"""The noise floor of one case in one dtype: its derivation from repetitions, and its file on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from parity.judging.compare import distance, scale
from parity.recording.places import floor_name
from parity.tolerance import RUNS
from parity.tolerance import least_floor as least
from parity.trajectory import Trajectory, TrajectoryError
from parity.typing import Array, Params

FLOOR = "floor.safetensors"
"""The noise floor that was measured beside a watched run, in the run's own folder."""


@dataclass(frozen=True)
class Floor:
    """The noise floor of one case in one dtype: ``loss`` (E, B), each parameter and metric (S,), in its own units.

    A metric's is the part of its tolerance that ``parity.tolerance.FACTOR`` multiplies, as everywhere: see
    ``parity.judging.noise.metric_tolerances``.
    """

    loss: Array
    params: Params
    metrics: Params = field(default_factory=dict)

    def until(self, epochs: int, snapshots: int) -> Floor:
        """The floor of a shorter run of the same case. A floor at an epoch depends on no later epoch."""
        return Floor(
            self.loss[:epochs],
            {name: values[:snapshots] for name, values in self.params.items()},
            {name: values[:snapshots] for name, values in self.metrics.items()},
        )

    def carried(self, reference: Trajectory) -> Floor:
        """Carry the floor of a run in lockstep on to the end of a longer reference.

        In lockstep errors do not add up from stretch to stretch; they grow only with the values that they are relative
        to. So the floor's last value is carried on in proportion to the running max|reference|. The floors of metrics
        end where they were measured: which rows are near a tie later is not known.
        """
        if len(self.loss) == len(reference.loss):
            return self
        scales = {name: np.maximum.accumulate(scale(values)) for name, values in reference.params.items()}
        loss = np.maximum.accumulate(np.abs(reference.loss.astype(np.float64)).ravel()).reshape(reference.loss.shape)
        return Floor(
            _carried(self.loss.ravel(), loss.ravel()).reshape(loss.shape),
            {name: _carried(values, scales[name]) for name, values in self.params.items()},
            self.metrics,
        )


def _carried(floor: Array, scales: Array) -> Array:
    measured = len(floor)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A tensor that is still zero where the floor ends has no proportion to keep.
        growth = np.where(scales[measured - 1] > 0, scales[measured:] / scales[measured - 1], 1.0)
    return np.concatenate([floor, floor[-1] * growth])


def floor_of(strayed: Sequence[Params], reference: Trajectory, dtype: str) -> Floor:
    """The noise floor from the distances that ``strays`` gave of each stirred run; without any, the least floor."""
    losses = np.abs(reference.loss.astype(np.float64).ravel())
    # NaN, as in ``scale``: no distance lies within a tolerance made from a value that is not finite.
    scales = {"loss": np.where(np.isfinite(losses), losses, np.nan)}
    scales |= {name: scale(values) for name, values in reference.params.items()}
    grown = {name: least(np.maximum.accumulate(values), dtype) for name, values in scales.items()}
    for stray in strayed:
        for name, values in stray.items():
            grown[name] = np.maximum(np.maximum.accumulate(values), grown[name])
    return Floor(grown.pop("loss").reshape(reference.loss.shape), grown)


def strays(run: Trajectory, reference: Trajectory) -> Params:
    """The largest distances of a run from the reference, float64: of each loss (E·B,), of each parameter (S,)."""
    # Each loss counts as a snapshot: one that is not finite is infinitely far, even from an equal one.
    loss = distance(run.loss.reshape(-1), reference.loss.reshape(-1))
    return {"loss": loss} | {name: distance(run.params[name], reference.params[name]) for name in reference.params}


def save(floors: dict[str, Floor], path: Path, fingerprint: str) -> None:
    """Write the floors of one case in float32, rounded up, with the mark of the data and code that gave them."""
    tensors = {}
    for dtype, floor in floors.items():
        for name, values in ({"loss": floor.loss} | {f"params/{n}": v for n, v in floor.params.items()}).items():
            tensors[f"{dtype}/{name}"] = np.nextafter(values.astype(np.float32), np.float32(np.inf))
        for name, values in floor.metrics.items():
            narrow = values.astype(np.float32)
            # Where no row is near a tie, none may change.
            tensors[f"{dtype}/metrics/{name}"] = np.where(narrow == 0, narrow, np.nextafter(narrow, np.float32(np.inf)))
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.partial")
    save_file(tensors, scratch, {"fingerprint": fingerprint, "runs": str(RUNS)})
    scratch.replace(path)


def load(path: Path, fingerprint: str) -> dict[str, Floor] | None:
    """Read the floors that ``save`` wrote; None if there is no file or it bears another mark.

    TrajectoryError if the file is damaged; the message says how to make it anew.
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
        params, metrics = _below(f"{dtype}/params/", tensors), _below(f"{dtype}/metrics/", tensors)
        loss = tensors.get(f"{dtype}/loss")
        if loss is None or loss.ndim != 2:
            raise _damaged(path, f"it holds no {dtype}/loss of epochs and batches")
        for kind, found in (("params", params), ("metrics", metrics)):
            for name, values in found.items():
                if values.ndim != 1:
                    raise _damaged(path, f"{dtype}/{kind}/{name} is not one value a snapshot")
        floors[dtype] = Floor(loss, params, metrics)
    return floors


def _below(prefix: str, tensors: Params) -> Params:
    return {name.removeprefix(prefix): values for name, values in tensors.items() if name.startswith(prefix)}


def _damaged(path: Path, how: str) -> TrajectoryError:
    return TrajectoryError(f"{path} is damaged ({how}): delete it, or measure it with 'parity floor'")


def recorded_floor(folder: Path, run: Trajectory, kept: Path | None = None) -> Floor | None:
    """The noise floor of a run in the folder ``kept``; None if there is none for this very run.

    By default ``kept`` is where ``parity run`` left floors beside the run.
    """
    if kept is None and (folder / FLOOR).is_file():
        found = load(folder / FLOOR, mark_of_run(run))
        return None if found is None else fits(found.get(run.meta["dtype"]), run)
    kept = kept or folder.resolve().parent.parent / "floors"
    name = floor_name(folder.resolve().parent.name, run.meta.get("lockstep"), run.meta["dtype"])
    mark = run.meta.get("floor")
    floors = load(kept / name, mark) if isinstance(mark, str) else None
    return None if floors is None else fits(floors.get(run.meta["dtype"]), run)


def mark_of_run(run: Trajectory) -> str:
    """Give the mark of a floor that was measured beside this very run: a hash of all that the run recorded."""
    return hashlib.sha256("".join(shard["sha256"] for shard in run.meta["shards"]).encode()).hexdigest()


def fits(floor: Floor | None, run: Trajectory) -> Floor | None:
    """Cut a noise floor to the length of a run; None if it has other parameters or batches than the run."""
    if floor is None or set(floor.params) != set(run.params) or floor.loss.shape[1:] != run.loss.shape[1:]:
        return None
    return floor.until(len(run.loss), len(run.epochs))


def mark_of(path: Path) -> str | None:
    """Read the mark in a file of floors; None without a file or a mark. TrajectoryError if the file is damaged."""
    try:
        with safe_open(path, "numpy") as file:
            return (file.metadata() or {}).get("fingerprint")
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error


def least_floor(run: Trajectory) -> Floor:
    """The part of the noise floor that needs no measurement: four roundings of the largest value so far."""
    return floor_of((), run, run.meta["dtype"])
