"""How the tensors of one layer become those of its partner: slots of both sides, and the values that go over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from parity.judging.tensors.arrangement import Arrangement, Digit
from parity.judging.tensors.correspondence import How, Pairing
from parity.judging.tensors.slots import Tensor, one_to_one
from parity.layout import Slot, to_canonical, to_framework
from parity.typing import Array, Params
from parity.watching.carry.models import Model
from parity.watching.carry.units import GRU, STATISTICS, Piece, Unit, flipped, named


@dataclass(frozen=True)
class Joined:
    """Two layers that are one: the pairings of their tensors, and what the second's are set to."""

    pairings: tuple[Pairing, ...]
    values: Params
    notes: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    """Tensors of the source that have no partner and went into others."""


def fit(one: Unit, other: Unit, given: Model, taken: Model) -> bool:
    """Say whether two layers may be one, by their tensors' shapes."""
    return bool(_ways(one, other, given, taken))


def joined(one: Unit, other: Unit, given: Model, taken: Model, how: How) -> Iterator[Joined]:
    """Give every way in which two layers are one; more than one if shapes leave open how a kernel lies.

    Args:
        one: The source's layer.
        other: Its partner.
        given: The source.
        taken: The model that is set.
        how: What told that they are one.

    Yields:
        The ways.

    Raises:
        ValueError: If the partner lacks a bias that the source's layer cannot do without.
    """
    if one.recurrent:
        yield _gates(one, other, given, how)
        return
    for way in _ways(one, other, given, taken):
        pairings = tuple(Pairing(ours, theirs, how) for ours, theirs in way)
        values: Params = {}
        for ours, theirs in way:
            values |= to_framework(theirs, to_canonical(ours, given.tensors))
        yield Joined(pairings, values)


Way = tuple[tuple[tuple[Slot, ...], tuple[Slot, ...]], ...]


def _ways(one: Unit, other: Unit, given: Model, taken: Model) -> list[Way]:
    """The slots of both sides, tensor by tensor, for each way in which the layers are one; none if they are not."""
    if one.form != other.form or one.roles != other.roles:
        return []
    if None not in (one.transposed, other.transposed) and one.transposed != other.transposed:
        return []
    choices = []
    for role in one.pieces.keys() & other.pieces.keys():
        mine, its = one.pieces[role], other.pieces[role]
        canonical = its.slots[0].framework if len(its.slots) == 1 else f"{other.name}/{role}".lstrip("/")
        found = _same(mine, its, canonical, given, taken)
        if one.transposed or other.transposed:
            found += _turned(mine, its, canonical, one, other)
        if not found and role not in STATISTICS:
            return []
        choices.append([(role, way) for way in found])
    # In the order of the source's tensors.
    order = list(one.pieces)
    each = itertools.product(*sorted(filter(None, choices), key=lambda ways: order.index(ways[0][0])))
    return [tuple(way for _, way in chosen) for chosen in each]


def _same(
    mine: Piece, its: Piece, canonical: str, given: Model, taken: Model
) -> list[tuple[tuple[Slot, ...], tuple[Slot, ...]]]:
    """The slots of two tensors that hold the same values in the same order of axes, these merged in one or not."""
    if mine.shape == its.shape:
        return [(named(mine.slots, canonical), named(its.slots, canonical))]
    if np.prod(mine.shape) != np.prod(its.shape) or len(mine.slots) > 1 or len(its.slots) > 1:
        return []
    if (
        mine.slots[0].flip
        or its.slots[0].flip
        or not (_refines(mine.shape, its.shape) or _refines(its.shape, mine.shape))
    ):
        return []
    # Whichever has the plain order of axes is the target: it is the common layout.
    for source, target, swapped in ((mine, its, False), (its, mine, True)):
        if target.slots[0].axes is None:
            models = (taken, given) if swapped else (given, taken)
            way = _reshaped(source, target, canonical, *models)
            return [way[::-1] if swapped else way] if way is not None else []
    return []


def _refines(fine: Sequence[int], coarse: Sequence[int]) -> bool:
    """Say whether axes of one shape, merged with their neighbours, are those of the other.

    >>> _refines((8, 2, 4), (8, 8)), _refines((2, 3), (3, 2))
    (True, False)
    """
    ends, its_ends = ({*itertools.accumulate(shape, int.__mul__)} for shape in (fine, coarse))
    return its_ends - {1} <= ends


