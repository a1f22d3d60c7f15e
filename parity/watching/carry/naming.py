"""Which of several layers of one shape is which: by names, by numbers in names, by the order of definition, or open."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from parity.judging.tensors.correspondence import How
from parity.judging.tensors.sides import natural
from parity.watching.carry.units import Unit

SAME = {"linear": "dense", "embed": "embedding"}
"""What frameworks call a layer, in one word each."""
MOST = 5
"""Of at most so many layers every order is tried, whatever they are called."""

Pairs = tuple[tuple[Unit, Unit], ...]
Skeleton = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Group:
    """Layers of both sides that shapes do not tell apart.

    Attributes:
        ours: The source's layers, in its own order.
        theirs: As many of the other's.
        defined: Whether both orders are those in which the models' code defines them.
    """

    ours: Sequence[Unit]
    theirs: Sequence[Unit]
    defined: bool = False

    def told(self) -> tuple[Pairs, How] | None:
        """Pair them by what their names say.

        Returns:
            The pairs and what told; None if that is open.
        """
        if len(self.ours) == 1:
            return ((self.ours[0], self.theirs[0]),), How.ORDER
        mine, others = ({_normal(unit.name): unit for unit in side} for side in (self.ours, self.theirs))
        if mine.keys() == others.keys() and len(mine) == len(self.ours):
            return tuple((unit, others[name]) for name, unit in mine.items()), How.NAME
        some, its = _patterns(self.ours), _patterns(self.theirs)
        found = self._by_words(some, its)
        if found is not None:
            return found, How.ORDER if len(some) == 1 else How.NAME
        return None

    def in_order(self) -> tuple[Pairs, How] | None:
        """Pair them in the order in which the code of both models defines them, if both are known."""
        return (tuple(zip(self.ours, self.theirs, strict=True)), How.ORDER) if self.defined else None

    def _by_words(self, some: Mapping[Skeleton, list[Unit]], its: Mapping[Skeleton, list[Unit]]) -> Pairs | None:
        """Pair names that differ in digits alone, in the order of these; others by the words that they share."""
        pairs: list[tuple[Unit, Unit]] = []
        if len(some) == len(its) == 1:
            fits = {next(iter(some)): next(iter(its))}
        else:
            words, their_words = ({key: _words(key, units) for key, units in side.items()} for side in (some, its))
            common, their_common = (frozenset.intersection(*side.values()) for side in (words, their_words))
            common, their_common = (
                shared if len(side) > 1 else frozenset()
                for shared, side in ((common, words), (their_common, their_words))
            )
            fits = {}
            for key, mine in words.items():
                there = [other for other, said in their_words.items() if mine & said - their_common]
                back = [one for one, said in words.items() if len(there) == 1 and said & their_words[there[0]] - common]
                if len(there) != 1 or back != [key]:
                    return None
                fits[key] = there[0]
        for key, other in fits.items():
            found = _by_digits(key, some[key], other, its[other])
            if found is None:
                return None
            pairs += found
        return tuple(pairs) if len(pairs) == len(self.theirs) else None

    def ways(self) -> Iterator[Pairs]:
        """Every pairing that may be right, the most likely first: what a forward pass is to decide on."""
        told = self.told()
        if told is not None:
            yield told[0]
            return
        # The same pairing is not tried again.
        seen = set()
        for pairs in self._tried():
            key = frozenset((id(one), id(other)) for one, other in pairs)
            if key not in seen:
                seen.add(key)
                yield pairs

    def _tried(self) -> Iterator[Pairs]:
        yield tuple(zip(self.ours, self.theirs, strict=True))
        ranked = sorted(self.theirs, key=lambda unit: natural(unit.name))
        yield tuple(zip(self.ours, ranked, strict=True))
        for refined, its_refined in itertools.product((False, True), repeat=2):
            some, its = list(_patterns(self.ours, refined).values()), list(_patterns(self.theirs, its_refined).values())
            if len(some) != len(its) or sorted(map(len, some)) != sorted(map(len, its)) or len(some) > MOST + 1:
                continue
            for order in itertools.permutations(its):
                if all(len(one) == len(other) for one, other in zip(some, order, strict=True)):
                    pairs = [zip(one, other, strict=True) for one, other in zip(some, order, strict=True)]
                    yield tuple(itertools.chain.from_iterable(pairs))
        if len(self.ours) <= MOST:
            for chosen in itertools.permutations(ranked):
                yield tuple(zip(self.ours, chosen, strict=True))

    def __str__(self) -> str:
        sides = (sorted((unit.name or "(the model itself)" for unit in side), key=natural) for side in
                 (self.ours, self.theirs))  # fmt: skip
        return " and ".join(", ".join(names[:6]) + (", …" if len(names) > 6 else "") for names in sides)


def _normal(name: str) -> tuple[str, ...]:
    """A name without what frameworks write differently: separators and capitals."""
    return tuple(re.findall(r"\d+|[^\W\d_]+", name.lower()))


def _skeleton(name: str, refined: bool = False) -> Skeleton:
    """A name with its numbers taken out; those of its last part are left if it is ``refined``."""
    parts = re.split(r"[./]", name)
    kept = [re.sub(r"\d+", "#", part) for part in parts]
    return (*kept[:-1], parts[-1]) if refined and any("#" in part for part in kept[:-1]) else tuple(kept)


def _patterns(units: Sequence[Unit], refined: bool = False) -> dict[Skeleton, list[Unit]]:
    """Layers whose names differ in digits alone, each list in the order of these; the lists in the units' order."""
    found: dict[Skeleton, list[Unit]] = defaultdict(list)
    for unit in units:
        found[_skeleton(unit.name, refined)].append(unit)
    return {key: sorted(each, key=lambda unit: natural(unit.name)) for key, each in found.items()}


