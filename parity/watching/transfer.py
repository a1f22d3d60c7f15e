"""Carry the initial weights of one framework's model into another's, and prove it by one forward pass of both."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.judging.tensors.components import components
from parity.judging.tensors.correspondence import Correspondence, How, Pairing, first_few, read_map, used
from parity.judging.tensors.sides import natural
from parity.layout import to_canonical, to_framework
from parity.watching.carry.joining import Joined, fit, joined
from parity.watching.carry.models import Model, model_of
from parity.watching.carry.naming import Group
from parity.watching.carry.proof import prove
from parity.watching.carry.units import Unit, has_fused_heads, units_of

SAY = (
    "say it with mapping={source's layer: model's layer, …}, or hand over inputs, so that a forward pass of both "
    "models tells"
)


def transfer(
    source: Any,
    into: Any,
    *,
    inputs: Any = None,
    into_inputs: Any = None,
    mapping: Mapping[str, str] | str | os.PathLike[str] | None = None,
) -> Correspondence:
    """Set a model's initial weights to those of another framework's.

    No values tell yet which tensor is which. Shapes do, as far as they differ; then names; then the numbers in names
    that differ in these alone, as those of ``h.0`` and ``h.1``; then the order in which both models' code defines its
    layers. What these leave open is refused, unless ``inputs`` are there: then one forward pass of both models tells.
    It also tells whether all of it was right.

    Args:
        source: Where the weights are: a torch module, a Keras model, an nnx module, a tree of flax's parameters, a pair
            of a flax module and its variables, a recording's folder, or a mapping of names to tensors.
        into: Where they go: any of these but a recording. Trees are changed in place, and must be of dictionaries.
        inputs: What both models are called with, to prove the weights: an array, several in a tuple, or a mapping of
            the names of arguments to arrays. A tree alone cannot be called: hand over ``(module, variables)``, or
            ``(function, variables)`` where the call needs more, as ``lambda variables, x: net.apply(variables, x,
            train=False)``. Models are called without dropout and with their running statistics.
        into_inputs: What ``into`` is called with, if its inputs have another order of axes than the source's.
        mapping: Which layers or tensors of the source are which of the model's, by name; or a file that ``parity match
            --json`` wrote. What it says is taken as it is.

    Returns:
        Which tensor is which. With ``inputs``, what the outputs tell from every exchange of two layers is proven.

    Raises:
        ValueError: If shapes, names and order leave open which tensor is which, or if the outputs do not agree within
            rounding. Nothing is set then.
        TrajectoryError: If a recording or a file cannot be read.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from parity import transfer
        >>> params = {"Dense_0": {"kernel": np.zeros((2, 3)), "bias": np.zeros(3)}}
        >>> layer = torch.nn.Sequential(torch.nn.Linear(2, 3))
        >>> transfer(layer, into=params).sentence
        '2 of 2 tensors matched; not proven: 0.weight, 0.bias'
        >>> bool(np.array_equal(params["Dense_0"]["kernel"], layer[0].weight.detach().numpy().T))
        True

        A forward pass proves it:

        >>> forward = lambda params, x: x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]
        >>> transfer(layer, into=(forward, params), inputs=np.ones((4, 2))).sentence
        '2 of 2 tensors matched, all proven'
    """
    given, taken = model_of(source), model_of(into)
    forced, said = (
        ([], mapping or {}) if mapping is None or isinstance(mapping, Mapping) else (read_map(Path(mapping)), {})
    )
    own = [[_by_map(forced, given, taken)]] if forced else []
    groups = [*_groups(given, taken, forced, said)]
    choices = [iter([each]) for each in own] + [
        _choices(group, given, taken, open_=inputs is not None) for group in groups
    ]
    if inputs is None:
        plan: Sequence[Sequence[Joined]] = [_only(each) for each in choices]
        for one in (one for group in plan for one in group):
            for name, value in one.values.items():
                taken.put(name, value)
        return _found(plan, given, taken)
    plan = prove(given, taken, choices, inputs, inputs if into_inputs is None else into_inputs)
    return _found(plan, given, taken, proved=True)


def _found(plan: Sequence[Sequence[Joined]], given: Model, taken: Model, proved: bool = False) -> Correspondence:
    every = [one for group in plan for one in group]
    place = {name: k for k, name in enumerate(given.tensors)}
    pairings = sorted((p for one in every for p in one.pairings), key=lambda p: place[p.names[0][0]])
    ours, theirs = used(pairings)
    notes = [note for one in every for note in one.notes]
    if proved:
        notes.insert(0, "the outputs of one forward pass of both models agree within rounding")
    alone = [tuple(n for n in model.tensors if n not in names) for model, names in ((given, ours), (taken, theirs))]
    return Correspondence(tuple(pairings), (alone[0], alone[1]), notes=tuple(notes))


def _by_map(pairings: Sequence[Pairing], given: Model, taken: Model) -> Joined:
    """What a file says, which needs to name tensors of both models."""
    for names, model, which in zip(used(pairings), (given, taken), ("source", "model"), strict=True):
        missing = sorted(names - model.tensors.keys(), key=natural)
        if missing:
            raise ValueError(f"the mapping names {first_few(missing)}, which the {which} does not have")
    found = Correspondence(tuple(pairings))
    return Joined(tuple(pairings), to_framework(found.theirs, to_canonical(found.ours, given.tensors)))


def _groups(given: Model, taken: Model, forced: Sequence[Pairing], said: Mapping[str, str]) -> Iterator[Group]:
    """Sort the layers of both sides into groups that shapes do not tell apart; ValueError if one lacks partners."""
    fused = has_fused_heads(given) or has_fused_heads(taken)
    done = used(forced)
    some = _units(given, fused, {*said}, done[0])
    others = _units(taken, fused, {*said.values()}, done[1])
    left, right = list(some), list(others)
    for one, other in _said(said, some, others):
        left.remove(one)
        right.remove(other)
        if not fit(one, other, given, taken):
            raise ValueError(f"the mapping says that {one.name} is {other.name}, whose tensors have other shapes")
        yield Group([one], [other])
    for mine, its in _components(left, right, given, taken):
        if len(mine) != len(its):
            lists = [", ".join(sorted(map(_in_words, side), key=natural)[:4]) or "none" for side in (mine, its)]
            raise ValueError(
                f"of one shape the source has {len(mine)} ({lists[0]}), the model {len(its)} ({lists[1]}): which is "
                "which cannot be told"
            )
        yield Group(mine, its, given.defined and taken.defined)


def _units(model: Model, fused: bool, told: Collection[str], done: Collection[str]) -> list[Unit]:
    """The layers of a model, without those that have tensors in ``done``."""

    def names(unit: Unit) -> set[str]:
        return {slot.framework for piece in unit.pieces.values() for slot in piece.slots}

    return [unit for unit in units_of(model, fused, told) if names(unit).isdisjoint(done)]


def _in_words(unit: Unit) -> str:
    pieces = ", ".join(f"{slot.framework} {piece.shape}" for piece in unit.pieces.values() for slot in piece.slots[:1])
    return pieces or unit.name


def _said(said: Mapping[str, str], some: Sequence[Unit], others: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """The layers that a user's mapping pairs: by their own names, or by those of tensors of them."""
    pairs: dict[int, tuple[Unit, Unit]] = {}
    for names in said.items():
        found = []
        for name, side, which in zip(names, (some, others), ("source", "model"), strict=True):
            unit = next((unit for unit in side if unit.name == name), None) or next(
                (
                    unit
                    for unit in side
                    if any(slot.framework == name for piece in unit.pieces.values() for slot in piece.slots)
                ),
                None,
            )
            if unit is None:
                raise ValueError(f"the mapping names {name}, and the {which} has no such layer or tensor")
            found.append(unit)
        pairs.setdefault(id(found[0]), (found[0], found[1]))
        if pairs[id(found[0])][1] is not found[1]:
            raise ValueError(f"the mapping says two partners of {found[0].name}")
    if len({id(other) for _, other in pairs.values()}) < len(pairs):
        raise ValueError("the mapping gives two layers of the source one partner")
    yield from pairs.values()


