"""What the updates of two runs have been found to follow, held against each other."""

from __future__ import annotations

import itertools
from collections.abc import Set

import numpy as np

from parity.dtypes import unit
from parity.explaining.location import Location
from parity.explaining.pattern import enumerated, multiple, times_in_words
from parity.explaining.updates.clipping import ANOTHER_LIMIT
from parity.explaining.updates.decays import alike, decay_in_words, spread_of
from parity.explaining.updates.fits import Followed, constants, plainly
from parity.spec import Optimizer
from parity.tolerance import FACTOR, least_floor
from parity.trajectory import Trajectory
from parity.typing import Array

ANOTHER_RATE, ANOTHER_DECAY, SOME_DECAY = (
    "another-learning-rate",
    "another-weight-decay",
    "weight-decay-on-some-tensors",
)
NO_DECAY = "weight-decay-missing"
LATE, SCHEDULE = "learning-rate-of-another-update", "another-schedule"
SAID = {
    ANOTHER_RATE: "The learning rate is another one.",
    ANOTHER_DECAY: "The weight decay is another one.",
    SOME_DECAY: "The weight decay leaves some tensors out.",
    ANOTHER_LIMIT: "Gradients are clipped to another threshold.",
    LATE: "The learning rates are those of earlier or later updates.",
    SCHEDULE: "The learning rates follow another schedule.",
    "another-momentum": "The momentum is another one.",
    "another-beta1": "Beta1, what is kept of the first moment, is another one.",
    "another-beta2": "Beta2, what is kept of the second moment, is another one.",
    "another-epsilon": "The optimizer's epsilon is another one.",
}
SHOWN, SHIFTS = 4, 3
ALIKE = 1e-6
"""A number that went through float32 is the same number."""
WORDS = {"eps": "epsilon", "beta_1": "beta1", "beta_2": "beta2", "b1": "beta1", "b2": "beta2"}
ASKED = ("momentum", "nesterov", "dampening", "beta1", "beta2", "epsilon", "amsgrad", "weight_decay")
"""The settings that an optimizer of any framework has under one of these names."""


def settings_in_words(run: Trajectory, other: Trajectory, number: int) -> str:
    """Say in which settings two watched optimizers differ, as their frameworks say them.

    Args:
        run: The first run.
        other: The second run.
        number: The update whose learning rates are compared.

    Returns:
        A phrase; empty if no setting that both say differs.
    """
    ours, theirs = (_settings(one, number) for one in (run, other))
    found = [
        f"{name} {ours[name]:g} against {theirs[name]:g}"
        for name in ours
        if name in theirs and abs(ours[name] - theirs[name]) > 1e-6 * abs(ours[name])
    ]
    return f"the optimizers are set otherwise: {', '.join(found)}" if found else ""


def _settings(run: Trajectory, number: int) -> dict[str, float]:
    """The numbers of an optimizer, in common words. What differs from group to group has none."""
    said = run.meta.get("optimizer")
    groups = said.get("groups") if isinstance(said, dict) else None
    found: dict[str, set[float]] = {}
    for group in groups if isinstance(groups, list) else ():
        for name, value in group.items() if isinstance(group, dict) else ():
            both = name == "betas" and isinstance(value, list) and len(value) == 2
            for word, each in zip(("beta1", "beta2"), value, strict=True) if both else [(WORDS.get(name, name), value)]:
                if word in ASKED and isinstance(each, int | float):
                    found.setdefault(word, set()).add(float(each))
    rate = run.steps.get(f"{number}/learning_rate")
    rates = {"learning_rate": float(rate)} if rate is not None and np.size(rate) == 1 else {}
    return rates | {name: values.pop() for name, values in found.items() if len(values) == 1}


