"""Two checkpoints held against each other tensor by tensor, however large they are.

They are files of weights, and no runs: whether anything was trained is not asked. All that both hold is compared, and
each number may be off by 64 roundings of its tensor's largest value, as that of a run without a measured noise floor.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from parity.dtypes import coarsest, rounded
from parity.judging.compare import Difference, difference_of
from parity.judging.floors.floor import Source
from parity.judging.moments import EPOCH
from parity.judging.streamed import Pair, Progress, fingerprint_of, measure, number_at
from parity.judging.tensors.correspondence import first_few
from parity.judging.verdict import Evidence, Judgement, Verdict, coarse, judge_evidence
from parity.recording.artefacts import Artefact, as_trajectory, dtype_of, is_artefact, read_artefact, shards_of
from parity.recording.artefacts.artefact import Entry
from parity.recording.limits import Budget
from parity.recording.placed import Placed, size_of
from parity.tolerance import FACTOR, ROUNDINGS, least_floor
from parity.trajectory import Trajectory

Begin = Callable[[int], Progress]
"""Is told how many bytes will be read, and gives what is told of them."""


def unwatched(size: int) -> Progress:
    """Watch nothing."""
    return lambda read, name: None


@dataclass(frozen=True)
class Checkpoints:
    """Two checkpoints that were opened to be compared.

    Attributes:
        a: The first.
        b: The one that it is held against.
        budgets: What the reading of each took.
    """

    a: Artefact
    b: Artefact
    budgets: tuple[Budget, Budget]

    @property
    def fit(self) -> bool:
        """Whether both hold the same floating-point tensors, of the same shapes, by the same names."""
        shapes = [{name: entry.shape for name, entry in floats(one).items()} for one in (self.a, self.b)]
        return shapes[0] == shapes[1] != {}

    def as_runs(self) -> tuple[Trajectory, Trajectory]:
        """Take them for runs, which are read whole. LimitError if they are too large for that."""
        for one, budget in zip((self.a, self.b), self.budgets, strict=True):
            Budget().spend(one.path, size=max(budget.on_disk, sum(map(size_of, floats(one).values()))))
        return as_trajectory(self.a), as_trajectory(self.b)


@dataclass(frozen=True)
class Held:
    """What was found of two checkpoints."""

    judgement: Judgement
    worst: tuple[Difference | None, Difference | None, Difference | None]
    """The largest absolute difference, the largest relative one, and the largest in units in the last place."""
    notes: tuple[str, ...]
    preflight: tuple[str, ...]


def opened_checkpoints(a: str | PathLike[str], b: str | PathLike[str], shards: str = "") -> Checkpoints | None:
    """Open two checkpoints; None if one is a recording, or a log of losses.

    ``shards`` says how shards of ranks are joined. TrajectoryError if one cannot be read; ReplicasError if it is ranks
    that should hold the same numbers, and do not.
    """
    if not (is_artefact(a) and is_artefact(b)):
        return None
    budgets = Budget(streams=True), Budget(streams=True)
    one, other = (
        read_artefact(path, budget, shards_of(path, shards)) for path, budget in zip((a, b), budgets, strict=True)
    )
    return Checkpoints(one, other, budgets) if one.tensors and other.tensors else None


def held(both: Checkpoints, begin: Begin = unwatched) -> Held | None:
    """Compare two checkpoints that fit, by streaming both.

    Args:
        both: The checkpoints.
        begin: Is told how long it will be.

    Returns:
        What was found; None if the tensors that differ seem to be the same ones under other names, or transposed, which
        ``parity.judging.tensors.matching`` tells.

    Raises:
        TrajectoryError: If a file was changed meanwhile, or holds less than its tensors claim: see
            ``Budget.check_streamed``.
    """
    pairs = _pairs(both)
    for one, budget, side in zip((both.a, both.b), both.budgets, ("a", "b"), strict=True):
        budget.check_streamed(one.path, sum(size_of(getattr(pair, side)) for pair in pairs))
    dtypes = dtype_of(floats(both.a)), dtype_of(floats(both.b))
    measure(pairs, dtypes, begin(sum(pair.size for pair in pairs)))
    judgement = judged(pairs, dtypes)
    if judgement.verdict is Verdict.FAIL and _may_be_others(pairs, dtypes):
        return None
    names = {pair.name for pair in pairs}
    return with_the_rest(both, pairs, judgement, dtypes, (names, names))


def floats(artefact: Artefact) -> Mapping[str, Entry]:
    """The floating-point tensors of a checkpoint, by name."""
    return {name: entry for name, entry in artefact.tensors.entries.items() if entry.dtype.kind == "f"}


def _pairs(both: Checkpoints) -> list[Pair]:
    """What is measured: floating-point tensors, and other numbers of one name and shape."""
    theirs = both.b.tensors.entries
    return [
        Pair(name, entry.placed(), theirs[name].placed(), entry.dtype.kind == "f")
        for name, entry in both.a.tensors.entries.items()
        if name in theirs
        and entry.shape == theirs[name].shape
        and (entry.dtype.kind == "f") == (theirs[name].dtype.kind == "f")
    ]


def judged(pairs: Sequence[Pair], dtypes: tuple[str, str]) -> Judgement:
    """Judge the floating-point tensors as ``parity.judging.diff`` judges those of two runs' beginning."""
    measured = [pair for pair in pairs if pair.whole]
    distances, floors = {}, {}
    for pair in measured:
        tally = pair.tally
        far = 0.0 if tally is None else np.inf if tally.nonfinite is not None else float(tally.absolute.value)
        distances[pair.name] = np.array([far])
        floors[pair.name] = np.array([sum(map(least_floor, pair.scales, dtypes))])
    names = {pair.name: pair for pair in measured}
    evidence = Evidence(distances, floors, tuple(names), np.arange(1), 1)
    found = judge_evidence(evidence, EPOCH, lambda name, _: _farthest(names[name], dtypes))
    return replace(found, source=Source.ROUNDING)


