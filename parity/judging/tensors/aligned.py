"""A run in the layout of a correspondence: its tensors stay on disk, and are brought to it when they are sliced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from parity.judging.compare import scale
from parity.judging.floors.floor import Floor, Source
from parity.judging.floors.repetition import Repetition
from parity.judging.tensors.correspondence import Correspondence, label
from parity.layout import Slot, cuts, to_canonical
from parity.tolerance import least_floor
from parity.trajectory import Stack, Trajectory, TrajectoryError, as_one_array
from parity.typing import Array, Params


@dataclass(frozen=True)
class Common:
    """A tensor that both runs have, and what it is made of in one of them.

    Attributes:
        name: What it is called in both.
        slots: The run's slots that it is made of.
        cut: Which block of the canonical last axis it is, as a slot's ``block``, if the run's own tensor is fused of
            several.

    Examples:
        >>> qk = Common("key", (Slot("qk", "qk"),), cut=(1, 2))
        >>> qk.of({"qk": np.arange(4.0)}).tolist()
        [2.0, 3.0]
    """

    name: str
    slots: tuple[Slot, ...]
    cut: tuple[int, int | tuple[int, ...]] | None = None

    def of(self, tensors: Mapping[str, Array], stacked: int = 0) -> Array:
        """Make it of the run's tensors, which may have leading axes."""
        (value,) = to_canonical(self.slots, tensors, stacked).values()
        return value if self.cut is None else np.split(value, cuts(self.cut[1]), -1)[self.cut[0]]

    @property
    def sources(self) -> list[str]:
        """The names of the run's tensors that it is made of."""
        return list(dict.fromkeys(slot.framework for slot in self.slots))


Layout = Sequence[Common]
"""All that two runs have in common, as one of them has it."""


def layouts(matched: Correspondence) -> tuple[Layout, Layout]:
    """Say what two runs have in common, as each of them has it.

    A tensor that is fused on one side is taken apart: its parts have names and noise floors of their own.

    Args:
        matched: The correspondence of the runs.

    Returns:
        The first run's tensors and the second run's, the same names in the same order.

    Examples:
        >>> from parity.judging.tensors.correspondence import How, Pairing
        >>> parts = Slot("qk", "q", block=(0, 2)), Slot("qk", "k", block=(1, 2))
        >>> fused = Pairing((Slot("qk", "qk"),), parts, How.VALUE)
        >>> ours, theirs = layouts(Correspondence((fused,)))
        >>> [(common.name, common.cut) for common in ours]
        [('q', (0, 2)), ('k', (1, 2))]
    """
    found: tuple[list[Common], list[Common]] = ([], [])
    taken = {name for pairing in matched.pairings for name in pairing.canonical}
    for pairing in matched.pairings:
        for canonical in pairing.canonical:
            sides = [tuple(s for s in side if s.canonical == canonical) for side in (pairing.ours, pairing.theirs)]
            parts = [len(side) > 1 and all(slot.block is not None for slot in side) for side in sides]
            several = sides[parts.index(True)] if sum(parts) == 1 else ()
            names = [label(slot) for slot in several]
            if not names or (set(names) & (taken - {canonical})):
                for common, side in zip(found, sides, strict=True):
                    common.append(Common(canonical, side))
                continue
            taken |= set(names)
            for common, side, apart in zip(found, sides, parts, strict=True):
                for name, slot in zip(names, several, strict=True):
                    own = (replace(slot, canonical=name, block=None),) if apart else side
                    common.append(Common(name, own, None if apart else slot.block))
    return found