def _components(
    some: Sequence[Unit], others: Sequence[Unit], given: Model, taken: Model
) -> Iterator[tuple[list[Unit], list[Unit]]]:
    """Layers of both sides that may be each other's partners, and all that hang together with them."""
    links = (({one}, {other for other in others if fit(one, other, given, taken)}, None) for one in some)
    found = [(sorted(mine, key=some.index), sorted(its, key=others.index)) for mine, its, _ in components(links)]
    yield from sorted(found, key=lambda each: some.index(each[0][0]))
    known = {other for _, its in found for other in its}
    rest = [other for other in others if other not in known]
    if rest:
        yield [], rest


def _choices(group: Group, given: Model, taken: Model, open_: bool) -> Iterator[Sequence[Joined]]:
    """The ways in which the layers of a group are joined; ValueError if that is open and must not be."""
    told = group.told() or group.in_order()
    if told is None and not open_:
        raise ValueError(f"which is which cannot be told, for they have one shape: {group}; {SAY}")
    how = told[1] if told is not None else How.ORDER
    for pairs in group.ways() if open_ or told is None else [told[0]]:
        if not all(fit(one, other, given, taken) for one, other in pairs):
            continue
        ways = [list(joined(one, other, given, taken, how)) for one, other in pairs]
        # How a kernel lies is the same for all layers of one kind.
        for k in range(max(map(len, ways))):
            yield [each[min(k, len(each) - 1)] for each in ways]


def _only(ways: Iterator[Sequence[Joined]]) -> Sequence[Joined]:
    """The one way in which layers are joined; ValueError if there are several."""
    first, second = next(ways, None), next(ways, None)
    if first is None or second is not None:
        names = "none" if first is None else first_few([name for one in first for name in one.values])
        raise ValueError(f"which of its axes is which cannot be told of {names}: hand over inputs, so that a forward "
                         "pass of both models tells")  # fmt: skip
    return first
