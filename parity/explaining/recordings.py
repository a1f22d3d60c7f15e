"""Explain two deep recordings without a model: find the mistake that makes one run of the other.

If a loss or a gradient differs, the local functions of mistakes are tried: each makes, of the right run's step, the
step that the mistake would make. An update follows from a state and from gradients. If both were recorded, it can be
made again, by the right optimizer and by every mistaken one: the recorded gradients are played back, and the mistakes
of the phase ``update`` are replayed on them as ``parity.explaining.diagnose`` replays mistakes on a reference.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.diagnose import Diagnosis
from parity.explaining.location import Location
from parity.explaining.losses.apart import SENTENCES as OF_LOSSES
from parity.explaining.losses.apart import UPDATES, losses_apart, missing
from parity.explaining.pairs import Noise
from parity.explaining.replay import Replay
from parity.explaining.updates import clipping, kinds, statistics
from parity.explaining.updates.compared import SAID, settings_in_words
from parity.explaining.updates.factors import multiples_in_words, smoothing_in_words
from parity.explaining.updates.optimizers import diagnosis_of, inferred_apart, of_updates
from parity.explaining.updates.sides import Side, sides_of
from parity.judging.comparable import coarser_dtype
from parity.judging.floors.sight import moved_by_rounding
from parity.judging.witness import within_rounding
from parity.mistakes.catalogue import CATALOGUE
from parity.mistakes.mistake import Local
from parity.recording.steps import Phase, Step, update_at
from parity.tolerance import least_floor
from parity.trajectory import Trajectory
from parity.typing import Array

SENTENCES = {known.name: known.sentence for known in CATALOGUE} | clipping.SENTENCES
SENTENCES |= OF_LOSSES | statistics.SENTENCES | kinds.SENTENCES | SAID


def explain_steps(
    run: Trajectory, other: Trajectory, location: Location, noise: Noise | None = None
) -> Diagnosis | None:
    """Explain why two runs part, from what they recorded deeply.

    Args:
        run: The first run.
        other: The second run.
        location: The place where ``walk_pair`` found them to part.
        noise: What repetitions of the runs strayed.

    Returns:
        The diagnosis, None if no mistake can be tried.

    Raises:
        ValueError: The runs recorded tensors of different shapes.
    """
    if location.phase is Phase.BATCH or not location.finite:
        return None
    sides = sides_of(run, other)
    number = update_at(run, location.epoch, location.batch)
    if location.phase is Phase.UNRECORDED:  # seen after an epoch: any of its updates may be the cause
        number = update_at(run, location.epoch + 1, 0)
    untrained = _of_untrained(sides, location)
    if untrained is not None:
        return untrained
    tried = None
    if location.phase in (Phase.LOSS, Phase.GRADIENT):
        if location.phase is Phase.GRADIENT and len({frozenset(side.steps[number].gradients) for side in sides}) > 1:
            return None  # the runs do not train the same parameters
        tried = _of_gradients(sides, location, number, noise.at(number) if noise else {})
    if tried is not None and tried.explanations:
        return tried
    # Once the states differ, everything differs: then an update that is wrong by itself says more.
    found = of_updates(sides, location, number) or tried
    if found is None or found.explanations or found.location.phase is not Phase.UPDATE:
        return found
    if (inferred := inferred_apart(sides, found)) is not None and inferred.explanations:
        return inferred
    found = inferred or found
    settings = settings_in_words(run, other, update_at(run, found.location.epoch, found.location.batch))
    note = "; ".join(filter(None, (settings, found.location.note)))
    return replace(found, location=replace(found.location, note=note))


def _of_untrained(sides: tuple[Side, Side], location: Location) -> Diagnosis | None:
    """Explain running statistics, or slots that begin otherwise; None if neither is what parts."""
    check = location.check
    if check is None or location.phase not in (Phase.STATE, Phase.UPDATE):
        return None
    (first, second), name = sides, check.tensor
    if name not in first.run.params:
        if location.phase is not Phase.STATE:
            return None
        ours, theirs = (_values_in_words(values) for values in (check.got, check.wanted))
        why = f"the optimizer's slots begin otherwise: {name} is {ours} in the first run and {theirs} in the second"
        return diagnosis_of(location, untried=f"{why}: give both the same")
    if any(name in side.steps[0].gradients for side in sides if side.steps):
        return None
    if not np.array_equal(first.run.params[name][0], second.run.params[name][0]):
        return None
    dtype = coarser_dtype(*(side.run for side in sides))
    found = statistics.moves(first.run, second.run, first.steps, second.steps, name, dtype)
    if found is None:
        why = f"{name} is not trained: both runs begin with one value of it, and a forward pass moves it otherwise"
        still = [side.which for side in sides if _stays(side, name)]
        if len(still) == 1:
            why = (
                f"{name} of the {still[0]} run never moves; recordings do not tell which it is: a momentum that takes "
                "nothing of a batch, evaluation mode, or new statistics that are not kept"
            )
        return diagnosis_of(location, untried=why)
    location = replace(location, note="; ".join(filter(None, (location.note, f"{name}: {found}"))))
    return diagnosis_of(location, (Replay((found.name,), location.phase, found.floors),))


def _stays(side: Side, name: str) -> bool:
    """Tell whether a statistic of a run is the same in all that was recorded deeply, of two updates at least."""
    values = [np.asarray(step.before.params[name]) for step in side.steps if name in step.before.params]
    return len(values) > 1 and all(np.array_equal(values[0], value) for value in values)


def _values_in_words(values: Array) -> str:
    values = np.asarray(values, np.float64)
    return (
        f"{values.flat[0]:.4g} everywhere"
        if not np.ptp(values)
        else f"between {values.min():.4g} and {values.max():.4g}"
    )


def _of_gradients(
    sides: tuple[Side, Side], location: Location, number: int, strayed: Mapping[Phase, Sequence[Mapping[str, float]]]
) -> Diagnosis | None:
    """Explain a loss or gradients that differ, by a mistake or else by the numbers that they differ by."""
    mistakes = {known.name: known.local for known in CATALOGUE if known.local and known.local.phase is location.phase}
    tried = _tried(sides, location, number, mistakes, strayed) if mistakes else None
    if tried is not None and tried.explanations:
        return tried
    dtype = coarser_dtype(*(side.run for side in sides))
    zero = moved_by_rounding([side.run for side in sides])
    clipped = _clipped(sides, location, number, dtype, zero) if location.phase is Phase.GRADIENT else None
    if clipped is not None and clipped.explanations:
        return clipped
    if location.phase is Phase.LOSS and (of_loss := _of_losses(sides, location, number)) is not None:
        return of_loss
    both = sides[0].steps[number], sides[1].steps[number]
    if location.phase is Phase.LOSS and (lacking := missing([both])):
        location = replace(location, note="; ".join(filter(None, (location.note, lacking))))
        tried = replace(tried, location=location) if tried is not None else None
    words = multiples_in_words(*both, dtype, zero)
    if not words and location.phase is Phase.LOSS:
        words = smoothing_in_words(*both, dtype)
    if clipped is not None and clipped.untried:
        return clipped
    if not words and clipped is None:
        return tried
    found = tried or diagnosis_of(location)
    if clipped is not None:
        found = replace(found, location=clipped.location)
        words = words or "no mistake is known that clips gradients to these"
    return replace(found, untried=words)


def _of_losses(sides: tuple[Side, Side], location: Location, number: int) -> Diagnosis | None:
    """Explain a loss by what both runs' losses are, from one prediction to two losses."""
    first, second = sides
    until = number + UPDATES
    steps = list(zip(first.steps[number:until], second.steps[number:until], strict=False))
    found = losses_apart(steps, (first.run.meta["dtype"], second.run.meta["dtype"]))
    if found is None:
        return None
    if not found.names:
        return diagnosis_of(location, untried=found.words)
    note = f"{found.words}; which of the two is meant, recordings do not tell"
    location = replace(location, note="; ".join(filter(None, (location.note, note))))
    return diagnosis_of(location, (Replay(found.names, location.phase, 1.0),))