def _words(skeleton: Skeleton, units: Sequence[Unit]) -> frozenset[str]:
    """The words of a layer's name, whatever their length, and those of its kind that are no single letters."""
    names = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", " ".join(skeleton))
    kinds = [word for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", units[0].kind) if len(word) > 1]
    return frozenset(SAME.get(word.lower(), word.lower()) for word in (*names, *kinds))


def _by_digits(key: Skeleton, ours: Sequence[Unit], other: Skeleton, theirs: Sequence[Unit]) -> Pairs | None:
    """Pair layers by the order of the numbers in their names; None if these count otherwise on both sides."""
    if len(ours) != len(theirs):
        return None
    mine, its = (_ranks(units) for units in (ours, theirs))
    several = len(mine[0][0]) > 1 and len(its[0][0]) > 1
    if several:
        # Numbers of as many kinds, which must not be another kind in the other: layers.0.proj1 is no proj.0.layer1.
        words, their_words = _before(key, mine[1]), _before(other, its[1])
        crossed = any(
            word and word == its_word and k != j
            for k, word in enumerate(words)
            for j, its_word in enumerate(their_words)
        )
        if mine[0] != its[0] or crossed:
            return None
    return tuple(zip(ours, theirs, strict=True))


def _ranks(units: Sequence[Unit]) -> tuple[list[tuple[int, ...]], list[int]]:
    """The ranks of the numbers in each name, of those numbers alone that vary, and which these are."""
    numbers = [[int(number) for number in re.findall(r"\d+", unit.name)] for unit in units]
    varying = [place for place, column in enumerate(zip(*numbers, strict=True)) if len({*column}) > 1]
    rank = {place: {value: k for k, value in enumerate(sorted({row[place] for row in numbers}))} for place in varying}
    return [tuple(rank[place][row[place]] for place in varying) for row in numbers], varying


def _before(skeleton: Skeleton, varying: Sequence[int]) -> list[str]:
    """The word before each number that varies."""
    found = re.findall(r"([^\W\d_]*)[_./]?#", "/".join(skeleton).lower())
    return [found[place] for place in varying]
