"""Find which tensors of two runs are the same: by values, then gradients, then neighbours, then names and order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.dtypes import rounded
from parity.judging.comparable import coarser_dtype
from parity.judging.tensors.by_evidence import Evidence, by_evidence, fused, nearest, paired
from parity.judging.tensors.by_value import by_value
from parity.judging.tensors.components import components
from parity.judging.tensors.correspondence import Correspondence, How, Pairing, first_few, used
from parity.judging.tensors.search import EndedError, Search
from parity.judging.tensors.sides import Side, ancestors, is_within, layer_of, natural, side_of
from parity.judging.tensors.slots import Tensor
from parity.layout import to_canonical
from parity.trajectory import Trajectory, TrajectoryError

Mark = Callable[[Side, Tensor], Hashable]
"""What two tensors must have in common to be paired."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def match(run: Trajectory, other: Trajectory, given: Sequence[Pairing] = ()) -> Correspondence:
    """Find which tensors of two runs are the same.

        Args:
            run: The first run.
            other: The second run.
            given: A user's own pairings, which are taken as they are.

        Returns:
            The correspondence. What is ambiguous is listed in it, and marked unproven. If the search takes more than it
            may, the tensors that are left have no partner, and ``ended`` says so.

        Examples:
            >>> import numpy as np
            >>> from parity.judging.tensors.components import components
    from parity.judging.tensors.correspondence import pasted
            >>> kernel = np.random.default_rng(0).normal(size=(1, 4, 3))
            >>> meta, epochs, loss = {"dtype": "float64"}, np.arange(1), np.zeros((0, 0))
            >>> ours = Trajectory(meta, epochs, loss, {"0.weight": kernel.transpose(0, 2, 1)}, {})
            >>> theirs = Trajectory(meta, epochs, loss, {"Dense_0/kernel": kernel}, {})
            >>> pasted(match(ours, theirs).ours[0])
            "Slot('Dense_0/kernel', '0.weight', axes=(1, 0))"
    """
    coarser = coarser_dtype(run, other)
    return match_sides(side_of(run, coarser), side_of(other, coarser), given)


@np.errstate(all="ignore")
def inferred(run: Trajectory, other: Trajectory, given: Sequence[Pairing] = ()) -> Correspondence | None:
    """Find which tensors of two runs are the same, where their names alone do not say it.

    Names are believed where both runs have the same names and shapes, unless the values of equal names differ, and are
    those of other tensors, or of the same ones transposed.

    Args:
        run: The first run.
        other: The second run.
        given: A user's own pairings.

    Returns:
        The correspondence; None if equal names are the same tensors.
    """
    shapes = [{name: stack.shape[1:] for name, stack in of.params.items()} for of in (run, other)]
    if given or shapes[0] != shapes[1]:
        return match(run, other, given)
    coarser = coarser_dtype(run, other)
    sides = side_of(run, coarser), side_of(other, coarser)
    differ = {
        tensor.name
        for tensor in sides[0].tensors
        if not np.array_equal(sides[0].values(tensor), sides[1].values(tensor), equal_nan=True)
    }
    if not differ:
        return None
    found = match_sides(*sides)
    told = used([pairing for pairing in found.pairings if pairing.how is How.VALUE])
    # Where the search has ended, nobody knows whether the names would have been believed.
    return found if found.ended or differ <= told[0] & told[1] else None


@np.errstate(all="ignore")
def match_sides(ours: Side, theirs: Side, given: Sequence[Pairing] = ()) -> Correspondence:
    """Find which tensors of two sides are the same: see ``match``.

    Args:
        ours: The first side.
        theirs: The second side.
        given: A user's own pairings.

    Returns:
        The correspondence.
    """
    known = used(given)
    mine, others = (
        [tensor for tensor in side.tensors if tensor.name not in names]
        for side, names in zip((ours, theirs), known, strict=True)
    )
    search = Search()
    values = by_value(ours, theirs, mine, others, search)
    state = _State(Evidence(ours, theirs, search), values.ours, values.theirs, notes=values.notes)
    state.pairings = [
        *(_checked(pairing, ours, theirs) for pairing in given),
        *(Pairing(one, its, How.VALUE, proven=True) for one, its in values.matches),
    ]
    ended = search.sentence if values.ended else ""
    if not ended:
        try:
            _tell_the_rest(state)
        except EndedError as end:
            ended = str(end)
    if ended:
        state.notes.insert(0, f"{ended}; {search.remedy}")
    first, second = (tuple(sorted({t.name for t in tensors}, key=natural)) for tensors in (state.ours, state.theirs))
    untrained = ours.untrained, theirs.untrained
    return Correspondence(_distinct(state.pairings), (first, second), untrained, tuple(state.notes), ended)