def _farthest(pair: Pair, dtypes: tuple[str, str]) -> Difference:
    tally = pair.tally
    assert tally is not None, "a tolerance was exceeded by no difference"
    found = _at(pair, tally.absolute.place if tally.nonfinite is None else tally.nonfinite, dtypes, dtypes[0])
    assert found is not None
    return found


def _at(pair: Pair, place: int | None, dtypes: tuple[str, str], dtype: str) -> Difference | None:
    if place is None:
        return None
    index = tuple(int(one) for one in np.unravel_index(place, pair.a.shape))
    a, b = (number_at(side, place, of) for side, of in zip((pair.a, pair.b), dtypes, strict=True))
    return difference_of(pair.name, 0, 0, index, a, b, dtype)


def _worst(
    pairs: Sequence[Pair], dtypes: tuple[str, str]
) -> tuple[Difference | None, Difference | None, Difference | None]:
    coarser = coarsest(*dtypes)

    def largest(kind: str) -> Difference | None:
        found, last = None, -1.0
        for pair in pairs:
            one = getattr(pair.tally, kind, None)
            if one is None or one.place is None:
                continue
            size = float(int(one.value) >> 16) if kind == "ulp" and coarser == "bfloat16" else float(one.value)
            if size > last:
                found, last = (pair, one.place), size
        return None if found is None else _at(*found, dtypes, coarser)

    return largest("absolute"), largest("relative"), largest("ulp")


def with_the_rest(
    both: Checkpoints,
    pairs: Sequence[Pair],
    judgement: Judgement,
    dtypes: tuple[str, str],
    compared: tuple[Collection[str], Collection[str]],
) -> Held:
    """Add what is no floating-point number, or was not ``compared`` of a side, by its name: it keeps a PASS away."""
    notes = []
    worst = _worst(pairs, dtypes)
    if any(worst) or judgement.verdict is Verdict.FAIL:
        of = dtypes[0] if dtypes[0] == dtypes[1] else " and ".join(dtypes)
        notes.append(
            f"of two checkpoints {FACTOR * ROUNDINGS} roundings of each tensor's largest value are allowed, in {of}"
        )
    differs = [
        f"{pair.name}{list(map(int, np.unravel_index(pair.unequal, pair.a.shape)))} is "
        f"{number_at(pair.a, pair.unequal)}, the reference has {number_at(pair.b, pair.unequal)}"
        for pair in pairs
        if pair.unequal is not None
    ]
    if differs and judgement.verdict is not Verdict.FAIL:
        judgement = replace(judgement, verdict=Verdict.FAIL, reason=f"integers differ: {first_few(differs)}")
    elif differs:
        notes.append(f"integers differ, too: {first_few(differs)}")
    left_out = not_compared(
        [
            (one.path, one.notes, [name for name in one.tensors if name not in names])
            for one, names in zip((both.a, both.b), compared, strict=True)
        ]
    )
    if judgement.verdict is Verdict.PASS and (doubt := coarse(judgement, coarsest(*dtypes))):
        reason = f"agrees, but the comparison would not see a gross mistake: {doubt}"
        judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE, reason=reason)
    if left_out and judgement.verdict is Verdict.PASS:
        reason = f"{left_out[0]}; what was compared agrees"
        judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE, reason=reason)
    notes += left_out
    if both.a.state or both.b.state:
        notes.append("the model's tensors are compared, and not the optimizer's state")
    return Held(judgement, worst, tuple(notes), before_comparing(dtypes))


def not_compared(sides: Sequence[tuple[Path, Sequence[str], Sequence[str]]]) -> list[str]:
    """Say what keeps a PASS away: of the first and the second side its path, its notes and what is alone in it."""
    found = [f"{path}: {note}" for path, notes, _ in sides for note in notes]
    for which, (_, _, alone) in zip(("first", "second"), sides, strict=True):
        if alone:
            found.append(f"not compared of the {which} checkpoint: {first_few(alone)}")
    return found


def before_comparing(dtypes: tuple[str, str]) -> tuple[str, ...]:
    """Say what differs before anything is compared."""
    return () if dtypes[0] == dtypes[1] else (f"dtype differs: {dtypes[0]} and {dtypes[1]}",)


def _sides(pairs: Sequence[Pair]) -> tuple[list[Placed], list[Placed]]:
    return [pair.a for pair in pairs], [pair.b for pair in pairs]


def _may_be_others(pairs: Sequence[Pair], dtypes: tuple[str, str]) -> bool:
    """Say whether the tensors that differ hold the same values on both sides, in another order or by other names.

    Nearly always their largest magnitudes tell that they do not, which are known already.
    """
    apart = [pair for pair in pairs if pair.whole and pair.tally is not None]
    coarser = coarsest(*dtypes)
    scales = [
        Counter((math.prod(pair.a.shape), float(rounded(np.array(pair.scales[side]), coarser))) for pair in apart)
        for side in (0, 1)
    ]
    if scales[0] != scales[1]:
        return False
    ours, theirs = (Counter(fingerprint_of(side, coarser) for side in sides) for sides in _sides(apart))
    return ours == theirs