def apart_in_words(one: Followed, other: Followed) -> list[tuple[str, str]]:
    """List what two runs' updates have else: the name of a mistake, and the numbers of both runs.

    Args:
        one: What the first run's updates follow.
        other: What the second's follow.

    Returns:
        Learning rates and decays that differ by more than rounding; empty if none do.
    """
    found, count = [], min(len(one.rates), len(other.rates))
    unsure = one.unsure[:count] + other.unsure[:count]
    if words := rates_in_words(one.rates, other.rates, unsure, "the first run's", "the second's"):
        rates = one.rate, other.rate
        name = ANOTHER_RATE if None not in rates else LATE if " late" in words else SCHEDULE
        name = "float32-learning-rate" if "float32" in words else name
        found.append((name, words))
    return found + _decays_apart(one, other)


def _decays_apart(one: Followed, other: Followed) -> list[tuple[str, str]]:
    shared = {name: (one.decays[name], other.decays[name]) for name in one.decays if name in other.decays}
    differ = {name: pair for name, pair in shared.items() if abs(pair[0][0] - pair[1][0]) > pair[0][1] + pair[1][1]}
    if not differ:
        return []
    mine, its = spread_of(one), spread_of(other)
    if mine is None or its is None:
        each = [
            f"{name} {plainly(*ours):.6g} against {plainly(*theirs):.6g}" for name, (ours, theirs) in differ.items()
        ]
        return [(SOME_DECAY, f"weight decays differ: {enumerated(each)}")]
    split = (mine.touched & its.spared) | (mine.spared & its.touched)
    if not (split and mine.touched and its.touched):
        name = ANOTHER_DECAY if mine.touched and its.touched else NO_DECAY
        return [(name, f"the first run's weight decay is {mine.plain:.6g}, the second's {its.plain:.6g}")]
    ours, theirs = decay_in_words(mine, one.shapes), decay_in_words(its, other.shapes)
    text = f"the first run's weight decay is {ours}, the second's {theirs}"
    return [*([] if alike(mine, its) else [(ANOTHER_DECAY, "")]), (SOME_DECAY, text)]


def set_otherwise(one: Optimizer, other: Optimizer) -> list[tuple[str, str]]:
    """List the constants in which two optimizers of one kind differ: the name of a mistake, and both numbers.

    Args:
        one: The first run's, as it says it.
        other: The second's.

    Returns:
        What differs by more than float32 rounds; learning rates and decays too, as far as neither schedule nor mask
        says more of them. Nothing if the optimizers are of two kinds.

    Examples:
        >>> from parity.spec import Sgd
        >>> set_otherwise(Sgd(0.1, momentum=0.89), Sgd(0.1, momentum=0.9))
        [('another-momentum', "the first run's momentum is 0.89, the second's 0.9")]
    """
    if type(one) is not type(other):
        return []
    names = {name: f"another-{name}" for name in constants(one)}
    if one.rates is None and other.rates is None:
        names = {"learning_rate": ANOTHER_RATE} | names
    if one.decayed is None and other.decayed is None and hasattr(one, "weight_decay"):
        names |= {"weight_decay": ANOTHER_DECAY}
    found = []
    for field, name in names.items():
        mine, its = float(getattr(one, field)), float(getattr(other, field))
        if abs(mine - its) > ALIKE * max(abs(mine), abs(its)):
            word = field.replace("_", " ")
            found.append((name, f"the first run's {word} is {mine:.6g}, the second's {its:.6g}"))
    return found


