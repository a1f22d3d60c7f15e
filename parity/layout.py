"""Between the canonical layout and a framework's own: explicit data and the two functions that apply it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.typing import Array, Params


@dataclass(frozen=True)
class Slot:
    """Where one canonical tensor lives in a framework.

    From canonical to framework the steps are applied in this order: ``gates``, ``block``, ``flip``, ``axes`` and
    ``index``.

    Attributes:
        canonical: The canonical name, ``layer/role``, as in ``dense/kernel``.
        framework: The framework's name, as in ``0.weight``.
        axes: The framework's axes as axes of the canonical tensor, as ``numpy.transpose`` takes them: ``(1, 0)`` for a
            torch linear layer, ``(3, 2, 0, 1)`` for a torch convolution. A framework's axis that merges several, the
            slowest first, is a tuple of them; an empty tuple is an axis of length 1 that the canonical tensor lacks.
        shape: The shape of the canonical tensor, or of its block. Needed where ``axes`` merges several into one.
        gates: The framework's order of equal blocks of the canonical last axis: ``(1, 0, 2)`` takes r, z, n to z, r, n.
        block: ``(k, n)`` if the framework keeps the k-th of n equal blocks of the canonical last axis in a tensor of
            its own. ``(k, (8, 2, 2))`` if the blocks have these lengths.
        flip: The canonical axes that run the other way in the framework, as those of a transposed convolution's kernel
            do in flax.
        index: The place along a new leading axis if the framework stacks several canonical tensors into one.

    Raises:
        ValueError: If ``axes`` merges several axes and ``shape`` does not say how long they are.

    Examples:
        >>> Slot("dense/kernel", "0.weight", axes=(1, 0)).axes
        (1, 0)

        A torch layer behind ``flatten`` takes channels, rows and columns in this order:

        >>> images = Slot("dense/kernel", "0.weight", axes=(3, (2, 0, 1)), shape=(4, 4, 8, 10))
        >>> to_framework([images], {"dense/kernel": np.zeros((4, 4, 8, 10))})["0.weight"].shape
        (10, 128)
    """

    canonical: str
    framework: str
    axes: tuple[int | tuple[int, ...], ...] | None = None
    gates: tuple[int, ...] | None = None
    block: tuple[int, int | tuple[int, ...]] | None = None
    index: int | None = None
    shape: tuple[int, ...] | None = None
    flip: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        merged = [group for group in self.groups if len(group) > 1]
        if merged and (self.shape is None or sorted(self.order) != list(range(len(self.shape)))):
            raise ValueError(
                f"{self.framework} merges the axes {merged[0]} of {self.canonical}: shape must say how "
                "long each of its axes is"
            )

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The canonical axes that each of the framework's axes is made of."""
        return tuple(group if isinstance(group, tuple) else (group,) for group in self.axes or ())

    @property
    def order(self) -> tuple[int, ...]:
        """The canonical axes in the framework's order, the slowest first."""
        return tuple(axis for group in self.groups for axis in group)


Layout = Sequence[Slot]
"""One slot for each canonical tensor, or for each of its blocks."""


def to_framework(layout: Layout, params: Mapping[str, Array]) -> Params:
    """Take canonical arrays to the framework's names, axis orders, gate orders and stacks.

    Args:
        layout: Which canonical tensor is which of the framework's.
        params: Arrays of any dtype by canonical name, kernels ``(in, out)``.

    Returns:
        Contiguous arrays by the framework's name, of the same dtypes.

    Raises:
        KeyError: If ``params`` lacks a tensor that the layout names.
        ValueError: If a shape does not fit its slot.

    Examples:
        >>> import numpy as np
        >>> layout = [Slot("dense/kernel", "weight", axes=(1, 0))]
        >>> to_framework(layout, {"dense/kernel": np.ones((3, 2))})["weight"].shape
        (2, 3)
    """
    result: Params = {}
    stacks: dict[str, dict[int, Array]] = {}
    for slot in layout:
        value = params[slot.canonical]
        if slot.gates is not None:
            value = np.concatenate([np.split(value, len(slot.gates), -1)[gate] for gate in slot.gates], -1)
        if slot.block is not None:
            value = np.split(value, cuts(slot.block[1]), -1)[slot.block[0]]
        value = np.flip(value, slot.flip)
        if slot.axes is not None:
            value = _merged(value, slot)
        if slot.index is not None:
            stacks.setdefault(slot.framework, {})[slot.index] = value
        else:
            result[slot.framework] = np.asarray(value, order="C")
    for name, parts in stacks.items():
        result[name] = np.stack([parts[index] for index in range(len(parts))])
    return result


