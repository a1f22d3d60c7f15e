"""A run in the layout of a correspondence: its tensors stay on disk, and are brought to it when they are sliced."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from parity.judging.floor import Floor
from parity.layout import Layout, Slot, to_canonical
from parity.trajectory import Stack, Trajectory, TrajectoryError
from parity.typing import Array, Params


class Relaid:
    """A canonical tensor's snapshots, made of a framework's stacks when they are sliced.

    Args:
        slots: All slots of one canonical tensor.
        stacks: The framework's stacks by name.

    Examples:
        >>> stack = Relaid([Slot("kernel", "weight", axes=(1, 0))], {"weight": np.zeros((5, 2, 3))})
        >>> stack.shape, stack[1:3].shape
        ((5, 3, 2), (2, 3, 2))
    """

    def __init__(self, slots: Layout, stacks: Mapping[str, Stack]) -> None:
        self._slots = tuple(slots)
        self._stacks = {slot.framework: stacks[slot.framework] for slot in slots}
        first = next(iter(self._stacks.values()))
        self.dtype = first.dtype
        self.shape: tuple[int, ...] = (len(first), *self[0].shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice) -> Any:
        pieces = {name: np.asarray(stack[key]) for name, stack in self._stacks.items()}
        (value,) = to_canonical(self._slots, pieces, stacked=int(isinstance(key, slice))).values()
        return value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a tensor in another layout cannot become an array without a copy")
        values: Array = self[:].astype(dtype or self.dtype, copy=False)
        return values


class RelaidSteps(Mapping[str, Array]):
    """The tensors of recorded steps, those of parameters in the layout of a correspondence. Layers stay as they are.

    Args:
        steps: The run's own, by name.
        layout: The run's slots.
        shapes: The shapes of its parameters, by the framework's name.
    """

    def __init__(self, steps: Mapping[str, Array], layout: Layout, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._steps, self._shapes = steps, shapes
        self._slots = by_canonical(layout)
        self._sources: dict[str, str | tuple[str, str]] = {}
        of: dict[str, list[str]] = defaultdict(list)
        for canonical, slots in self._slots.items():
            of[slots[0].framework].append(canonical)
        for name in steps:
            prefix, tensor = _split(name, shapes)
            if tensor is None:
                self._sources[name] = name
                continue
            for canonical in of[tensor]:
                if all(self._has(prefix, slot.framework) for slot in self._slots[canonical]):
                    self._sources[f"{prefix}{canonical}"] = prefix, canonical

    def _has(self, prefix: str, tensor: str) -> bool:
        """Say whether a tensor is there; a slot may have another shape than its parameter, and no layout then."""
        name = f"{prefix}{tensor}"
        if "/strays/" in prefix or "/slots/" not in prefix:
            return name in self._steps
        return name in self._steps and self._steps[name].shape == self._shapes[tensor]

    def __getitem__(self, name: str) -> Array:
        source = self._sources[name]
        if isinstance(source, str):
            return self._steps[source]
        prefix, canonical = source
        slots = self._slots[canonical]
        found = {slot.framework: self._steps[f"{prefix}{slot.framework}"] for slot in slots}
        if "/strays/" in prefix:
            return np.asarray(np.maximum.reduce(list(found.values())))
        (value,) = to_canonical(slots, found).values()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def by_canonical(layout: Layout) -> dict[str, list[Slot]]:
    """Sort a layout's slots by their canonical tensor.

    Examples:
        >>> by_canonical([Slot("qkv", "q", block=(0, 2)), Slot("qkv", "k", block=(1, 2))])["qkv"][1].framework
        'k'
    """
    found: dict[str, list[Slot]] = defaultdict(list)
    for slot in layout:
        found[slot.canonical].append(slot)
    return dict(found)


def _split(name: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str | None]:
    """The part of a recorded name before a parameter's own, and that; None where the tensor is of no parameter."""
    parts = name.split("/")
    for kind, before in (("params", 2), ("gradients", 2), ("unclipped", 2), ("slots", 3)):
        for within in ((), ("strays",)):
            count = before + len(within)
            if parts[1 : 2 + len(within)] == [*within, kind] and len(parts) > count:
                tensor = "/".join(parts[count:])
                return "/".join(parts[:count]) + "/", tensor if tensor in shapes else None
    return name, None


def aligned(run: Trajectory, layout: Layout | None) -> Trajectory:
    """Bring a run to a layout, without reading it.

    Args:
        run: A run, in its framework's names and shapes.
        layout: The slots of its tensors; what none names is left out. None leaves the run as it is.

    Returns:
        The run, its parameters, slots and gradients by canonical name.

    Raises:
        TrajectoryError: If the layout does not fit the run.

    Examples:
        >>> run = Trajectory({}, np.arange(2), np.zeros((1, 1)), {"weight": np.zeros((2, 4, 3))}, {})
        >>> aligned(run, [Slot("kernel", "weight", axes=(1, 0))]).params["kernel"].shape
        (2, 3, 4)
    """
    if layout is None:
        return run
    shapes = {name: tuple(stack.shape[1:]) for name, stack in run.params.items()}
    params: dict[str, Stack] = {}
    for canonical, slots in by_canonical(layout).items():
        try:
            params[canonical] = Relaid(slots, run.params)
        except (KeyError, ValueError, IndexError) as error:
            raise TrajectoryError(f"the slots of {canonical} do not fit the run: {error}") from error
    return replace(run, params=params, steps=RelaidSteps(run.steps, layout, shapes))


def aligned_floor(floor: Floor | None, layout: Layout | None) -> Floor | None:
    """Bring a noise floor to a layout: each tensor's goes with it, and the largest of several that are fused.

    Args:
        floor: The floor of a run in its framework's names, if it has one.
        layout: The slots of the run's tensors; None leaves the floor as it is.

    Returns:
        The floor by canonical name.
    """
    return None if floor is None else replace(floor, params=distances_in(layout, floor.params))


def distances_in(layout: Layout | None, distances: Params) -> Params:
    """Bring figures of tensors, (S,) each, to a layout: the largest of those that a canonical tensor is made of.

    Args:
        layout: The slots; None leaves the figures as they are.
        distances: Figures by the framework's name. Others than the layout's are left out, but for the loss.

    Returns:
        Figures by canonical name.

    Examples:
        >>> layout = [Slot("qk", "q", block=(0, 2)), Slot("qk", "k", block=(1, 2))]
        >>> distances_in(layout, {"q": np.array([1.0, 2]), "k": np.array([2.0, 1])})["qk"].tolist()
        [2.0, 2.0]
    """
    if layout is None:
        return distances
    loss = {"loss": distances["loss"]} if "loss" in distances else {}
    return loss | {
        canonical: np.maximum.reduce([distances[slot.framework] for slot in slots])
        for canonical, slots in by_canonical(layout).items()
    }
