"""Two sketches of checkpoints held against each other, or a sketch and a checkpoint, which is sketched for it.

Tensors whose hashes are equal are equal to the bit. Of others a projection tells how far they are apart. If all numbers
of a tensor were within the tolerance of two checkpoints, the 2-norm of its difference were no more than the tolerance
times the root of how many there are: a tensor whose least distance is more than that fails. One that is nearer may be
right or wrong in a single number, which a projection does not show.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parity.judging.checkpoints import Begin, Held, before_comparing, not_compared, unwatched
from parity.judging.floors.floor import Source
from parity.judging.sketching import sketch_of
from parity.judging.tensors.correspondence import first_few
from parity.judging.verdict import Judgement, Verdict
from parity.recording.artefacts import narrowest, read_artefact, shards_of
from parity.recording.artefacts.sketched import Sketch, Sketched, is_sketch, read_sketch
from parity.recording.limits import Budget
from parity.recording.projected import distance, rounding
from parity.tolerance import FACTOR, ROUNDINGS, least_floor

WRONG = 1e-6
"""With no greater chance does any tensor of a comparison fail whose numbers all are within the tolerance."""
SHOWN_CHANCE = 5e-4
"""The bounds that are shown of a distance are each wrong with no greater chance."""
SHOWN = 20
"""So many tensors that differ are named, each on a line."""


@dataclass(frozen=True)
class Apart:
    """A tensor of which two checkpoints hold different numbers.

    Attributes:
        name: Its name.
        fails: Whether it differs by more than is allowed.
        share: Its estimated root mean square difference, in tolerances; infinite where any difference is too much.
        least: The same for the least that it may be, by which it is judged.
        said: What is known of it, in words.
    """

    name: str
    fails: bool
    share: float
    least: float
    said: str


def sketch_at(path: Path, begin: Begin = unwatched, shards: str = "") -> Sketch:
    """Read a sketch, or a checkpoint to sketch it: errors as of ``read_sketch`` and ``sketch_of``."""
    if is_sketch(path):
        return read_sketch(path)
    budget = Budget(streams=True)
    return sketch_of(read_artefact(path, budget, shards_of(path, shards)), budget, begin)


def held_by_sketches(a: Path, b: Path, begin: Begin = unwatched, shards: str = "") -> Held:
    """Compare two checkpoints, of which one at least is a sketch.

    Args:
        a: A sketch or a checkpoint.
        b: Another.
        begin: Is told how many bytes of a checkpoint will be read.
        shards: How shards of ranks are joined.

    Returns:
        What was found. No place of a difference is known.

    Raises:
        TrajectoryError: As of ``sketch_at``.
    """
    one, other = sketch_at(a, begin, shards), sketch_at(b, begin, shards)
    dtypes = narrowest(_dtypes(one)), narrowest(_dtypes(other))
    same = [name for name in one.tensors if name in other.tensors and _alike(one.tensors[name], other.tensors[name])]
    found = [_apart(name, one.tensors[name], other.tensors[name], dtypes, len(same)) for name in same]
    apart = sorted((each for each in found if each), key=lambda each: (each.fails, each.share), reverse=True)
    sides, compared = ((a, one, other), (b, other, one)), set(same)
    left_out = not_compared(
        [
            (path, mine.notes, [_why(name, mine, its) for name in mine.tensors if name not in compared])
            for path, mine, its in sides
        ]
    )
    judgement = _judged(apart, len(same), left_out, _elsewhere(apart, one, other))
    if same and not apart:
        left_out = [f"{len(same)} of {len(same)} tensors have equal SHA-256, and so are equal to the bit", *left_out]
    notes = [f"{each.name}: {each.said}" for each in apart[:SHOWN]]
    if len(apart) > SHOWN:
        notes.append(f"{len(apart) - SHOWN} more tensors differ")
    if apart:
        notes.append(
            f"{len(same) - len(apart)} of {len(same)} tensors are equal to the bit; of others {FACTOR * ROUNDINGS} "
            f"roundings of the largest value are allowed, in {' and '.join(dict.fromkeys(dtypes))}"
        )
    return Held(judgement, (None, None, None), (*notes, *left_out), before_comparing(dtypes))


def _dtypes(sketch: Sketch) -> frozenset[str]:
    return frozenset(one.dtype for one in sketch.tensors.values() if one.floats)


def _alike(a: Sketched, b: Sketched) -> bool:
    """Whether two tensors can be compared: of one shape, and both floats, or both integers of one dtype."""
    return a.shape == b.shape and (a.dtype == b.dtype or (a.floats and b.floats))


def _apart(name: str, a: Sketched, b: Sketched, dtypes: tuple[str, str], count: int) -> Apart | None:
    """How far two tensors are apart; None if they are equal and finite."""
    if a.nonfinite or b.nonfinite:
        said = f"{a.nonfinite} and {b.nonfinite} of {a.size} numbers are not finite, which agrees with nothing"
        return Apart(name, True, math.inf, math.inf, said)
    if not a.size or (a.dtype == b.dtype and a.digest == b.digest):
        return None
    if not a.floats:
        return Apart(name, True, math.inf, math.inf, f"integers differ, of {a.dtype}")
    norm = distance(a.projection, b.projection)
    allowed = FACTOR * sum(least_floor(one.largest, dtype) for one, dtype in zip((a, b), dtypes, strict=True))
    if not math.isfinite(norm.estimate):
        return Apart(name, False, math.inf, 0.0, "differs, and its numbers are too large for a sketch")
    root = math.sqrt(a.size)
    carried = sum(rounding(one.size, one.largest) for one in (a, b))
    least = max(0.0, norm.between(WRONG / count)[0] - carried) / root
    low, high = norm.between(SHOWN_CHANCE)
    low, high = max(0.0, low - carried) / root, (high + carried) / root
    said = (
        f"root mean square difference about {norm.estimate / root:.3g}, between {low:.3g} and {high:.3g}; a number may "
        f"differ by {allowed:.3g}"
    )
    share, least = (one / allowed if allowed else (math.inf if one else 0.0) for one in (norm.estimate / root, least))
    return Apart(name, least > 1, share, least, said)


def _elsewhere(apart: Sequence[Apart], one: Sketch, other: Sketch) -> bool:
    """Whether the tensors that differ hold the same numbers in both, under each other's names."""
    ours, theirs = (
        Counter((found.dtype, found.shape, found.digest) for each in apart for found in [sketch.tensors[each.name]])
        for sketch in (one, other)
    )
    return bool(apart) and ours == theirs