class Relaid:
    """A common tensor's snapshots, made of a framework's stacks when they are sliced.

    Args:
        common: What it is made of.
        stacks: The framework's stacks by name.

    Examples:
        >>> kernel = Common("kernel", (Slot("kernel", "weight", axes=(1, 0)),))
        >>> stack = Relaid(kernel, {"weight": np.zeros((5, 2, 3))})
        >>> stack.shape, stack[1:3].shape
        ((5, 3, 2), (2, 3, 2))
    """

    def __init__(self, common: Common, stacks: Mapping[str, Stack]) -> None:
        self._common, self._stacks = common, {name: stacks[name] for name in common.sources}
        first = next(iter(self._stacks.values()))
        self.dtype = first.dtype
        self.shape: tuple[int, ...] = (len(first), *self[0].shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        pieces = {name: np.asarray(stack[key]) for name, stack in self._stacks.items()}
        return self._common.of(pieces, stacked=int(isinstance(key, slice)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return as_one_array(self, "a tensor in another layout", dtype, copy)


class RelaidSteps(Mapping[str, Array]):
    """The tensors of recorded steps, those of parameters as two runs have them in common. Layers stay as they are.

    Args:
        steps: The run's own, by name.
        layout: What the runs have in common.
        shapes: The shapes of the run's parameters, by the framework's name.
    """

    def __init__(self, steps: Mapping[str, Array], layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._steps, self._shapes = steps, shapes
        self._sources: dict[str, str | tuple[str, Common]] = {}
        of: dict[str, list[Common]] = defaultdict(list)
        for common in layout:
            of[common.sources[0]].append(common)
        for name in steps:
            prefix, tensor = _split(name, shapes)
            if tensor is None:
                self._sources[name] = name
                continue
            for common in of[tensor]:
                if all(self._has(prefix, source) for source in common.sources):
                    self._sources[f"{prefix}{common.name}"] = prefix, common

    def _has(self, prefix: str, tensor: str) -> bool:
        """Say whether a tensor is there; a slot may have another shape than its parameter, and no layout then."""
        name = f"{prefix}{tensor}"
        return name in self._steps and ("/strays/" in prefix or self._steps[name].shape == self._shapes[tensor])

    def __getitem__(self, name: str) -> Array:
        source = self._sources[name]
        if isinstance(source, str):
            return self._steps[source]
        prefix, common = source
        found = {tensor: self._steps[f"{prefix}{tensor}"] for tensor in common.sources}
        if "/strays/" in prefix:
            return np.asarray(np.maximum.reduce(list(found.values())))
        return np.asarray(common.of(found), order="C")  # which keeps a tensor without axes as it is

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _split(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str | None]:
    """The part of a recorded name before a parameter's own, and that; None where the tensor is of no parameter."""
    parts = name.split("/")
    for kind, before in (("params", 2), ("gradients", 2), ("unclipped", 2), ("slots", 3)):
        for within in ((), ("strays",), ("after",), ("strays", "after")):
            count = before + len(within)
            if parts[1 : 2 + len(within)] == [*within, kind] and len(parts) > count:
                tensor = "/".join(parts[count:])
                return "/".join(parts[:count]) + "/", tensor if tensor in shapes else None
    return name, None


def aligned(run: Trajectory, layout: Layout | None) -> Trajectory:
    """Bring a run to a layout, without reading it.

    Args:
        run: A run, in its framework's names and shapes.
        layout: What it has in common with another; all else is left out. None leaves the run as it is.

    Returns:
        The run, its parameters, slots and gradients by common names.

    Raises:
        TrajectoryError: If the layout does not fit the run.

    Examples:
        >>> run = Trajectory({}, np.arange(2), np.zeros((1, 1)), {"weight": np.zeros((2, 4, 3))}, {})
        >>> aligned(run, [Common("kernel", (Slot("kernel", "weight", axes=(1, 0)),))]).params["kernel"].shape
        (2, 3, 4)
    """
    if layout is None:
        return run
    shapes = {name: tuple(stack.shape[1:]) for name, stack in run.params.items()}
    params: dict[str, Stack] = {}
    for common in layout:
        try:
            params[common.name] = Relaid(common, run.params)
        except (KeyError, ValueError, IndexError) as error:
            raise TrajectoryError(f"the slots of {common.name} do not fit the run: {error}") from error
    return replace(run, params=params, steps=RelaidSteps(run.steps, layout, shapes))


@dataclass(frozen=True)
class InCommon:
    """Two runs, and the repetitions of them, in the layouts that they have in common."""

    ours: Trajectory
    theirs: Trajectory
    noise: Sequence[Repetition]
    layouts: tuple[Layout | None, Layout | None]


def in_common(
    ours: Trajectory,
    theirs: Trajectory,
    noise: Sequence[Repetition],
    matched: Correspondence | None,
    but: Set[str] = frozenset(),
) -> InCommon:
    """Bring two runs and their repetitions to the layouts in which they are ``matched``; None leaves them as they are.

    Tensors whose common names are in ``but`` are left out.

    Raises:
        TrajectoryError: If a layout does not fit its run.
    """
    if matched is None and not but:
        return InCommon(ours, theirs, noise, (None, None))
    sides = (_as_it_is(ours), _as_it_is(theirs)) if matched is None else layouts(matched)
    mine, its = ([common for common in side if common.name not in but] for side in sides)
    one, other = aligned(ours, mine), aligned(theirs, its)
    found = []
    for each in noise:
        base, layout = (one, mine) if each.base is ours else (other, its)
        found.append(Repetition(aligned(each.run, layout), base, distances_in(layout, each.distances)))
    return InCommon(one, other, found, (mine, its))


def _as_it_is(run: Trajectory) -> Layout:
    return [Common(name, (Slot(name, name),)) for name in run.params]


def aligned_floor(floor: Floor | None, layout: Layout | None) -> Floor | None:
    """Bring a noise floor to a layout: each tensor's goes with it, and the largest of several that are fused.

    Args:
        floor: The floor of a run in its framework's names, if it has one.
        layout: What the run has in common with another; None leaves the floor as it is.

    Returns:
        The floor by common names.
    """
    if floor is None or layout is None:
        return floor
    stretches = {start: replace(one, params=distances_in(layout, one.params)) for start, one in floor.stretches.items()}
    calmest = aligned_floor(floor.calmest, layout)
    return replace(floor, params=distances_in(layout, floor.params), stretches=stretches, calmest=calmest)


def distances_in(layout: Layout | None, distances: Params) -> Params:
    """Bring figures of tensors, (S,) each, to a layout: the largest of those that a canonical tensor is made of.

    Args:
        layout: What the run has in common with another; None leaves the figures as they are.
        distances: Figures by the framework's name. Others than the layout's are left out, but for the loss.

    Returns:
        Figures by common names.

    Examples:
        >>> common = Common("qk", (Slot("qk", "q", block=(0, 2)), Slot("qk", "k", block=(1, 2))))
        >>> distances_in([common], {"q": np.array([1.0, 2]), "k": np.array([2.0, 1])})["qk"].tolist()
        [2.0, 2.0]
    """
    if layout is None:
        return distances
    loss = {"loss": distances["loss"]} if "loss" in distances else {}
    return loss | {common.name: np.maximum.reduce([distances[name] for name in common.sources]) for common in layout}


def finer(floors: Sequence[Floor], sides: Sequence[Layout | None], runs: Sequence[Trajectory]) -> list[Floor]:
    """Give the parts of a fused tensor the noise floors that the other run measured of them.

    The floor of a whole is that of its noisiest part: of a fused bias it is the key's, which rounding alone moves.

    Args:
        floors: Both runs' floors, by common names, of one dtype.
        sides: What both runs have in common; of None the floors stay as they are.
        runs: Both runs, by common names. No floor is less than the roundings of a run's own values.

    Returns:
        Both floors.
    """
    calmest = [floor.calmest for floor in floors]
    if all(calmest):
        finest = finer([floor for floor in calmest if floor], sides, runs)
        floors = [replace(floor, calmest=own) for floor, own in zip(floors, finest, strict=True)]
    measured = all(floor.source is not Source.ROUNDING for floor in floors)
    found: list[Floor] = []
    for floor, other, layout, run in zip(floors, reversed(floors), sides, runs, strict=True):
        alike = measured and floor.loss.shape == other.loss.shape
        fused = {common.name for common in layout or () if common.cut is not None and alike}
        params = dict(floor.params)
        for name in fused:
            own = np.maximum.accumulate(least_floor(scale(run.params[name]), run.meta["dtype"]))
            params[name] = np.maximum(other.params[name], own[: len(other.params[name])])
        found.append(replace(floor, params=params))
    return found
