"""Which tensors of one run are which of another's, how that was found, and whether it is proven."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from parity.layout import Slot
from parity.recording.files import read_whole
from parity.recording.manifest import parsed
from parity.trajectory import TrajectoryError

MAP_BYTES = 16 << 20
"""The size of the largest map that is read."""


class How(StrEnum):
    """What a pairing of tensors was found by."""

    VALUE = "value"
    """All initial values, in an arrangement that unique values tell."""
    GRADIENT = "gradient"
    """Gradients or later values, which this pairing alone has in common; initial values are equal and tell nothing."""
    NAME = "name"
    NEIGHBOUR = "neighbour"
    """The layer that other tensors were matched in."""
    ORDER = "order"
    FORWARD = "forward"
    """One forward pass of both models agrees, and would not with another pairing."""
    MAP = "map"
    """A user's own map."""


@dataclass(frozen=True)
class Pairing:
    """Tensors of both runs that are the same: usually one of each, or one and its parts.

    Attributes:
        ours: The first run's slots.
        theirs: The second run's slots, of the same canonical tensors.
        how: What told.
        proven: Whether all initial values are equal, and values or gradients leave no other pairing.
        differs: Whether the runs begin with different values of it.
        note: What else is to be known, in a sentence.

    Examples:
        >>> ours, theirs = Slot("kernel", "0.weight", axes=(1, 0)), Slot("kernel", "kernel")
        >>> kernel = Pairing((ours,), (theirs,), How.VALUE, proven=True)
        >>> kernel.names
        (('0.weight',), ('kernel',))
    """

    ours: tuple[Slot, ...]
    theirs: tuple[Slot, ...]
    how: How
    proven: bool = False
    differs: bool = False
    note: str = ""

    @property
    def names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the tensors on both sides."""
        return tuple(dict.fromkeys(slot.framework for slot in self.ours)), tuple(
            dict.fromkeys(slot.framework for slot in self.theirs)
        )

    @property
    def canonical(self) -> tuple[str, ...]:
        """The names of the canonical tensors."""
        return tuple(dict.fromkeys(slot.canonical for slot in self.ours))

    @property
    def parts(self) -> tuple[str, ...]:
        """What the blocks of canonical tensors are called, where one run has each as a tensor of its own."""
        return tuple(label(slot) for slot in (*self.ours, *self.theirs) if slot.block is not None)


def label(slot: Slot) -> str:
    """A slot's own name, which no other slot of its layout has.

    Examples:
        >>> label(Slot("h0/kernel", "h/kernel", index=0))
        'h/kernel/0'
    """
    return slot.framework if slot.index is None else f"{slot.framework}/{slot.index}"


@dataclass(frozen=True)
class Correspondence:
    """Which tensors of two runs are the same.

    Attributes:
        pairings: The tensors that were matched.
        alone: The tensors of each run that were not.
        untrained: The tensors of each run that no optimizer trains, as far as known.
        notes: What is ambiguous, or strange, each in a sentence.
        ended: Why the search for partners ended before all was looked at, in a sentence; "" if it did not.
    """

    pairings: tuple[Pairing, ...]
    alone: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    untrained: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    notes: tuple[str, ...] = ()
    ended: str = ""

    @property
    def ours(self) -> tuple[Slot, ...]:
        """The first run's layout."""
        return tuple(slot for pairing in self.pairings for slot in pairing.ours)

    @property
    def theirs(self) -> tuple[Slot, ...]:
        """The second run's layout."""
        return tuple(slot for pairing in self.pairings for slot in pairing.theirs)

    @property
    def unproven(self) -> tuple[Pairing, ...]:
        """The pairings that nothing proves."""
        return tuple(pairing for pairing in self.pairings if not pairing.proven)

    @property
    def missed(self) -> tuple[str, ...]:
        """The trained tensors of both runs that have no partner."""
        sides = zip(self.alone, self.untrained, strict=True)
        return tuple(dict.fromkeys(name for names, left in sides for name in names if name not in left))

    @property
    def certain(self) -> bool:
        """Whether every trained tensor has a partner that is proven."""
        open_ = [name for pairing in self.unproven for name in pairing.names[0] if name not in self.untrained[0]]
        return not open_ and not self.missed and not self.ended

    def pairing_of(self, name: str) -> Pairing | None:
        """The pairing that a canonical tensor belongs to, or a part of one that is fused in one run."""
        return self._by_name.get(name)

    @cached_property
    def _by_name(self) -> dict[str, Pairing]:
        """Each pairing by its canonical tensors, then by their parts; the first of several."""
        found: dict[str, Pairing] = {}
        named = [(name, pairing) for pairing in self.pairings for name in pairing.canonical]
        named += [(name, pairing) for pairing in self.pairings for name in pairing.parts]
        for name, pairing in named:
            found.setdefault(name, pairing)
        return found

    @property
    def sentence(self) -> str:
        """Say how many tensors were matched and proven."""
        counts = [len({slot.framework for slot in layout}) for layout in (self.ours, self.theirs)]
        totals = [count + len(alone) for count, alone in zip(counts, self.alone, strict=True)]
        first, second = (f"{count} of {total}" for count, total in zip(counts, totals, strict=True))
        said = f"{first} tensors matched" + ("" if first == second else f" with {second}")
        open_ = [_and(pairing.names[0]) for pairing in self.unproven]
        if not open_:
            return f"{said}, all proven"
        return f"{said}; not proven: {first_few(open_)}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The sentence, what is ambiguous, and the tensors without a partner."""
        said = [self.sentence, *self.notes]
        for which, names in zip(("first", "second"), self.alone, strict=True):
            if names:
                said.append(f"without a partner in the {which} run: {first_few(names)}")
        if self.pairings and all(pairing.differs for pairing in self.pairings):
            said.append("the runs begin with different values: tensors are matched by names, shapes and order alone")
        return tuple(said)

    def as_json(self) -> dict[str, Any]:
        """Give it as plain data, which ``from_json`` reads."""
        return {
            "pairings": [
                {
                    "ours": [_plain(slot) for slot in pairing.ours],
                    "theirs": [_plain(slot) for slot in pairing.theirs],
                    "how": str(pairing.how),
                    "proven": pairing.proven,
                    "differs": pairing.differs,
                    "note": pairing.note,
                }
                for pairing in self.pairings
            ],
            "alone": {"ours": list(self.alone[0]), "theirs": list(self.alone[1])},
            "sentence": self.sentence,
            "notes": list(self.notes),
        }