def _tell_the_rest(state: _State) -> None:
    """Match what values have not told, by whatever else tells. EndedError if the search takes more than it may."""
    state.take(by_evidence(state.evidence, state.ours, state.theirs))
    for of_ours in (True, False):
        _by_stack(state, of_ours)
    _by_layer(state)
    state.take(nearest(state.evidence, state.ours, state.theirs))
    _by_name(state)
    _by_order(state)
    state.take_notes()


def _checked(pairing: Pairing, ours: Side, theirs: Side) -> Pairing:
    """Say whether a user's own pairing begins with equal values; TrajectoryError if it does not fit the runs."""
    try:
        one, other = (
            to_canonical(slots, {name: rounded(side.initial[name], side.dtype) for name in names})
            for slots, side, names in zip((pairing.ours, pairing.theirs), (ours, theirs), pairing.names, strict=True)
        )
        equal = all(np.array_equal(one[name], other[name], equal_nan=True) for name in pairing.canonical)
        shapes = all(one[name].shape == other[name].shape for name in pairing.canonical)
    except (KeyError, ValueError, IndexError) as error:
        raise TrajectoryError(f"the map does not fit the runs at {pairing.canonical[0]}: {error}") from error
    if not shapes:
        raise TrajectoryError(f"the map gives {pairing.canonical[0]} two shapes")
    return replace(pairing, proven=equal, differs=not equal)