def _clipped(
    sides: tuple[Side, Side], location: Location, number: int, dtype: str, zero: Sequence[str]
) -> Diagnosis | None:
    """Explain gradients by how each run clips its own; None if neither clips them."""
    how = [clipping.clipping_of(side.steps, side.run.meta["dtype"]) for side in sides]
    if how[0] is None and how[1] is None:
        return None
    said = " and ".join(
        f"the {side.which} run's gradients are " + (f"clipped {mine}" if mine else "not seen to be clipped")
        for side, mine in zip(sides, how, strict=True)
    )
    location = replace(location, note="; ".join(filter(None, (location.note, said))))
    before = next(filter(None, (clipping.unclipped(side.run, number) for side in sides)), {})
    for (mine, ours), (other, theirs) in itertools.permutations(zip(sides, how, strict=True)):
        name = clipping.NAMES.get(ours.how) if ours is not None else "not-clipped"
        if name is None or theirs is None or theirs.how != clipping.TOGETHER:
            continue
        if ours is not None and not theirs.near(ours.bound, dtype):
            continue
        step = mine.steps[number]
        wanted = clipping.clipped_otherwise(step, other.steps[number], ours, theirs, before)
        if wanted:
            times = 1 + clipping.IN_TORCH / (theirs.bound * least_floor(1.0, dtype))
            left = within_rounding(step.gradients, wanted, dtype, times=times)[0].floors
            return diagnosis_of(location, (Replay((name,), location.phase, left),))
    if how[0] and how[1] and how[0].how == how[1].how:
        one, another = (clipping.without(side.steps[number], zero) for side in sides)
        apart = clipping.bounds_apart(how[0], how[1], one, another, dtype, before)
        if apart is not None:
            name, words, left = apart
            if not name:
                return diagnosis_of(location, untried=words)
            location = replace(location, note=f"{words}; which of the two is meant, recordings do not tell")
            return diagnosis_of(location, (Replay((name,), location.phase, left),))
    return diagnosis_of(location)


