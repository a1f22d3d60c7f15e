"""The part of two runs that both hold. It is compared, and what one run alone holds keeps a PASS away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.judging.comparable import incomparable
from parity.judging.floors.floor import Floor
from parity.judging.moments import moment, unit_of
from parity.recording.steps import steps_of
from parity.trajectory import Stack, Trajectory, as_one_array
from parity.typing import Array, Params

REORDERED = "the runs saw their batches in different orders"


class Chosen:
    """Some snapshots of a stack.

    Args:
        stack: (S, *shape).
        places: The snapshots to take, in rising order.

    >>> Chosen(np.arange(4.0), np.array([0, 2, 3]))[1:].tolist()
    [2.0, 3.0]
    """

    def __init__(self, stack: Stack, places: Array) -> None:
        self._stack, self._places = stack, places
        self.shape, self.dtype = (len(places), *stack.shape[1:]), stack.dtype

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: int | slice) -> Any:
        if isinstance(key, slice):
            taken = [np.asarray(self._stack[int(place)]) for place in self._places[key]]
            return np.stack(taken) if taken else np.empty((0, *self.shape[1:]), self.dtype)
        return self._stack[int(self._places[key])]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "chosen snapshots", dtype, copy)


class Beginning(Mapping[str, Array]):
    """What a deep recording holds of the first updates, and of the state after them, read when it is asked for.

    >>> sorted(Beginning({"0/loss": np.ones(1), "1/loss": np.ones(1), "1/params/k": np.ones(2)}, 1))
    ['0/loss', '1/params/k']
    """

    def __init__(self, steps: Mapping[str, Array], updates: int) -> None:
        self._steps = steps
        self._names = {name: None for name in steps if _is_of(name, updates)}

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._steps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _is_of(name: str, updates: int) -> bool:
    number, _, rest = name.partition("/")
    return int(number) < updates or (int(number) == updates and rest.startswith(("params/", "slots/")))


@dataclass(frozen=True)
class Part:
    """The part of one run that another run holds too."""

    run: Trajectory
    names: tuple[str, ...]
    places: Array
    epochs: int
    batches: int

    def floor(self, floor: Floor) -> Floor:
        """Cut the run's noise floor to this part; a floor may end before its run."""
        ends = {name: self.places[self.places < len(values)] for name, values in floor.params.items()}
        metrics = {name: values[self.places[self.places < len(values)]] for name, values in floor.metrics.items()}
        return replace(
            floor,
            loss=floor.loss[: self.epochs, : self.batches],
            params={name: floor.params[name][ends[name]] for name in self.names if name in floor.params},
            metrics=metrics,
            calmest=floor.calmest and self.floor(floor.calmest),
        )

    def strayed(self, distances: Params, whole: Trajectory) -> Params:
        """Cut the distances of a repetition of the whole run to this part: see ``floor.strays``."""
        loss = distances["loss"].reshape(whole.loss.shape)[: self.epochs, : self.batches].ravel()
        return {"loss": loss} | {name: distances[name][self.places] for name in self.names if name in distances}


def shared(ours: Trajectory, theirs: Trajectory) -> tuple[Part, Part, list[str]] | str:
    """Find what two runs both hold.

    Returns:
        The part of each, of equal names, shapes and snapshots, and a sentence for each thing that one of them lacks; or
        why nothing of them can be compared.
    """
    whole = incomparable(ours, theirs)
    left_out = _lacking(ours, theirs)
    names = [
        name
        for name, stack in ours.params.items()
        if name in theirs.params and stack.shape[1:] == theirs.params[name].shape[1:]
    ]
    orders = [run.meta.get("batch_order") for run in (ours, theirs)]
    epochs, batches = min(len(ours.loss), len(theirs.loss)), min(ours.loss.shape[1], theirs.loss.shape[1])
    cut = ours.loss.shape != theirs.loss.shape or not np.array_equal(ours.epochs, theirs.epochs)
    # The order of a run that is shorter is another.
    reordered = None not in orders and orders[0] != orders[1]
    if (whole and not names) or (reordered and not cut):
        return whole
    if reordered and ours.loss.shape == theirs.loss.shape:
        return REORDERED
    if ours.loss.shape[1] != theirs.loss.shape[1] and epochs:
        # After the batch that one run lacks, the states are others by right.
        epochs = 1 if batches else 0
        left_out.append(
            f"the runs hold other numbers of losses (epochs, batches): {ours.loss.shape} and {theirs.loss.shape}, so "
            f"that they are comparable up to {moment(unit_of(ours, theirs), 1, batches - 1)}"
        )
        common = np.array([0])
    else:
        common = np.intersect1d(ours.epochs, theirs.epochs)
        common = common[common <= epochs]
        if cut:
            left_out.append(_other_epochs(ours, theirs, epochs, len(common)))
    rows = _rows(ours, batches), _rows(theirs, batches)
    if cut and epochs and all(rows) and rows[0] != rows[1]:
        return REORDERED
    parts = [_part(run, names, common, epochs, batches) for run in (ours, theirs)]
    return parts[0], parts[1], left_out