@dataclass
class _State:
    """What was found so far, and what is left."""

    evidence: Evidence
    ours: list[Tensor]
    theirs: list[Tensor]
    pairings: list[Pairing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def take(self, pairings: Sequence[Pairing]) -> None:
        """Keep pairings, and strike off their tensors."""
        self.pairings += pairings
        mine, others = used(pairings)
        self.ours = [tensor for tensor in self.ours if tensor.name not in mine]
        self.theirs = [tensor for tensor in self.theirs if tensor.name not in others]

    def pair(self, one: Tensor, other: Tensor, how: How, gates: tuple[int, ...] | None = None) -> None:
        """Pair two tensors, if a slot can say how."""
        pairing = paired(self.evidence, one, other, how, gates)
        if pairing is not None:
            self.take([pairing])

    def take_notes(self) -> None:
        """Say what is strange of the tensors that have no partner."""
        for side, left, mine in ((self.evidence.ours, self.ours, 0), (self.evidence.theirs, self.theirs, 1)):
            names = {name for pairing in self.pairings for name in pairing.names[mine]}
            begun = {side.fingerprint(t): t.name for t in side.tensors if t.name in names and side.telling(t)}
            for tensor in left:
                twin = begun.get(side.fingerprint(tensor)) if side.telling(tensor) else None
                if twin is not None:
                    self.notes.append(f"{tensor.name} begins as {twin} does: are they one tensor in the other run?")


def _distinct(pairings: Sequence[Pairing]) -> tuple[Pairing, ...]:
    """Give each canonical tensor a name of its own."""
    taken: set[str] = set()
    last: dict[str, int] = {}
    found = []
    for pairing in pairings:
        renamed = {}
        for name in pairing.canonical:
            new, number = name, last.get(name, 2)
            while new in taken:
                new, number = f"{name}-{number}", number + 1
            last[name] = number
            taken.add(new)
            renamed[name] = new
        ours, theirs = (
            tuple(replace(slot, canonical=renamed[slot.canonical]) for slot in side)
            for side in (pairing.ours, pairing.theirs)
        )
        found.append(replace(pairing, ours=ours, theirs=theirs))
    return tuple(found)


def _by_stack(state: _State, mine: bool) -> None:
    """Pair what begins with equal values in the stacked layers of one side, slice by slice, as others of it were."""
    blocks = _blocks_of_slices(state.pairings, mine)
    left, others = (state.ours, state.theirs) if mine else (state.theirs, state.ours)
    side = state.evidence.ours if mine else state.evidence.theirs
    wholes = [t for t in left if len(t.shape) > 1 and t.shape[0] == len(blocks) and t.index is None]
    if len(blocks) < 2 or not wholes:
        return
    slices = [Tensor(whole.name, whole.shape[1:], index) for whole in wholes for index in range(len(blocks))]
    rest = [tensor for tensor in left if tensor not in wholes]
    found: dict[tuple[str, int], Pairing] = {}
    for told in (by_evidence, nearest):
        open_ = [piece for piece in slices if (piece.name, piece.index) not in found]
        taken = used(list(found.values()))[1 if mine else 0]
        parts = [tensor for tensor in others if tensor.name not in taken]
        both = ([*open_, *rest], parts) if mine else (parts, [*open_, *rest])
        for pairing in told(state.evidence, *both):
            slot = (pairing.ours if mine else pairing.theirs)[0]
            if slot.index is not None:
                found[slot.framework, slot.index] = pairing
    partner = state.evidence.theirs if mine else state.evidence.ours
    for index, block in enumerate(blocks if len(set(blocks)) == len(blocks) else ()):
        state.evidence.search.go_on()
        taken = used(list(found.values()))[1 if mine else 0]
        within = [t for t in others if t.name not in taken and is_within(t.name, block)]
        marked = _marked(partner, within, _same_values)
        open_ = [piece for piece in slices if piece.index == index and (piece.name, index) not in found]
        for key, some in _marked(side, open_, _same_values).items():
            partners = marked.get(key, [])
            if len(some) != len(partners):
                continue
            ordered = (
                sorted(tensors, key=lambda t, of=of: _rank(of, layer_of(t.name)))  # type: ignore[misc]
                for tensors, of in ((some, side), (partners, partner))
            )
            for piece, part in zip(*ordered, strict=True):
                one, other = (piece, part) if mine else (part, piece)
                how = How.NEIGHBOUR if len(some) == 1 else How.ORDER
                guess = paired(state.evidence, one, other, how)
                if guess is not None:
                    found[piece.name, index] = guess
    for whole in wholes:
        each = [found.get((whole.name, index)) for index in range(len(blocks))]
        known = [pairing for pairing in each if pairing is not None]
        if len(known) == len(each):
            hows = {pairing.how for pairing in known}
            how = next(how for how in (How.ORDER, How.NEIGHBOUR, How.GRADIENT) if how in hows)
            state.take([_joined(known, how)])


def _joined(pairings: Sequence[Pairing], how: How) -> Pairing:
    """The slices of one stack, as one pairing."""
    return Pairing(
        tuple(slot for pairing in pairings for slot in pairing.ours),
        tuple(slot for pairing in pairings for slot in pairing.theirs),
        how,
        all(pairing.proven for pairing in pairings),
        any(pairing.differs for pairing in pairings),
    )


def _blocks_of_slices(pairings: Sequence[Pairing], mine: bool) -> list[str]:
    """The block of one side's layers that each slice of the other side's stacks belongs to; none without stacks."""
    partners: dict[int, set[str]] = defaultdict(set)
    for pairing in pairings:
        stacked, apart = (pairing.ours, pairing.theirs) if mine else (pairing.theirs, pairing.ours)
        names = {slot.canonical: slot.framework for slot in apart if slot.index is None}
        for slot in stacked:
            if slot.index is not None and slot.canonical in names:
                partners[slot.index].add(names[slot.canonical])
    if sorted(partners) != list(range(len(partners))):
        return []
    shared = [
        set.intersection(*(set(ancestors(layer_of(name))[1:]) or {""} for name in partners[k]))
        for k in range(len(partners))
    ]
    return [max(names, key=len) for names in shared]


def _by_layer(state: _State) -> None:
    """Pair what is left within the layers that other tensors were matched in."""
    for mine, others, gates, order in list(_layers(state.pairings, state.evidence.search)):
        state.evidence.search.go_on()
        rank = {layer: number for number, layer in enumerate(order)}

        def left(tensors: Sequence[Tensor], layers: set[str], rank: Mapping[str, int] = rank) -> list[Tensor]:
            within = [tensor for tensor in tensors if layer_of(tensor.name) in layers]
            return sorted(within, key=lambda t: (rank.get(layer_of(t.name), len(rank)), natural(t.name)))

        for mark in (_same_values, _same_size):
            for one, other in _lonely(state, left(state.ours, mine), left(state.theirs, others), mark):
                state.pair(one, other, How.NEIGHBOUR, gates)
            if mark is _same_values:
                state.take(fused(state.evidence, left(state.ours, mine), left(state.theirs, others), gates))


def _layers(
    pairings: Sequence[Pairing],
    search: Search,
) -> Iterator[tuple[set[str], set[str], tuple[int, ...] | None, list[str]]]:
    """Layers of ours and theirs that hang together, the one order of gates in them, and the order of their parts."""
    links = (({layer_of(name) for name in p.names[0]}, {layer_of(name) for name in p.names[1]}, p) for p in pairings)
    for mine, others, within in components(links, search.go_on):
        search.go_on()
        gates = {slot.gates for pairing in within for slot in (*pairing.ours, *pairing.theirs) if slot.gates}
        parts = [
            (slot.block[0], layer_of(slot.framework))
            for pairing in within
            for slot in (*pairing.ours, *pairing.theirs)
            if slot.block
        ]
        yield mine, others, gates.pop() if len(gates) == 1 else None, [layer for _, layer in sorted(parts)]


def _same_values(side: Side, tensor: Tensor) -> Hashable:
    return side.fingerprint(tensor), side.trained(tensor.name)


def _same_size(side: Side, tensor: Tensor) -> Hashable:
    return tuple(sorted(size for size in tensor.shape if size > 1)), side.trained(tensor.name)


def _marked(side: Side, tensors: Sequence[Tensor], mark: Mark) -> Mapping[Hashable, list[Tensor]]:
    found: dict[Hashable, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        found[mark(side, tensor)].append(tensor)
    return found


def _lonely(
    state: _State, mine: Sequence[Tensor], others: Sequence[Tensor], mark: Mark
) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of tensors that are the only ones of their mark; of several, those that fit each other alone."""
    theirs = _marked(state.evidence.theirs, others, mark)
    for key, some in _marked(state.evidence.ours, mine, mark).items():
        partners = theirs.get(key, [])
        if len(some) == len(partners) == 1:
            yield some[0], partners[0]
        elif len(some) == len(partners):
            named = {_role(tensor.name): tensor for tensor in partners}
            if len(named) == len(partners) and all(_role(tensor.name) in named for tensor in some):
                yield from ((tensor, named[_role(tensor.name)]) for tensor in some)


def _role(name: str) -> str:
    return name[len(layer_of(name)) :].strip("/.")


def _by_name(state: _State) -> None:
    """Pair tensors of one name and size."""
    theirs = {tensor.name: tensor for tensor in state.theirs}
    for one in list(state.ours):
        state.evidence.search.go_on()
        other = theirs.get(one.name)
        if other is not None and other.size == one.size:
            state.pair(one, other, How.NAME)


def _by_order(state: _State) -> None:
    """Pair whole layers that are left: within the blocks that other layers were matched in, else as they follow."""
    open_layers: dict[str, str] = {}
    for place in (_block, _anchor, None):
        for mark in (_same_values, _same_size):
            sides = [
                _left_layers(state, side, tensors, mark, place, mine)
                for side, tensors, mine in (
                    (state.evidence.ours, state.ours, True),
                    (state.evidence.theirs, state.theirs, False),
                )
            ]
            for key, layers in sides[0].items():
                partners = sides[1].get(key, [])
                if len(layers) != len(partners):
                    continue
                if _ambiguous(state, layers, partners):
                    names = [[layer_of(layer[0].name) for layer in each] for each in (layers, partners)]
                    if place is None:
                        open_layers[first_few(names[0])] = first_few(names[1])
                    continue
                alike = [tensor.name for layer in layers for tensor in layer]
                open_ = len(layers) > 1 or len(set(key[1])) < len(key[1])
                if open_:
                    state.notes.append(f"matched by order alone: {first_few(alike)}")
                for layer, partner in zip(layers, partners, strict=True):
                    how = How.ORDER if open_ or place is None else How.NEIGHBOUR
                    for one, other in zip(layer, partner, strict=True):
                        state.pair(one, other, how)
    for ours, theirs in open_layers.items():
        why = "they begin with equal values, and nothing says in which order layers run"
        state.notes.append(f"ambiguous and not matched: {ours} may each be any of {theirs}: {why}")


def _ambiguous(state: _State, layers: Sequence[Sequence[Tensor]], partners: Sequence[Sequence[Tensor]]) -> bool:
    """Tell whether several layers of a checkpoint, whose only order is the alphabet's, begin with the same values."""
    ours, theirs = state.evidence.ours, state.evidence.theirs
    stored = [side.run for side in (ours, theirs) if side.run is not None and "origin" in side.run.meta]
    if len(layers) < 2 or not any(not run.steps for run in stored):
        return False  # of a run that was recorded, gradients tell more, or layers run in a known order
    values = {
        tuple(sorted(str(side.fingerprint(tensor)) for tensor in layer))
        for side, some in ((ours, layers), (theirs, partners))
        for layer in some
    }
    return len(values) == 1


Place = Callable[["_State", str, bool], Hashable]


def _left_layers(
    state: _State, side: Side, tensors: Sequence[Tensor], mark: Mark, place: Place | None, mine: bool
) -> dict[tuple[Hashable, tuple[Hashable, ...]], list[list[Tensor]]]:
    """The layers of one side that have tensors without a partner, in order, by where they are and what they hold."""
    layers: dict[str, list[Tensor]] = defaultdict(list)
    for tensor in tensors:
        layers[layer_of(tensor.name)].append(tensor)
    found: dict[tuple[Hashable, tuple[Hashable, ...]], list[list[Tensor]]] = defaultdict(list)
    for layer in sorted(layers, key=lambda layer: _rank(side, layer)):
        state.evidence.search.go_on()
        held = sorted(layers[layer], key=lambda tensor: (str(mark(side, tensor)), natural(tensor.name)))
        where = None if place is None else place(state, layer, mine)
        if place is None or where is not None:
            found[where, tuple(mark(side, tensor) for tensor in held)].append(held)
    return found


def _rank(side: Side, layer: str) -> tuple[int, list[tuple[int, str]]]:
    """Where a layer comes: as it runs, if that is known; else by its name."""
    return side.order.get(layer, len(side.layers)), natural(layer)


def _block(state: _State, layer: str, mine: bool) -> Hashable:
    """The pairings that the innermost block around a layer has; None if that is the whole model."""
    names = [pairing.names[0 if mine else 1] for pairing in state.pairings]
    for block in ancestors(layer)[:-1]:
        within = frozenset(number for number, of in enumerate(names) if any(is_within(name, block) for name in of))
        if within:
            return within
    return None


def _anchor(state: _State, layer: str, mine: bool) -> Hashable:
    """The last matched layer that runs before a layer; None if the order of layers is not known."""
    side = state.evidence.ours if mine else state.evidence.theirs
    if layer not in side.order:
        return None
    matched = {
        layer_of(name): number
        for number, pairing in enumerate(state.pairings)
        for name in pairing.names[0 if mine else 1]
    }
    before = [matched[name] for name in side.layers[: side.order[layer]] if name in matched]
    return before[-1] if before else -1
