"""Between the canonical layout and a framework's own: explicit data and the two functions that apply it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from parity.typing import Array, Params


@dataclass(frozen=True)
class Slot:
    """Where one canonical tensor lives in a framework.

    ``axes`` transposes canonical to framework. ``gates`` reorders equal blocks of the canonical last axis first:
    ``(1, 0, 2)`` takes r, z, n to z, r, n. ``block`` is ``(k, n)`` where the framework keeps the k-th of n equal
    blocks of the canonical last axis in a tensor of its own. ``index`` is the place along a leading axis where
    the framework stacks several canonical tensors into one.
    """

    canonical: str
    framework: str
    axes: tuple[int, ...] | None = None
    gates: tuple[int, ...] | None = None
    block: tuple[int, int] | None = None
    index: int | None = None


Layout = Sequence[Slot]


def to_framework(layout: Layout, params: Mapping[str, Array]) -> Params:
    """Canonical arrays to the framework's names, axis orders, gate orders and stacks. KeyError for a missing one."""
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
    """The inverse of ``to_framework``, as fresh copies.

    ``stacked`` is the number of leading axes that the layout does not know of: 1 for snapshots stacked by epoch.
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