def to_canonical(layout: Layout, params: Mapping[str, Array], stacked: int = 0) -> Params:
    """Take a framework's arrays to the canonical layout: the inverse of ``to_framework``.

    Args:
        layout: Which canonical tensor is which of the framework's.
        params: Arrays of any dtype by the framework's name.
        stacked: The number of leading axes that the layout does not know of: 1 for snapshots stacked by epoch.

    Returns:
        Fresh copies by canonical name, of the same dtypes, with the leading axes in front.

    Raises:
        KeyError: If ``params`` lacks a tensor that the layout names.
        ValueError: If a shape does not fit its slot.

    Examples:
        >>> import numpy as np
        >>> layout = [Slot("dense/kernel", "weight", axes=(1, 0))]
        >>> to_canonical(layout, {"weight": np.ones((5, 2, 3))}, stacked=1)["dense/kernel"].shape
        (5, 3, 2)
    """
    result: Params = {}
    blocks: dict[str, dict[int, Array]] = {}
    for slot in layout:
        value = params[slot.framework]
        if slot.index is not None:
            value = np.take(value, slot.index, axis=stacked)
        if slot.axes is not None:
            value = _unmerged(value, slot, stacked)
        value = np.flip(value, tuple(stacked + axis for axis in slot.flip))
        if slot.gates is not None:
            parts = np.split(value, len(slot.gates), -1)
            value = np.concatenate([parts[slot.gates.index(gate)] for gate in range(len(slot.gates))], -1)
        if slot.block is not None:
            blocks.setdefault(slot.canonical, {})[slot.block[0]] = value
        else:
            result[slot.canonical] = np.array(value, order="C")
    for name, parts_by_index in blocks.items():
        result[name] = np.concatenate([parts_by_index[index] for index in range(len(parts_by_index))], -1)
    return result


def cuts(blocks: int | tuple[int, ...]) -> int | list[int]:
    """Give the blocks of an axis as ``numpy.split`` takes them.

    Args:
        blocks: How many there are, or their lengths.

    Returns:
        Their number, or the places between them.

    Examples:
        >>> cuts(3), cuts((8, 2, 2))
        (3, [8, 10])
    """
    return blocks if isinstance(blocks, int) else np.cumsum(blocks)[:-1].tolist()


def _merged(value: Array, slot: Slot) -> Array:
    if slot.shape is not None and value.shape != slot.shape:
        raise ValueError(f"{slot.canonical} has shape {value.shape} where its slot says {slot.shape}")
    turned = value.transpose(slot.order)
    sizes = [math.prod(value.shape[axis] for axis in group) for group in slot.groups]
    return turned.reshape(sizes)


def _unmerged(value: Array, slot: Slot, stacked: int) -> Array:
    lead, own = value.shape[:stacked], value.shape[stacked:]
    if len(own) != len(slot.groups):
        raise ValueError(f"axes don't match: {slot.framework} has {len(own)} where its slot says {len(slot.groups)}")
    if slot.shape is None:
        wanted = [1 if not group else size for group, size in zip(slot.groups, own, strict=True)]
        pieces = [size for group, size in zip(slot.groups, own, strict=True) if group]
    else:
        wanted = [math.prod(slot.shape[axis] for axis in group) for group in slot.groups]
        pieces = [slot.shape[axis] for axis in slot.order]
    if list(own) != wanted:
        raise ValueError(f"{slot.framework} has shape {own} where its slot says {tuple(wanted)}")
    inverse = tuple(stacked + int(axis) for axis in np.argsort(slot.order))
    return value.reshape((*lead, *pieces)).transpose((*range(stacked), *inverse))
