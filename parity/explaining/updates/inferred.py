"""Infer from a run's parameters and gradients alone which optimizer made its updates, and with which numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.explaining.updates.candidates import BESIDE, CANDIDATES, GRADIENT, KEPT, SIZES, Candidate, directions
from parity.explaining.updates.fits import Sample, plainly
from parity.explaining.updates.linear import TOLD, Fit, Problem, coordinate, value_at
from parity.tolerance import FACTOR
from parity.typing import Array

FEWEST, FEW = (192, 8), (1024, 16)
"""So many values, of so many updates, are enough to look for numbers, and to fit them; all that were sampled are looked
at in the end."""
TURNS = 20
"""A fit is given up after so many turns; one that is near needs about four."""
NEAR, CLOSE = 0.4, 1e-3
"""A search whose best start leaves more than the first share of the squared steps, or that ends with more than the
second, is of another rule."""
NOUGHT = -650.0
"""The logarithm of a number that is nothing beside all others."""
NONE = 0.02
"""A momentum that is no larger is none, where the same rule without a momentum fits as well."""
DATA = 3
"""So many values are wanted for each number that is fitted."""


@dataclass(frozen=True)
class Inferred:
    """An optimizer that reproduces a run's updates to rounding, with the numbers that were fitted to them."""

    candidate: Candidate
    constants: Mapping[str, tuple[float, float]]
    """Each constant, and how far rounding may have moved it: infinitely, if no update tells."""
    rates: Array
    """(updates,): the learning rate of each update."""
    unsure: Array
    """(updates,): how far rounding may have moved each of them."""
    scales: Mapping[str, tuple[float, float]]
    """What each tensor's learning rate is, as a multiple of that one, and how unsure that is."""
    decays: Mapping[str, tuple[float, float]]
    """The weight decay of each tensor, and how far rounding may have moved it."""
    floors: float
    """What is left of the updates, in noise floors."""
    square: float
    """The squares of what is left, added up."""
    count: int
    """How many values were looked at."""
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def constant(self) -> bool:
        """Whether all updates have one learning rate, but for rounding."""
        weights = 1 / np.maximum(self.unsure, np.finfo(float).tiny) ** 2
        middle = np.sum(weights * self.rates) / np.sum(weights)
        return bool(np.all(np.abs(self.rates - middle) <= self.unsure))

    @property
    def decaying(self) -> bool:
        """Whether any tensor decays."""
        return "weight_decay" in self.constants or any(abs(value) > its for value, its in self.decays.values())

    def known(self, name: str) -> bool:
        """Whether the updates tell a constant: to a part of itself, or of what is left of 1."""
        value, unsure = self.constants[name]
        return not unsure or unsure < 0.5 * (abs(value) if name in SIZES else max(1 - value, 0.01))


@np.errstate(all="ignore")  # a recording may hold any numbers
def inferred(sample: Sample, rates: Array | None = None) -> list[Inferred]:
    """List the optimizers that reproduce a run's updates to rounding: those that nothing in them tells apart.

    Args:
        sample: The run, recorded from the beginning of training on.
        rates: The learning rate of each update, if the run recorded them.

    Returns:
        The plainest first; none if no known rule makes these updates, or if they are too few to tell.
    """
    values = int(np.count_nonzero(np.any(sample.gradients != 0, axis=0)))
    numbers = sample.count + 2 * len(sample.names) + 4
    if sample.done or sample.count < 2 or values * sample.count < DATA * numbers or not sample.tells():
        return []
    if not all(np.isfinite(of).all() for of in (sample.before, sample.after, sample.gradients)):
        return []
    fewest, few = _thinned(sample, *FEWEST), _thinned(sample, *FEW)
    found: list[Inferred] = []
    for candidate in CANDIDATES:
        if candidate.velocity and any(one.constant and one.candidate.linear for one in found):
            continue  # at one learning rate they are all the same
        if (constants := _searched(Problem(fewest, candidate, 2))) is None:
            continue
        if constants and (constants := _searched(Problem(few, candidate), constants)) is None:
            continue
        if (one := _accepted(sample, few, candidate, constants)) is not None:
            found.append(one)
    return _told(found, rates)