def only_snapshots(ours: Trajectory, theirs: Trajectory) -> bool:
    """Say whether nothing but some snapshots is in one run alone: as many updates, and both ends are in both.

    The places of snapshots follow from how a run is recorded, as from how many updates are recorded deeply. What is
    left out lies between snapshots that both runs hold.
    """
    ends = [run.epochs[[0, -1]].tolist() if len(run.epochs) else [] for run in (ours, theirs)]
    shapes = [{name: stack.shape[1:] for name, stack in run.params.items()} for run in (ours, theirs)]
    return ours.loss.shape == theirs.loss.shape and shapes[0] == shapes[1] and ends[0] == ends[1] != []


def in_both(ours: Trajectory, theirs: Trajectory) -> tuple[Trajectory, Trajectory]:
    """Cut two runs to the snapshots, losses and single updates that both hold; as they are if they share nothing."""
    parts = shared(ours, theirs)
    runs = (ours, theirs) if isinstance(parts, str) else (parts[0].run, parts[1].run)
    counts = [len(steps_of(run)) for run in runs]
    if not all(counts) or counts[0] == counts[1]:
        return runs
    one, other = (replace(run, steps=Beginning(run.steps, min(counts))) for run in runs)
    return one, other


def _lacking(ours: Trajectory, theirs: Trajectory) -> list[str]:
    """Name the parameters that one run lacks, or that have another shape in it."""
    found = []
    for one, other in ((ours, theirs), (theirs, ours)):
        missing = sorted(set(other.params) - set(one.params))
        if missing:
            # In the words of the whole comparison, with its hint at which one it may be.
            first = incomparable(ours, theirs) if one is ours else ""
            which = "first" if one is ours else "second"
            found.append(first or f"parameter {missing[0]} is missing from the {which} run")
            found += [f"parameter {name} is missing from the {which} run" for name in missing[1:]]
    for name in ours.params.keys() & theirs.params.keys():
        a, b = ours.params[name].shape[1:], theirs.params[name].shape[1:]
        if a != b:
            found.append(f"parameter {name} has other shapes: {a} and {b}")
    return found


def _other_epochs(ours: Trajectory, theirs: Trajectory, epochs: int, common: int) -> str:
    by = unit_of(ours, theirs)
    lengths = f"{len(ours.loss)} and {len(theirs.loss)} {by}s"
    snapshots = f"{len(ours.epochs)} and {len(theirs.epochs)} snapshots, {common} of them after the same {by}s"
    return f"snapshots were taken after other {by}s: the runs hold {lengths}, {snapshots}"


def _rows(run: Trajectory, batches: int) -> list[tuple[int, ...]]:
    """The rows of the batches of the first epoch that are compared, as far as they were recorded."""
    seen = [run.steps.get(f"{number}/rows") for number in range(batches)]
    return [] if any(rows is None for rows in seen) else [tuple(np.asarray(rows).ravel().tolist()) for rows in seen]


def _part(run: Trajectory, names: Sequence[str], common: Array, epochs: int, batches: int) -> Part:
    places = np.searchsorted(run.epochs, common)
    if len(places) == len(run.epochs) and (epochs, batches) == run.loss.shape:
        cut = replace(run, params={name: run.params[name] for name in names})
    else:
        cut = Trajectory(
            {**run.meta, "batch_order": None},
            run.epochs[places],
            run.loss[:epochs, :batches],
            {name: Chosen(run.params[name], places) for name in names},
            {name: values[places] for name, values in run.metrics.items()},
            Beginning(run.steps, epochs * batches),
        )
    return Part(cut, tuple(names), places, epochs, batches)
