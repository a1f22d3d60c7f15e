"""Between the canonical layout and a framework's own: explicit data and the two functions that apply it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.typing import Array, Params


@dataclass(frozen=True)
class Slot:
    """Where one canonical tensor lives in a framework.

    From canonical to framework the steps are applied in this order: ``gates``, ``block``, ``axes``, ``index``.

    Attributes:
        canonical: The canonical name, ``layer/role``, as in ``dense/kernel``.
        framework: The framework's name, as in ``0.weight``.
        axes: The framework's axes as axes of the canonical tensor, as ``numpy.transpose`` takes them: ``(1, 0)`` for a
            torch linear layer, ``(3, 2, 0, 1)`` for a torch convolution.
        gates: The framework's order of equal blocks of the canonical last axis: ``(1, 0, 2)`` takes r, z, n to z, r, n.
        block: ``(k, n)`` if the framework keeps the k-th of n equal blocks of the canonical last axis in a tensor of
            its own.
        index: The place along a new leading axis if the framework stacks several canonical tensors into one.

    Examples:
        >>> Slot("dense/kernel", "0.weight", axes=(1, 0)).axes
        (1, 0)
    """

    canonical: str
    framework: str
    axes: tuple[int, ...] | None = None
    gates: tuple[int, ...] | None = None
    block: tuple[int, int] | None = None
    index: int | None = None


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
            value = np.split(value, slot.block[1], -1)[slot.block[0]]
        if slot.axes is not None:
            value = value.transpose(slot.axes)
        if slot.index is not None:
            stacks.setdefault(slot.framework, {})[slot.index] = value
        else:
            result[slot.framework] = np.ascontiguousarray(value)
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
    lead = tuple(range(stacked))
    for slot in layout:
        value = params[slot.framework]
        if slot.index is not None:
            value = np.take(value, slot.index, axis=stacked)
        if slot.axes is not None:
            value = value.transpose(lead + tuple(stacked + int(axis) for axis in np.argsort(slot.axes)))
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