def _tried(
    sides: tuple[Side, Side],
    location: Location,
    number: int,
    mistakes: Mapping[str, Local],
    strayed: Mapping[Phase, Sequence[Mapping[str, float]]],
) -> Diagnosis | None:
    """Hold each run's loss and gradients against what a mistake makes of the other run's."""
    dtype = coarser_dtype(*(side.run for side in sides))
    # The loss and its gradients are one comparison here.
    repeated = (strayed.get(phase, ()) for phase in (Phase.LOSS, Phase.GRADIENT))
    noise = [{**loss, **gradients} for loss, gradients in zip(*repeated, strict=True)]
    found = []
    for mine, other in (sides, sides[::-1]):
        step, before = mine.steps[number], mine.steps[number - 1] if number else None
        replays = []
        for name, local in mistakes.items():
            wrong = local.wrong(other.steps[number], before, mine.optimizer)
            if wrong:
                left = min(_left(step, wanted, dtype, noise) for wanted in wrong)
                replays.append(Replay((name,), location.phase, left))
        if not replays:
            return None
        note = (
            f"what is explained is the {location.phase} of the {mine.which} run, from the other's: which of the two is "
            "meant, recordings do not tell"
        )
        ranked = tuple(sorted(replays, key=lambda replay: replay.floors))
        found.append(diagnosis_of(replace(location, note=note), ranked))
    return next((one for one in found if one.explanations), replace(found[0], location=location))


def _left(step: Step, wanted: Step, dtype: str, noise: Sequence[Mapping[str, float]]) -> float:
    """Measure how far loss and gradients are from those of another step, in noise floors."""
    got, expected = ({"loss": np.asarray(float(one.loss)), **one.gradients} for one in (step, wanted))
    return within_rounding(got, expected, dtype, noise)[0].floors
