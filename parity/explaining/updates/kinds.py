"""The optimizers that two runs are inferred to have, held against each other and put into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from parity.explaining.pattern import enumerated
from parity.explaining.updates.candidates import BESIDE as BESIDE_IT
from parity.explaining.updates.candidates import TWICE
from parity.explaining.updates.compared import ALIKE, ANOTHER_RATE, apart_in_words
from parity.explaining.updates.decays import FEW, spread_of, tensors_in_words
from parity.explaining.updates.fits import Followed, Sample, plainly
from parity.explaining.updates.given import accumulated, put_together, recorded_rates
from parity.explaining.updates.inferred import Inferred, inferred
from parity.judging.floors.sight import moved_by_rounding
from parity.recording.steps import Step
from parity.spec import Sgd
from parity.trajectory import Trajectory

ANOTHER_KIND, ANOTHER_FORM, RATE_ON_SOME, NOT_TRAINED = (
    "another-optimizer",
    "another-form-of-the-optimizer",
    "another-learning-rate-on-some-tensors",
    "some-tensors-not-trained",
)
ANOTHER_COUNT = "gradients-accumulated-over-another-count"
THROUGH, BESIDE = "weight-decay-through-the-gradient", "decoupled-weight-decay"
SENTENCES = {
    ANOTHER_KIND: "The optimizer is of another kind.",
    ANOTHER_FORM: "The optimizer is another form of the same.",
    RATE_ON_SOME: "Some tensors are trained with another learning rate than the others.",
    NOT_TRAINED: "The optimizer leaves some tensors as they are.",
    ANOTHER_COUNT: "An update is made of another number of gradients.",
    TWICE: "The velocity is rescaled where the learning rate changes, though it holds none.",
}
UNTOLD = "recordings do not tell which it is"
NO_RATE = 1e-6
"""A tensor whose learning rate is no larger a part of the others' is not trained."""
DAMPENED = "a gradient that enters the velocity times one minus the momentum"


@dataclass(frozen=True)
class Apart:
    """What two runs' optimizers differ in."""

    names: tuple[str, ...]
    """The mistakes that it is; empty if none is sure."""
    words: str
    floors: float
    """What the optimizers leave of the updates, in noise floors."""


def inferred_of(run: Trajectory, steps: Sequence[Step]) -> list[Inferred]:
    """List the optimizers that make a run's updates, as far as nothing in the recording tells them apart.

    Args:
        run: The run.
        steps: The updates that it recorded deeply.

    Returns:
        The plainest first; none if no known one does, or if too little was recorded.
    """
    zero, each = moved_by_rounding((run,)), accumulated(steps)
    rates = recorded_rates(run)
    names = [name for name in run.params if name not in zero and all(name in step.gradients for step in steps)]
    if not names or not len(steps):
        return []
    for last in (False, True)[: 1 + (each > 1)]:
        sample = Sample(put_together(steps, each, last), names, str(run.meta["dtype"]))
        if found := inferred(sample, None if rates is None else rates[each - 1 :: each][: sample.count]):
            return found
    return []


def counts_apart(mine: int, its: int) -> Apart | None:
    """Say of how many gradients each of two runs makes an update; None if of as many.

    >>> counts_apart(3, 2).words
    "the first run makes an update of every 3 gradients, the second of every 2"
    """
    if mine == its:
        return None
    said = ["each gradient" if each == 1 else f"every {each} gradients" for each in (mine, its)]
    second = said[1].replace(" gradients", "") if mine > 1 else said[1]
    return Apart((ANOTHER_COUNT,), f"the first run makes an update of {said[0]}, the second of {second}", 1.0)


def kinds_apart(ones: Sequence[Inferred], others: Sequence[Inferred], each: int = 1) -> Apart | None:
    """Say in what the optimizers of two runs differ.

    Args:
        ones: Those that the first run may have had: nothing tells them apart.
        others: Those of the second.
        each: Of how many gradients either run makes an update.

    Returns:
        The difference; None if there is none, or if neither run's optimizer is known.
    """
    if not ones or not others:
        return None
    floors = max(ones[0].floors, others[0].floors)
    for one in ones:
        for other in others:
            if one.candidate is other.candidate:
                found = _numbers_apart(one, other, each)
                if not found:
                    return None
                names, words = zip(*found, strict=True)
                text = "; ".join(filter(None, words))
                told = tuple(dict.fromkeys(filter(None, names))) if all(names) else ()
                return Apart(told, f"both runs' updates are those of {one.candidate.title}: {text}", floors)
    ways = {_names(one, other) for one in ones for other in others}
    if len(ways) == 1:
        text = f"the first run's updates are those of {in_words(ones[0])}, the second's those of {in_words(others[0])}"
        return Apart(ways.pop(), text, floors)
    text = f"the first run's updates are those of {_any_of(ones)}, the second's those of {_any_of(others)}"
    return Apart((), f"{text}; {UNTOLD}", floors)