def _thinned(sample: Sample, values: int, updates: int) -> Sample:
    """Keep some values of each tensor, and the first updates."""
    few, most = copy.copy(sample), max(8, values // max(1, len(sample.names)))
    each = (np.flatnonzero(sample.ids == k) for k in range(len(sample.names)))
    kept = np.concatenate([places[:: max(1, len(places) // most)][:most] for places in each])
    few.ids, few.count = sample.ids[kept], min(sample.count, updates)
    few.before, few.after, few.gradients = (
        of[: few.count, kept] for of in (sample.before, sample.after, sample.gradients)
    )
    few.floors = sample.floors[: few.count]
    return few


def _searched(problem: Problem, begun: Mapping[str, float] | None = None) -> dict[str, float] | None:
    """Find the constants that leave the least, from where the rule's search begins or from others.

    None if the rule leaves much of the steps whatever they are.
    """
    names = list(problem.candidate.constants)

    def left(places: Array) -> Array:
        found = {name: value_at(name, place) for name, place in zip(names, places, strict=True)}
        return problem.fit(found).left.ravel()

    def square(places: Array) -> float:
        rest = left(places)
        total = float(rest @ rest)
        return total if math.isfinite(total) else math.inf

    whole = float(np.sum(problem.weighted**2))
    axes = problem.begun() if begun is None else {name: (value,) for name, value in begun.items()}
    grids = [[coordinate(name, value) for value in axes[name]] for name in names]
    starts = (
        np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], axis=1) if names else np.zeros((1, 0))
    )
    least, number = min((square(one), number) for number, one in enumerate(starts))
    best = starts[number]
    if not least <= NEAR * whole:
        return None
    most = problem.most()
    linear = np.array([name == "dampening" for name in names], bool)
    damped, enough = 1e-4, problem.weights.size
    for _ in range(TURNS if names else 0):
        if least <= 1e-2 * enough and begun is None:
            break
        rest, slopes = left(best), _slopes(left, best)
        squares, gain = slopes.T @ slopes, 0.0
        scale = np.diag(np.maximum(np.diag(squares), 1e-12 * max(float(np.trace(squares)), 1e-300)))
        if not np.isfinite(squares).all():
            return None
        for _ in range(5):
            step = np.linalg.lstsq(squares + damped * scale, -slopes.T @ rest, rcond=None)[0]
            # A step of a logarithm is one of the number itself to first order, which holds farther upwards.
            there = best + np.where(linear, step, np.where(step > 0, np.log1p(np.maximum(step, 0)), step.clip(-2, 0)))
            there = np.where(there > most, (best + most) / 2, there)
            if (value := square(there)) < least:
                gain = 1 - value / least
                best, least, damped = there, value, damped / 30
                break
            damped *= 30
        # Near its end a fit gains nearly all that is left in each turn.
        if gain < (1e-3 if least <= FACTOR**2 * enough else 0.05):
            break
    for axis, name in enumerate(names):  # no logarithm comes to nothing by itself
        if name in SIZES and begun is not None:
            there = best.copy()
            there[axis] = NOUGHT
            if (value := square(there)) < 0.5 * least:
                best, least = there, value
    close = least <= max(CLOSE * whole, FACTOR**2 * enough)
    return {name: value_at(name, place) for name, place in zip(names, best, strict=True)} if close else None


def _slopes(left: Callable[[Array], Array], places: Array) -> Array:
    aside, found = 1e-5, []
    for axis in range(len(places)):
        ahead, back = places.copy(), places.copy()
        ahead[axis] += aside
        back[axis] -= aside
        found.append((left(ahead) - left(back)) / (2 * aside))
    return np.stack(found, axis=1)


def _accepted(sample: Sample, few: Sample, candidate: Candidate, constants: dict[str, float]) -> Inferred | None:
    """Hold a fit against all that was recorded; None if it leaves more than rounding of any update."""
    problem, thin = Problem(sample, candidate), Problem(few, candidate)
    if float(np.max(np.abs(thin.fit(constants).left), initial=0.0)) > FACTOR:
        return None
    unsure = _unsure(thin, constants)
    plain = {name: plainly(value, min(unsure[name] / 4, 0.1 * abs(value))) for name, value in constants.items()}
    rounded, best = problem.fit(plain), problem.fit(constants)
    likely = rounded.square - best.square <= FACTOR**2 * max(best.square / best.left.size, 1e-4)
    fit, numbers = (rounded, plain) if likely else (best, constants)
    if not fit.left.size or not float(np.max(np.abs(fit.left))) <= FACTOR:
        return None
    scales, decays, off = _own(problem, numbers, fit)
    if not any(abs(value - 1) > its for value, its in scales.values()):
        simple = problem.fit(numbers, scaled=False)
        if float(np.max(np.abs(simple.left))) <= FACTOR:
            fit = simple
            _, decays, off = _own(problem, numbers, fit)
            scales = {name: (1.0, its) for name, (_, its) in scales.items()}
    if "weight_decay" in numbers:
        decays = dict.fromkeys(sample.names, (numbers["weight_decay"], unsure["weight_decay"]))
    return Inferred(
        candidate=candidate,
        constants={name: (value, unsure[name]) for name, value in numbers.items()},
        rates=fit.rates,
        unsure=off,
        scales=scales,
        decays=decays,
        floors=float(np.max(np.abs(fit.left))),
        square=best.square,
        count=fit.left.size,
        shapes=sample.shapes,
    )


def _unsure(problem: Problem, constants: Mapping[str, float]) -> dict[str, float]:
    """Say how far rounding may have moved each constant, by as many standard errors as a tolerance has noise floors."""
    names = list(constants)
    if not names:
        return {}
    places = np.array([coordinate(name, value) for name, value in constants.items()])

    def left(places: Array) -> Array:
        return problem.fit({name: value_at(name, each) for name, each in zip(names, places, strict=True)}).left.ravel()

    slopes = _slopes(left, places)
    variance = float(np.mean(left(places) ** 2)) + 1e-4  # what is rounded to nothing is not known exactly
    squares = slopes.T @ slopes
    # A constant that the updates do not tell must not take the others with it.
    size = np.sqrt(np.maximum(np.diag(squares), 1e-300))
    inverse = np.linalg.pinv(squares / np.outer(size, size), rcond=1e-12, hermitian=True)
    errors = FACTOR * np.sqrt(variance * np.maximum(np.diag(inverse), 1.0)) / size
    found = {}
    for name, value, error in zip(names, constants.values(), errors, strict=True):
        width = (1 - value) if name in KEPT else 1.0 if name == "dampening" else abs(value)
        found[name] = float(width * error) if error < 1 else math.inf
        if name in SIZES and value < math.exp(NOUGHT / 2):
            found[name] = 0.0
    return found


def _own(
    problem: Problem, constants: Mapping[str, float], fit: Fit
) -> tuple[dict[str, tuple[float, float]], dict[str, tuple[float, float]], Array]:
    """Say what each tensor has of its own, and how far rounding may have moved that and the learning rates."""
    sample, w = problem.sample, problem.weights
    given = sample.gradients + constants.get("weight_decay", 0.0) * sample.before
    candidate = problem.candidate
    along = w * (given if candidate.velocity else directions(candidate, given, constants))
    through = candidate.linear and candidate.decay == GRADIENT
    decay = w * (directions(candidate, sample.before, constants) if through else sample.before)
    error = FACTOR * math.sqrt(fit.square / max(1, fit.left.size) + 1e-4)
    aa, ab, bb = (of @ problem.of for of in (along * along, along * decay, decay * decay))
    r2 = fit.rates[:, None] ** 2
    p, q, s = (np.sum(r2 * of, axis=0) for of in (aa, ab, bb))
    whole = p * s - q * q
    told = whole > TOLD * p * s
    largest = float(np.max(np.abs(fit.rates), initial=0.0))
    scales, decays = {}, {}
    for k, name in enumerate(sample.names):
        scale, shrink = float(fit.scales[k]), float(fit.shrinks[k])
        off = error * math.sqrt(s[k] / whole[k]) if told[k] else math.inf
        scales[name] = scale, off
        if not scale or not told[k]:
            decays[name] = 0.0, math.inf
        else:
            # A framework may multiply by one less the decay times the rate, which has a rounding of its own.
            rounded = 2 * unit(sample.dtype) / largest if largest else math.inf
            decays[name] = shrink / scale, error * math.sqrt(p[k] / whole[k]) / abs(scale) + rounded
    if candidate.velocity or (candidate.decay != BESIDE and not candidate.linear):
        decays = dict.fromkeys(sample.names, (0.0, math.inf))
    square = np.sum(aa * fit.scales**2, axis=1)
    beta2 = constants.get("beta2", 0.0)
    corrected = unit(sample.dtype) / (1 - beta2) if candidate.counted and 0 < beta2 < 1 else 0.0
    off_rates = error * np.divide(1.0, np.sqrt(square), out=np.full(len(square), np.inf), where=square > 0)
    return scales, decays, off_rates + (corrected + FACTOR * unit(sample.dtype)) * np.abs(fit.rates)


def _told(found: list[Inferred], rates: Array | None) -> list[Inferred]:
    """Drop the rules that another one makes unlikely: those that leave far more, or need a schedule or groups."""
    if not found:
        return []
    best = min(found, key=lambda one: one.square)
    variance = max(best.square / best.count, 1e-4)
    found = [one for one in found if math.sqrt(max(0.0, one.square - best.square) / variance) <= FACTOR]
    if rates is not None:
        recorded = [one for one in found if np.all(np.abs(one.rates - rates) <= one.unsure + 1e-6 * np.abs(rates))]
        found = recorded or found
    elif any(one.constant for one in found):
        found = [one for one in found if one.constant]
    if any(not _grouped(one) for one in found):
        found = [one for one in found if not _grouped(one)]
    sure = [one for one in found if all(one.known(name) for name in one.constants)]
    if sure:  # a rule that becomes a plainer one in the limit
        fewest = min(len(one.constants) for one in sure)
        found = [one for one in found if one in sure or len(one.constants) <= fewest]
    kept: list[Inferred] = []
    for one in found:
        if not any(_nests(one, other) for other in found if other is not one):
            kept.append(one)
    return kept


def _grouped(one: Inferred) -> bool:
    return any(abs(value - 1) > its for value, its in one.scales.values())


def _nests(one: Inferred, plainer: Inferred) -> bool:
    """Tell whether a rule is a plainer one, for a constant of it is nothing, or a decay acts nowhere."""
    mine, its = one.candidate, plainer.candidate
    if len(mine.constants) > len(its.constants):
        more = [name for name in mine.constants if name not in its.constants]
        nothing = [_is_nothing(name, *one.constants[name]) for name in more]
        return bool(nothing) and (all(nothing) if mine.rule is its.rule else any(nothing))
    same = mine.rule is its.rule and dict(mine.fixed) == dict(its.fixed) and mine.constants == its.constants
    return same and mine.decay == BESIDE and its.decay == GRADIENT and not one.decaying and not mine.velocity


def _is_nothing(name: str, value: float, unsure: float) -> bool:
    """Tell whether a constant that a plainer rule lacks is nothing, or can be anything."""
    if name in (*SIZES, "dampening") and not unsure < 1e300:
        return True
    return name not in ("beta2", "rho") and abs(value) <= max(unsure, NONE if name in KEPT else 0.0) and unsure < 0.5