def _reshaped(
    source: Piece, target: Piece, canonical: str, model: Model, other: Model
) -> tuple[tuple[Slot, ...], tuple[Slot, ...]] | None:
    (mine,), (its,) = source.slots, target.slots
    strides = [int(np.prod(source.shape[axis + 1 :])) for axis in range(len(source.shape))]
    shape = model.tensors[mine.framework].shape
    axes = [axis for axis in mine.axes or range(len(shape)) if isinstance(axis, int)]
    found = Arrangement(0, tuple(Digit(size, strides[axis]) for size, axis in zip(shape, axes, strict=True)))
    both = one_to_one(
        Tensor(mine.framework, shape), Tensor(its.framework, other.tensors[its.framework].shape), found, canonical
    )
    return None if both is None else (both.source, both.target)


def _turned(
    mine: Piece, its: Piece, canonical: str, one: Unit, other: Unit
) -> list[tuple[tuple[Slot, ...], tuple[Slot, ...]]]:
    """The slots of a transposed convolution's kernel and of flax's, which has its axes the other way.

    Of a tree of weights, which has no kinds of layers, nothing tells whether it is as the others' are.
    """
    count = len(mine.shape)
    axes, flip = flipped(count) if count > 2 else ((), ())
    if count < 3 or tuple(mine.shape[axis] for axis in axes) != its.shape:
        return []
    sides = []
    for piece, unit in ((mine, one), (its, other)):
        (slot,) = piece.slots
        plain = slot.axes is None and not unit.kind
        sides.append((Slot(canonical, slot.framework, axes=axes, flip=flip),) if plain else named((slot,), canonical))
    plain_sides = [not unit.kind for unit in (one, other)]
    return [(sides[0], sides[1])] if sum(plain_sides) == 1 else []


def _gates(one: Unit, other: Unit, given: Model, how: How) -> Joined:
    """Join recurrent layers, of which frameworks keep two biases each, one of a GRU's n alone, or one."""
    pairings: list[Pairing] = []
    notes: list[str] = []
    alone: tuple[str, ...] = ()
    canonical: Params = {}
    for role, piece in one.pieces.items():
        slots = tuple(replace(slot, block=None) for slot in piece.slots) if piece.partial else piece.slots
        found = to_canonical(slots, given.tensors)[role]
        canonical[role] = np.concatenate([np.zeros(2 * len(found), found.dtype), found]) if piece.partial else found
    hidden, width = one.pieces["recurrent_kernel"].shape
    added_up = 2 * hidden if one.form == GRU else width  # a GRU's n resets one of its two biases before it adds them
    theirs = other.pieces.get("recurrent_bias")
    bias = canonical.get("recurrent_bias")
    if bias is not None and (theirs is None or theirs.partial):
        if theirs is None and np.any(bias[added_up:]):
            raise ValueError(
                f"{other.name} has no hidden bias of its gate n, and that of {one.name} is not zero: the layers are "
                "not the same function"
            )
        if np.any(bias[:added_up]) and "input_bias" in canonical:
            added = canonical["input_bias"].copy()
            added[:added_up] += bias[:added_up]
            canonical["input_bias"] = added
            gates = " of its gates r and z" if one.form == GRU else ""
            notes.append(
                f"{other.name} has one bias{gates} where {one.name} adds two: it was given their sum, and an update of "
                "the two moves the sum twice as far"
            )
    if bias is None and theirs is not None:
        canonical["recurrent_bias"] = np.zeros(width, canonical["recurrent_kernel"].dtype)
    for role, piece in other.pieces.items():
        label = f"{other.name}/{role}".lstrip("/")
        slots = named(piece.slots, label)
        if role in one.pieces and canonical[role].shape == piece.shape:
            pairings.append(Pairing(named(one.pieces[role].slots, label), slots, how))
    if bias is not None and theirs is None:
        alone = tuple(slot.framework for slot in one.pieces["recurrent_bias"].slots)
    values = to_framework([slot for piece in other.pieces.values() for slot in piece.slots], canonical)
    return Joined(tuple(pairings), values, tuple(notes), alone)


def values_of(each: Sequence[Joined]) -> Mapping[str, Array]:
    """All that is set."""
    return {name: value for one in each for name, value in one.values.items()}