def _judged(apart: Sequence[Apart], count: int, left_out: Sequence[str], elsewhere: bool) -> Judgement:
    if not count:
        reason = f"no tensor of one has the name, the shape and the dtype of one of the other; {first_few(left_out)}"
        return Judgement(Verdict.INCONCLUSIVE, reason=reason)
    ratio, name = (apart[0].least, apart[0].name) if apart else (0.0, None)
    names = first_few([each.name for each in apart])
    failed = [each.name for each in apart if each.fails]
    verdict, reason = Verdict.INCONCLUSIVE, ""
    if elsewhere and not any(each.share == math.inf for each in apart):
        reason = f"{names} hold the same numbers under each other's names: compare the checkpoints, or 'parity match'"
    elif failed:
        verdict = Verdict.FAIL
        reason = f"{len(failed)} of {count} tensors differ by more than is allowed: {first_few(failed)}"
    elif apart:
        reason = (
            f"{len(apart)} of {count} tensors differ, by so little that sketches cannot tell whether each number is "
            f"within the tolerance: {names}; send the tensors themselves, in a checkpoint of these alone, and compare "
            "those"
        )
    elif left_out:
        reason = f"{left_out[0]}; what was compared agrees"
    else:
        verdict = Verdict.PASS
    return Judgement(verdict, ratio, 0, name, reason, source=Source.ROUNDING)


def _why(name: str, sketch: Sketch, partner: Sketch) -> str:
    mine, other = sketch.tensors[name], partner.tensors.get(name)
    if other is not None:
        return f"{name} ({mine.dtype} {mine.shape}, the other is {other.dtype} {other.shape})"
    twins: Mapping[str, Sketched] = {
        theirs: one
        for theirs, one in partner.tensors.items()
        if (one.dtype, one.digest) == (mine.dtype, mine.digest) and theirs not in sketch.tensors
    }
    return f"{name} (the other has its numbers in {next(iter(twins))})" if twins else name