def _names(one: Inferred, other: Inferred) -> tuple[str, ...]:
    """Name what two rules differ in, and the constants that both have."""
    mine, its = one.candidate, other.candidate
    numbers = [name for name, _ in _constants_apart(one, other)]
    if mine.family == its.family:
        if mine.rule is its.rule and mine.decay != its.decay and (one.decaying or other.decaying):
            forms = [each.candidate.mistake for each in (one, other) if _told_form(each)]
            return (BESIDE if mine.linear else THROUGH, *forms, *numbers)
        forms = [each.mistake for each in (mine, its) if each.variant]
        return (forms[0], *numbers) if len(forms) == 1 and forms[0] else (ANOTHER_FORM,)
    families, plain = {mine.family, its.family}, not (mine.variant or its.variant)
    if families == {"SGD", "SGD with momentum"} and plain:
        return ("momentum-missing",)
    if families == {"SGD with momentum", "SGD with Nesterov's momentum"} and plain:
        return ("nesterov-momentum", *numbers)
    if families == {"Adam", "AMSGrad"} and plain:
        return ("amsgrad", *numbers)
    return (ANOTHER_KIND,)


def _told_form(one: Inferred) -> bool:
    """Tell whether a form of Adam, whose epsilon is elsewhere, is told from the usual one."""
    return bool(one.candidate.mistake) and all(one.known(name) and one.constants[name][1] for name in one.constants)


def _constants_apart(one: Inferred, other: Inferred) -> list[tuple[str, str]]:
    found = []
    for name in one.constants:
        if name not in other.constants or name == "weight_decay" or not (one.known(name) and other.known(name)):
            continue
        (mine, off), (its, far) = one.constants[name], other.constants[name]
        if abs(mine - its) > off + far + ALIKE * max(abs(mine), abs(its)):
            word = name.replace("_", " ")
            kind = f"another-{name}" if name in ("momentum", "beta1", "beta2", "epsilon") else ANOTHER_FORM
            found.append(
                (kind, f"the first run's {word} is {plainly(mine, off):.6g}, the second's {plainly(its, far):.6g}")
            )
    return found


def _numbers_apart(one: Inferred, other: Inferred, each: int = 1) -> list[tuple[str, str]]:
    """List the numbers in which two runs of one rule differ."""
    found = _constants_apart(one, other)
    both = _followed(one), _followed(other)
    if _alike(one) and _alike(other):
        words = _shrunk(one, other) or apart_in_words(*both)
        if not found and [name for name, _ in words] == [ANOTHER_RATE] and (too := _causes(one, other, each)):
            return [("", f"{words[0][1]}; {UNTOLD}: another learning rate, or {too}")]
        return found + words
    found += _tensors_apart(one, other)
    return found or apart_in_words(*both)


def _shrunk(one: Inferred, other: Inferred) -> list[tuple[str, str]]:
    """Name a weight decay that is not multiplied by the learning rate, before a step or after it.

    After a step it shrinks the step, too. None where the learning rates change.
    """
    if one.candidate.decay != BESIDE_IT or not (one.constant and other.constant):
        return []
    for this, that, which, its in ((one, other, "first", "second"), (other, one, "second", "first")):
        mine, meant = spread_of(_followed(this)), spread_of(_followed(that))
        if mine is None or meant is None or not mine.touched or mine.touched != meant.touched:
            continue
        rate, right = float(np.median(this.rates)), float(np.median(that.rates))
        shrink = rate * mine.value
        # Several numbers go into it, each with a rounding of its own.
        off = 4 * (mine.unsure * abs(rate) + meant.unsure + float(np.max(this.unsure + that.unsure)) * abs(mine.value))
        if abs(shrink - meant.value) > min(off, 1e-3 * abs(meant.value)) or abs(rate - 1) < 1e-3:
            continue
        for after, expected in ((False, right), (True, right * (1 - shrink))):
            if abs(rate - expected) <= 1e-4 * abs(right) and not (after and mine.spared):
                where = " after the step" if after else ""
                text = f"the {which} run's weight decay of {meant.plain:.6g} shrinks the parameters by itself{where}"
                text = f"{text}, not times the learning rate, as the {its} run's does"
                return [("weight-decay-without-learning-rate", text)]
    return []


def _alike(one: Inferred) -> bool:
    return all(abs(value - 1) <= unsure for value, unsure in one.scales.values())