def first_few(names: Sequence[str], most: int = 4) -> str:
    """List names, and how many more there are.

    Examples:
        >>> first_few(["a", "b"]), first_few(["a", "b", "c"], most=2)
        ('a, b', 'a, b and 1 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _and(names: Sequence[str]) -> str:
    return " + ".join(names)


def _plain(slot: Slot) -> dict[str, Any]:
    """Give a slot as plain data, without what it leaves out."""
    return {
        field.name: getattr(slot, field.name) for field in fields(slot) if getattr(slot, field.name) != field.default
    }


def pasted(slot: Slot) -> str:
    """Write a slot as Python, as a layout takes it.

    Examples:
        >>> pasted(Slot("Dense_0/kernel", "0.weight", axes=(1, 0)))
        "Slot('Dense_0/kernel', '0.weight', axes=(1, 0))"
    """
    said = _plain(slot)
    names = [repr(said.pop(name)) for name in ("canonical", "framework")]
    return f"Slot({', '.join(names + [f'{name}={value!r}' for name, value in said.items()])})"


def read_map(path: Path) -> list[Pairing]:
    """Read pairings from a file, as ``parity match --json`` writes it.

    Args:
        path: The file.

    Returns:
        Its pairings, as a user's own.

    Raises:
        TrajectoryError: If it cannot be read or holds no such thing.
    """
    try:
        content = parsed(read_whole(path, MAP_BYTES, path.parent), path)
    except OSError as error:
        raise TrajectoryError(f"{path}: cannot be read: {error.strerror}") from error
    said = content.get("pairings") if isinstance(content, dict) else None
    if not isinstance(said, list):
        raise TrajectoryError(f"{path}: holds no list of pairings, as 'parity match A B --json FILE' writes it")
    found = []
    for each in said:
        sides = [each.get(side) if isinstance(each, dict) else None for side in ("ours", "theirs")]
        slots = [tuple(_read(slot, path) for slot in side) for side in sides if isinstance(side, list) and side]
        if len(slots) != 2 or {slot.canonical for slot in slots[0]} != {slot.canonical for slot in slots[1]}:
            raise TrajectoryError(f"{path}: a pairing has slots of ours and theirs, with the same canonical names")
        found.append(Pairing(slots[0], slots[1], How.MAP))
    return found


def _read(said: Any, path: Path) -> Slot:
    """One slot of a map; TrajectoryError if it is none."""
    known = {field.name for field in fields(Slot)}
    names = said if isinstance(said, dict) and said.keys() <= known else {}
    canonical, framework = (names.get(name) for name in ("canonical", "framework"))
    rest: dict[str, Any] = {
        name: _tuples(value) for name, value in names.items() if name not in ("canonical", "framework")
    }
    if isinstance(canonical, str) and isinstance(framework, str) and all(map(_counts, rest.values())):
        try:
            return Slot(canonical, framework, **rest)
        except (ValueError, TypeError) as error:
            raise TrajectoryError(f"{path}: {error}") from error
    raise TrajectoryError(f"{path}: {json.dumps(said)[:120]} is no slot of a layout: see parity.Slot")


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _counts(value: Any) -> bool:
    """Say whether it is an integer from 0 on, or such integers in tuples."""
    if isinstance(value, tuple):
        return all(map(_counts, value))
    return type(value) is int and 0 <= value < 2**31


def used(pairings: Iterable[Pairing]) -> tuple[set[str], set[str]]:
    """The names of both sides that pairings have."""
    names = [pairing.names for pairing in pairings]
    return {name for ours, _ in names for name in ours}, {name for _, theirs in names for name in theirs}
