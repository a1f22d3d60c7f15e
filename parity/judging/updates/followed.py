"""Judge a run that followed another: each update began where the other's did, so that each is judged by itself.

Nothing adds up from update to update. So what may differ is what rounding makes of one step: prediction, loss and
gradients as far as the shadows of that very step strayed, and no less than a few roundings. An update is held to its
own optimizer: what a difference of the gradients alone makes of it, which was judged before, is taken out first, value
by value. So Adam's full steps of a gradient that is rounding alone decide nothing, and a wrong epsilon shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from parity.dtypes import unit
from parity.judging.comparable import coarser_dtype
from parity.judging.compare import Difference
from parity.judging.drawing import ACROSS, drawing
from parity.judging.floors.floor import Source, mark_of_run
from parity.judging.floors.sight import GROSS
from parity.judging.updates.kinks import bent_at
from parity.judging.updates.zeros import by_rounding
from parity.judging.verdict import Judgement, Verdict
from parity.judging.witness import Check, apart, held, in_one_order, to_rounding
from parity.recording.steps import Phase, Step, rows_in_words, steps_of
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array, Params

REACH = 4.0
"""A relative change of a value's gradient changes its update by at most so many times as much of the largest update of
its tensor: Adam's is bounded by (1 - beta1) / sqrt(1 - beta2), which is 3.2 of its defaults, SGD's by 1."""
CORRECTION = 1000.0
"""Adam's 1 - beta2^t, computed in the run's dtype, is off by so many roundings at t = 1: 1 / (1 - .999)."""
ISOLATED = 4
"""Where ReLU bends, rounding alone makes a step of a gradient, in few updates. So gradients that part in less than one
update out of so many, and not in every tensor, tell neither right from wrong."""


@dataclass(frozen=True)
class Taken:
    """One followed update, held against the same update of the other run."""

    number: int
    checks: Mapping[Phase, Sequence[Check] | str]
    """The phases in the order in which they are asked: the checks of each, or why there is nothing to check."""
    bent: str = ""
    """The layer in which values within rounding of zero have another sign, which makes these gradients differ."""
    seen: frozenset[str] = frozenset()
    """The trained tensors of which a gross mistake in this update would have been seen."""
    step: Step | None = field(default=None, repr=False)
    other: Step | None = field(default=None, repr=False)

    def parting(self) -> tuple[Phase, Sequence[Check] | str] | None:
        """The first phase that parts, with what parts in it, the farthest first."""
        for phase, checks in self.checks.items():
            if isinstance(checks, str):
                return phase, checks
            if parts := apart(checks):
                return phase, parts
        return None


def followed_updates(ours: Trajectory, theirs: Trajectory) -> int:
    """Count the updates that two runs began from the same states, because one followed the other or both a third.

    Examples:
        >>> alone = Trajectory({"dtype": "float32", "shards": []}, np.arange(1), np.zeros((0, 0)), {}, {})
        >>> followed_updates(alone, alone)
        0
    """
    (one, of), (other, its) = (_said(run) for run in (ours, theirs))
    if of is not None and of == its:
        return min(one, other)
    if of is not None and of == mark_of_run(theirs):
        return one
    return other if its is not None and its == mark_of_run(ours) else 0


def has_followed(run: Trajectory) -> bool:
    """Say whether a run followed another."""
    return _said(run)[1] is not None


def _said(run: Trajectory) -> tuple[int, str | None]:
    said = run.meta.get("followed")
    if not isinstance(said, dict) or not isinstance(said.get("steps"), int) or not isinstance(said.get("of"), str):
        return 0, None
    return said["steps"], said["of"]


def taken_apart(ours: Trajectory, theirs: Trajectory) -> Iterator[Taken]:
    """Take the followed updates of two runs apart, one after the other.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against; either may be the one that followed.

    Yields:
        Each update, from the first on.

    Raises:
        ValueError: The runs recorded a tensor in different shapes.
    """
    dtype = coarser_dtype(ours, theirs)
    pairs = zip(steps_of(ours), steps_of(theirs), strict=False)
    for step, other in itertools.islice(pairs, followed_updates(ours, theirs)):
        # How far the shadows of a run that goes its own way have come is no floor of a step.
        followers = [one for one, run in ((step, ours), (other, theirs)) if has_followed(run)]
        strays = {phase: [far for one in followers for far in one.strays.get(phase, ())] for phase in Phase}
        yield _taken(step, other, dtype, strays)


@np.errstate(all="ignore")  # a recording may hold any numbers
def _taken(step: Step, other: Step, dtype: str, strays: Mapping[Phase, Sequence[Mapping[str, float]]]) -> Taken:
    number = step.number
    if batch := another_batch(step, other, dtype):
        return Taken(number, {Phase.BATCH: batch})
    ours, theirs = step.seen(), other.seen()
    checks: dict[Phase, Sequence[Check] | str] = {}
    for phase in (Phase.STATE, Phase.PREDICTION, Phase.LOSS, Phase.GRADIENT):
        pairs = {
            name: (ours[phase][name], np.asarray(theirs[phase][name])) for name in theirs[phase] if name in ours[phase]
        }
        if phase is Phase.PREDICTION:
            pairs = {name: laid for name, pair in pairs.items() if (laid := in_one_order(*pair)) is not None}
        strayed = strays[phase]
        if phase is Phase.GRADIENT and strayed:
            strayed = [*strayed, as_sums(step, dtype), as_sums(other, dtype)]
        expected = to_rounding({name: wanted for name, (_, wanted) in pairs.items()}, dtype, strayed)
        if phase is Phase.GRADIENT and not strays[phase] and pairs:
            # What comes back through the layers is as coarse as the largest of it, if nobody measured how coarse.
            least = max(expected.floors.values())
            expected = type(expected)(expected.values, dict.fromkeys(expected.floors, least), dtype)
        checks[phase] = measured = held({name: got for name, (got, _) in pairs.items()}, expected)
    bent, judged = "", [check for check in measured if check.agrees]
    if alone := trained_alone(step, other):
        checks[Phase.GRADIENT] = alone
    elif len(judged) < len(measured) and (bent := bent_at(step, other, dtype)):
        checks[Phase.GRADIENT] = judged
    checks[Phase.UPDATE], seen = _updates(step, other, dtype, strays[Phase.UPDATE], expected.floors)
    seen &= {check.tensor for check in judged}
    return Taken(number, checks, bent, frozenset(seen), step, other)


def as_sums(step: Step, dtype: str) -> dict[str, float]:
    """How far rounding alone may carry the gradients of one axis, as those of biases and scales.

    Each is a sum over all examples and places of a layer with as many channels, and its terms may cancel: frameworks
    add them in orders of their own, so that it is as coarse as the sum of their magnitudes. Shadows do not show that,
    because they add in one order.

    Args:
        step: An update of which gradients of activations were recorded.
        dtype: The coarser dtype of the two runs.

    Returns:
        The floor of each such gradient, in its units; none of a gradient to which no layer fits.

    Examples:
        >>> from parity.trainer import State
        >>> state, nothing = State({}), np.zeros(())
        >>> step = Step(
        ...     before=state, rows=nothing, prediction=nothing, loss=nothing, trained=nothing, after=state,
        ...     gradients={"bias": np.zeros(2)}, activation_gradients={"norm": np.array([[1.0, 2.0], [-1.0, -2.0]])},
        ... )
        >>> as_sums(step, "float64") == {"bias": 2.0**-51 * 4}
        True
    """
    sums = {name: gradient.size for name, gradient in step.gradients.items() if gradient.ndim == 1}
    largest = dict.fromkeys(sums.values(), 0.0)
    for gradient in step.activation_gradients.values():
        for axis, channels in enumerate(gradient.shape if gradient.ndim > 1 else ()):
            if channels in largest:
                others = tuple(each for each in range(gradient.ndim) if each != axis)
                summed = float(np.max(np.abs(gradient).sum(others, dtype=np.float64), initial=0.0))
                largest[channels] = max(summed, largest[channels])
    found = {name: float(least_floor(largest[channels], dtype)) for name, channels in sums.items()}
    return {name: floor for name, floor in found.items() if floor and np.isfinite(floor)}


def _updates(
    step: Step, other: Step, dtype: str, strays: Sequence[Mapping[str, float]], floors: Mapping[str, float]
) -> tuple[list[Check], set[str]]:
    """Hold the state after an update value by value; and name the tensors in which a gross mistake would be seen."""
    checks, seen = [], set()
    ours, theirs, before = (state.params | state.slots for state in (step.after, other.after, other.before))
    for name, wanted in theirs.items():
        if name not in ours:
            continue
        got, begun = np.asarray(ours[name], np.float64), before.get(name)
        wanted = np.asarray(wanted, np.float64)
        if got.shape != wanted.shape:
            raise ValueError(f"{name} is {got.shape}, the reference {wanted.shape}")
        gradients = of_gradients(step.gradients, other.gradients, name)
        begun = np.zeros_like(got) if begun is None else np.asarray(begun, np.float64)
        moved = np.maximum(np.abs(got - begun), np.abs(wanted - begun))
        slack = by_gradients(
            moved, gradients, floors.get(name, floors.get(name.partition("/")[2], 0.0)), step.number, dtype
        )
        largest = np.maximum(np.abs(got), np.abs(wanted))
        # A tensor that no optimizer moves was made of many values: it is as coarse as its largest.
        rounds = largest + np.max(np.abs(moved), initial=0.0) if gradients else np.max(largest, initial=0.0)
        strayed = max((far.get(name, 0.0) for far in strays), default=0.0)
        floor = np.broadcast_to(np.maximum(least_floor(rounds, dtype), strayed), got.shape)
        far = np.where(got == wanted, 0.0, np.abs(got - wanted))
        beyond = np.maximum(np.where(np.isfinite(far), far - np.where(np.isfinite(slack), slack, 0.0), np.inf), 0.0)
        share = np.where(beyond == 0, 0.0, beyond / (FACTOR * floor))
        checks.append(_check(name, got, wanted, share, dtype, step.number))
        if name in other.gradients and np.any(moved > GROSS * (FACTOR * floor + slack)):
            seen.add(name)
    return checks, seen


def _check(name: str, got: Array, wanted: Array, share: Array, dtype: str, number: int) -> Check:
    """Name the value that uses the largest share of its tolerance, or else the largest difference."""
    if not share.size or np.array_equal(got, wanted):
        return Check(tensor=name, share=0.0, floors=0.0, worst=None, got=got, wanted=wanted)
    by = np.nan_to_num(share if share.any() else np.abs(got - wanted), nan=np.inf, posinf=np.inf)
    index = tuple(map(int, np.unravel_index(int(np.argmax(by)), by.shape)))
    one = held({name: got[index]}, to_rounding({name: wanted[index]}, dtype))[0].worst
    worst = None if one is None else replace(one, index=index, epoch=number + 1)
    largest = float(share[index])
    return Check(tensor=name, share=largest, floors=largest * FACTOR, worst=worst, got=got, wanted=wanted)


@np.errstate(all="ignore")  # a recording may hold any numbers
def by_gradients(moved: Array, gradients: tuple[Array, Array] | None, floor: float, number: int, dtype: str) -> Array:
    """How far the difference of two gradients may carry a value's update, whichever the optimizer.

    Args:
        moved: How far an update moved a parameter or a slot, at most, of any shape.
        gradients: The gradient in both runs, of the same shape; None of what is not trained.
        floor: The noise floor of that gradient: a compiled update's own may differ so far from the one that was seen.
        number: The updates before.
        dtype: The coarser dtype of the two runs.

    Returns:
        The distance for each value, in the units of ``moved``: 0 without gradients.

    Examples:
        >>> by_gradients(np.array([0.5, 0.5]), (np.array([1.0, 2.0]), np.array([1.0, 1.0])), 0.0, 0, "float64").round(3)
        array([0., 1.])
    """
    if gradients is None:
        return np.zeros_like(moved)
    one, other = (np.asarray(gradient, np.float64) for gradient in gradients)
    size = np.maximum(np.abs(one), np.abs(other))
    part = np.where(size > 0, np.maximum(np.abs(one - other), floor) / size, 0.0)
    # A gradient that may be rounding alone may have the other sign, and be a few times as large.
    part = np.where((size > 0) & (size <= FACTOR * floor), 2.0, part)
    largest = np.max(np.abs(moved), initial=0.0)
    return np.asarray(largest * (REACH * part + unit(dtype) * CORRECTION / (number + 1)))


def another_batch(step: Step, other: Step, dtype: str) -> str:
    """Say how an update took another batch than the same one of the other run; "" if it is not known to have."""
    if step.rows.size and other.rows.size and not np.array_equal(step.rows, other.rows):
        return other_rows(step.rows, other.rows)
    if _other_numbers(step, other, dtype):
        return "the numbers that the model was given are others: give both runs one order of batches"
    return ""


def other_rows(ours: Array, theirs: Array) -> str:
    """Say that an update took other rows."""
    return f"it took the rows {rows_in_words(ours)} instead of {rows_in_words(theirs)}"


def trained_alone(step: Step, other: Step) -> str:
    """Say of which tensor one run alone has a gradient in an update; "" if both train the same."""
    alone = sorted(step.gradients.keys() ^ other.gradients.keys())
    if not alone:
        return ""
    which = "second" if alone[0] in step.gradients else "first"
    return f"the {which} run has no gradient of {alone[0]}: there it is not trained"


@np.errstate(all="ignore")  # a recording may hold any numbers
def _other_numbers(step: Step, other: Step, dtype: str) -> bool:
    """Tell whether the models were given other numbers, by more than rounding; False if either run kept no sketch."""
    ours, theirs = step.batch, other.batch
    if not ours.size or not theirs.size:
        return False
    if len(ours) != len(theirs):
        return False  # One model was given the targets too, or what the other makes by itself.
    if not np.array_equal(ours[:, 0], theirs[:, 0]):
        return True
    allowed = FACTOR * least_floor(np.max(np.abs(theirs[:, 1:]), axis=1, keepdims=True), dtype)
    return not np.all(np.abs(ours - theirs)[:, 1:] <= allowed)


@dataclass(frozen=True)
class Followed:
    """The judgement on a run that followed another, what to know of it, and the largest difference of a parameter."""

    judgement: Judgement
    notes: tuple[str, ...]
    largest: Difference | None


def judge_followed(ours: Trajectory, theirs: Trajectory) -> Followed:
    """Judge the followed updates of two runs, each by itself.

    Args:
        ours: The run that is judged.
        theirs: The run that it is held against; either may be the one that followed.

    Returns:
        PASS if every update agrees and a gross mistake in any trained tensor would have been seen; FAIL with the first
        update, phase and tensor that part; INCONCLUSIVE else.
    """
    count = followed_updates(ours, theirs)
    if not count:
        return _doubted("one run has followed a third: hold it against the run that it followed")
    if lacking := sorted((set(theirs.params) ^ set(ours.params)) - _buffers(ours) - _buffers(theirs)):
        which = "first" if lacking[0] in theirs.params else "second"
        return _doubted(f"parameter {lacking[0]} is missing from the {which} run")
    notes = [
        f"{name} is in one run alone: it was not compared" for name in sorted(set(theirs.params) ^ set(ours.params))
    ]
    notes.append(
        f"each of {count} updates began from the same recorded state: each is judged by itself, and none after them"
    )
    parted: list[tuple[Taken, Phase, Sequence[Check] | str]] = []
    largest: list[Difference] = []
    ratio, at, tensor, seen, trained, bent, judged = 0.0, 0, "", set[str](), set[str](), [], 0
    for taken in taken_apart(ours, theirs):
        judged += 1
        if (found := taken.parting()) is not None:
            parted.append((taken, *found))
        if taken.bent:
            bent.append(taken)
        seen |= taken.seen
        if taken.step is not None:
            trained |= taken.step.gradients.keys()
        for checks in taken.checks.values():
            for check in checks if not isinstance(checks, str) else ():
                if check.share > ratio:
                    ratio, at, tensor = check.share, taken.number, check.tensor
        updates = taken.checks.get(Phase.UPDATE, ())
        largest += [one.worst for one in updates if not isinstance(one, str) and one.worst is not None]
    if not judged:
        return _doubted("no followed update was recorded deeply by both runs")
    if bent:
        said = ", ".join(str(taken.number) for taken in bent[:4]) + (", …" if len(bent) > 4 else "")
        notes.append(
            f"values of {bent[0].bent} within rounding of zero have other signs in {len(bent)} of {judged} updates "
            f"({said}): the gradients that this changes decide nothing there"
        )
    worst = max(largest, key=lambda one: one.absolute, default=None)
    isolated = [one for one in parted if _may_be_isolated(*one)]
    if parted and len(isolated) == len(parted) and ISOLATED * len(parted) <= judged:
        taken, phase, parts = parted[0]
        reason = (
            f"{_place(taken, phase, parts)}, and a part of the gradients does so in {len(parted)} of {judged} updates: "
            'rounding alone does that where a layer bends, as ReLU does; keep="values" in both runs tells, or float64'
        )
        return Followed(Judgement(Verdict.INCONCLUSIVE, reason=reason), tuple(notes), worst)
    if parted:
        if parted[0][1] is Phase.PREDICTION and any(any(drawing(run)) for run in (ours, theirs)):
            notes.append(ACROSS)
        return Followed(_failure(parted, judged, ratio), tuple(notes), worst)
    rounding = _moved_by_rounding(ours, theirs, trained - seen)
    notes += [by_rounding(name) for name in sorted(rounding)]
    if blind := sorted(trained - seen - rounding):
        reason = f"agrees, but no update of {blind[0]} was large enough to see a gross mistake in it"
        if any(taken.bent for taken in bent):
            reason += ", or its gradients could not be judged"
        return Followed(
            Judgement(Verdict.INCONCLUSIVE, reason=f"{reason}: it takes a wider dtype"), tuple(notes), worst
        )
    shadowed = any(steps_of(run)[0].strays for run in (ours, theirs) if has_followed(run))
    source = Source.SHADOWS if shadowed else Source.ROUNDING
    return Followed(Judgement(Verdict.PASS, ratio, at + 1, tensor or "loss", source=source), tuple(notes), worst)


def _doubted(reason: str) -> Followed:
    return Followed(Judgement(Verdict.INCONCLUSIVE, reason=reason), (), None)


def _buffers(run: Trajectory) -> set[str]:
    """The canonical tensors of a run that have a gradient in none of its recorded updates."""
    trained = {name.partition("/gradients/")[2] for name in run.steps if "/strays/" not in name}
    return set(run.params) - trained


def _may_be_isolated(taken: Taken, phase: Phase, parts: Sequence[Check] | str) -> bool:
    """Say whether gradients part, but not all of them: behind the layer that bends they agree."""
    if phase is not Phase.GRADIENT or isinstance(parts, str):
        return False
    others = [check for check in taken.checks[Phase.UPDATE] if not isinstance(check, str)]
    return len(parts) < len(taken.checks[phase]) and all(check.agrees for check in others)


def _place(taken: Taken, phase: Phase, parts: Sequence[Check] | str) -> str:
    if isinstance(parts, str):
        return f"update {taken.number} parts in its {phase}: {parts}"
    check = parts[0]
    assert check.worst is not None, "what parts differs"
    index = "[" + ", ".join(map(str, check.worst.index)) + "]" if check.worst.index else ""
    first = f"update {taken.number} parts in its {phase}"
    return f"{first}: {check.tensor}{index} is {check.worst.a:.9g}, the other run has {check.worst.b:.9g}"


def _failure(parted: Sequence[tuple[Taken, Phase, Sequence[Check] | str]], judged: int, ratio: float) -> Judgement:
    taken, phase, parts = parted[0]
    reason = f"{_place(taken, phase, parts)}; {len(parted)} of {judged} updates part, each by itself"
    if isinstance(parts, str):
        return Judgement(Verdict.FAIL, epoch=taken.number + 1, parameter=str(phase), reason=reason)
    worst = parts[0].worst
    assert worst is not None
    # By which of the tolerances of a tensor's values the farthest was measured, the share says.
    allowed = worst.absolute / parts[0].share if np.isfinite(parts[0].share) else 0.0
    return Judgement(
        Verdict.FAIL, ratio, taken.number + 1, parts[0].tensor, reason, worst, allowed, source=Source.SHADOWS
    )


def _moved_by_rounding(ours: Trajectory, theirs: Trajectory, names: set[str]) -> set[str]:
    """Name the tensors whose gradients are zero but for rounding: their difference is as large as themselves."""
    found = set(names)
    for taken in taken_apart(ours, theirs) if names else ():
        checks = [c for c in taken.checks.get(Phase.GRADIENT, ()) if not isinstance(c, str) and c.tensor in found]
        for check in checks:
            size = max(float(np.max(np.abs(value), initial=0.0)) for value in (check.got, check.wanted))
            far = check.worst.absolute if check.worst else 0.0
            floor = far / check.floors if check.floors else 0.0
            if size > FACTOR * max(floor, far):
                found.discard(check.tensor)
    return found


def of_gradients(gradients: Params, others: Params, name: str) -> tuple[Array, Array] | None:
    """The gradients, in both runs, of a parameter or of a slot of it, ``<slot>/<parameter>``; None without any."""
    trained = name if name in gradients else name.partition("/")[2]
    return (gradients[trained], others[trained]) if trained in gradients and trained in others else None