def _tensors_apart(one: Inferred, other: Inferred) -> list[tuple[str, str]]:
    """Say which tensors have learning rates of their own, or none, in one run alone."""
    rates, its = one.rates, other.rates
    count = min(len(rates), len(its))
    seen = (rates[:count] != 0) & (its[:count] != 0)
    if not seen.any():
        return []
    ratios = rates[:count][seen] / its[:count][seen]
    if np.ptp(ratios) > 1e-3 * abs(float(np.median(ratios))):
        return []  # a schedule is another one, too
    middle = float(np.median(ratios))
    off = float(np.median(one.unsure[:count][seen] / np.abs(rates[:count][seen])))
    off += float(np.median(other.unsure[:count][seen] / np.abs(its[:count][seen])))
    still: dict[str, list[str]] = {"first": [], "second": []}
    apart: dict[float, list[str]] = {}
    for name, (value, unsure) in one.scales.items():
        theirs, far = other.scales.get(name, (1.0, np.inf))
        rests = abs(value) <= min(unsure, NO_RATE), abs(theirs) <= min(far, NO_RATE)
        if any(rests):
            if not all(rests):
                still["first" if rests[0] else "second"].append(name)
            continue
        ratio = middle * value / theirs
        if abs(ratio - 1) > off + unsure / abs(value) + far / abs(theirs):
            near = next((known for known in apart if abs(known - ratio) <= 1e-3 * abs(known)), ratio)
            apart.setdefault(near, []).append(name)
    found = [
        (NOT_TRAINED, f"the {which} run's optimizer leaves {_some(names, one)} as they are, for all their gradients")
        for which, names in still.items()
        if names
    ]
    for ratio, names in apart.items():
        others = "" if len(names) == len(one.scales) else ", and all others are trained alike" * (len(apart) == 1)
        text = f"the first run's learning rate of {_some(names, one)} is {ratio:.6g} times the second's{others}"
        found.append((RATE_ON_SOME if len(names) < len(one.scales) else ANOTHER_RATE, text))
    return found


def _some(names: Sequence[str], one: Inferred) -> str:
    text = tensors_in_words(names, one.shapes)
    return text if len(names) <= FEW or "every" in text else f"{text}: {enumerated(sorted(names))}"


def _causes(one: Inferred, other: Inferred, each: int) -> str:
    """Say what may make one learning rate the other times a number that is known; empty if nothing does."""
    ratio = float(np.median(one.rates) / np.median(other.rates))

    def near(number: float) -> bool:
        return min(abs(ratio - number), abs(1 / ratio - number)) <= 1e-3 * number

    if each > 1 and near(each):
        return f"the gradients of {each} batches that are added up, not averaged"
    return DAMPENED if "momentum" in one.constants and near(1 - one.constants["momentum"][0]) else ""


def _followed(one: Inferred) -> Followed:
    optimizer = Sgd(float(one.rates[0]))  # the rule is the same, and the numbers are beside it
    return Followed(optimizer, one.rates, one.unsure, one.decays, one.floors, one.shapes)


def _any_of(found: Sequence[Inferred]) -> str:
    return enumerated(list(dict.fromkeys(map(in_words, found))), "or")


def in_words(one: Inferred) -> str:
    """Say an inferred optimizer with its numbers, as far as the updates tell them.

    Args:
        one: The optimizer.

    Returns:
        A phrase, as ``Adam with beta1 0.9, beta2 0.999, learning rate 0.001``.
    """
    numbers = [
        f"{name.replace('_', ' ')} {plainly(value, unsure):.6g}"
        for name, (value, unsure) in one.constants.items()
        if one.known(name) and unsure
    ]
    rates = [plainly(float(rate), float(unsure)) for rate, unsure in zip(one.rates, one.unsure, strict=True)]
    sure = int(np.argmin(one.unsure))
    said = f"learning rate {rates[sure]:.6g}" if one.constant else f"learning rates {rates[0]:.6g}, {rates[1]:.6g}, …"
    if not _alike(one):
        said += ", not of all tensors"
    decay = "" if "weight_decay" in one.constants else _decay_in_words(one)
    return f"{one.candidate.title} ({', '.join(filter(None, (*numbers, said, decay)))})"


def _decay_in_words(one: Inferred) -> str:
    spread = spread_of(_followed(one))
    if spread is None or not spread.touched:
        return ""
    where = (
        ""
        if one.candidate.rule is None
        else (" through the gradient" if one.candidate.decay == "gradient" and one.candidate.constants else "")
    )
    return f"weight decay {spread.plain:.6g}{where}"