def rates_in_words(rates: Array, others: Array, unsure: Array, whose: str, other: str) -> str:
    """Say how the learning rates of updates differ from others; empty if they do not."""
    count = min(len(rates), len(others))
    rates, others, unsure = rates[:count], others[:count], unsure[:count]
    if np.all(np.abs(rates - others) <= unsure):
        return ""

    def shown(values: Array) -> str:
        changes = [0, *(np.flatnonzero(np.abs(np.diff(values)) > unsure[1:] + unsure[:-1]) + 1).tolist(), count]
        if len(changes) <= SHOWN:  # a rate that is the same for a while
            kept = [_plain(values[start:end], unsure[start:end]) for start, end in itertools.pairwise(changes)]
            later = [f"{rate} from update {start} on" for rate, start in zip(kept[1:], changes[1:-1], strict=True)]
            return enumerated([kept[0], *later])
        said = [f"{plainly(float(value), float(far)):.4g}" for value, far in zip(values, unsure, strict=True)]
        return ", ".join(said[:SHOWN]) + (", …" if count > SHOWN else "")

    text = f"learning rates of {shown(rates)} against {other} {shown(others)}"
    text = f"{whose} {text}" if whose else text
    apart = float(np.max(np.abs(rates - others) / np.where(others, np.abs(others), np.inf)))
    if 0 < apart <= 2 * unit("float32"):
        return f"{text}, which is {apart:.2g} of itself apart, as of a number that passed through float32"
    for shift in range(1, SHIFTS + 1):
        if count < shift + 3:
            break
        # Rates that do not change are those of any other update.
        if not all(np.any(np.abs(each - each[0]) > unsure) for each in (rates, others)):
            break
        many = f"{shift} update{'s' * (shift > 1)} late"
        allowed = np.maximum(unsure[shift:], unsure[:-shift])
        if np.all(np.abs(rates[shift:] - others[:-shift]) <= allowed):
            return f"{text}: the {whose.removeprefix('the ') or 'rates'} are {many}" if whose else f"{text}: {many}"
        if np.all(np.abs(others[shift:] - rates[:-shift]) <= allowed):
            return f"{text}: {other} are {many}"
    return text


def _plain(rates: Array, unsure: Array) -> str:
    """Print a learning rate that several updates have, with the digits that rounding leaves of it."""
    best = int(np.argmin(unsure))
    rate = plainly(float(rates[best]), float(unsure[best]))
    return f"{rate:.6g}" if rate == float(f"{rate:.6g}") else f"{rate:.17g}"


def ratio_of_steps(place: Location, dtype: str) -> float | None:
    """Find the number that takes the expected steps to the steps made; None if no single number does."""
    ratios = []
    for check in place.parts:
        if check.tensor not in place.params:  # a slot
            continue
        before = place.params[check.tensor].astype(np.float64)
        allowed = FACTOR * least_floor(float(np.max(np.abs(check.wanted))), dtype)
        ratio = multiple(check.got - before, check.wanted - before, allowed)
        if ratio is None:
            return None
        ratios.append(ratio)
    return float(np.median(ratios)) if ratios and np.ptp(ratios) <= 0.01 * abs(np.median(ratios)) else None


def ratio_in_words(place: Location, trained: Set[str], dtype: str) -> str | None:
    """Say how many times the expected steps those of an update are."""
    ratio = ratio_of_steps(place, dtype)
    if ratio is None:
        return None
    parting = [check.tensor for check in place.parts if check.tensor in place.params]
    if set(parting) == trained:
        return f"in this update its steps are {times_in_words(ratio, 4)} times that optimizer's, everywhere"
    times = f"{times_in_words(ratio, 4)} times that optimizer's"
    text = f"in this update its steps of {enumerated(parting)} are {times}, and all others are its own"
    two = "as where two tensors are trained and their sum is recorded, or where some have a learning rate of their own"
    return f"{text}, {two}" if round(ratio) == 2 else text


@np.errstate(all="ignore")  # a recording may hold any numbers
def spread_of_steps(place: Location) -> str:
    """Say between which numbers nine of ten ratios of steps lie."""
    ratios = []
    for check in place.parts:
        if check.tensor in place.params:
            before = place.params[check.tensor].astype(np.float64)
            ratios.append(((check.got - before) / (check.wanted - before)).ravel())
    every = np.concatenate(ratios) if ratios else np.empty(0)
    every = every[np.isfinite(every)]
    if not every.size:
        return ""
    low, high = np.quantile(every, [0.05, 0.95])
    return f"{low:.3g} to {high:.3g}"
