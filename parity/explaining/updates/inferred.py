"""Infer from a run's parameters and gradients alone which optimizer made its updates, and with which numbers."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.explaining.updates.candidates import BESIDE, CANDIDATES, GRADIENT, KEPT, SIZES, Candidate, directions
from parity.explaining.updates.fits import Sample, plainly
from parity.tolerance import FACTOR
from parity.typing import Array

FEWEST, FEW = (192, 8), (1024, 16)
"""So many values, of so many updates, are enough to look for numbers, and to fit them; all that were sampled are looked
at in the end."""
TURNS, ROUNDS = 12, 8
"""A fit is given up after so many turns; one that is near needs about four. What is linear in it is solved for in turn,
in so many rounds."""
MOST = 20.0
"""No epsilon is so many times as large as the gradients: the rule would be one without it."""
TOLD = 1e-9
"""A decay whose direction is all but the step's is not told from it."""
NEAR, CLOSE = 0.4, 5e-4
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


@dataclass(frozen=True)
class _Fit:
    """The numbers that are linear in the updates, and what they leave."""

    rates: Array
    scales: Array
    shrinks: Array
    """(tensors,): the scale of each tensor times its decay."""
    left: Array
    """(updates, values), in noise floors."""

    @property
    def square(self) -> float:
        total = float(np.sum(self.left**2))
        return total if math.isfinite(total) else math.inf


class _Problem:
    """A rule and the updates that it is to make."""

    def __init__(self, sample: Sample, candidate: Candidate, rounds: int = ROUNDS) -> None:
        self.sample, self.candidate, self.rounds = sample, candidate, rounds
        floors = sample.floors[:, sample.ids]
        self.weights = np.divide(1.0, floors, out=np.zeros_like(floors), where=floors > 0)
        self.made = sample.before - sample.after
        self.weighted = self.weights * self.made
        self.of = np.eye(len(sample.names))[sample.ids]  # (values, tensors)

    def begun(self) -> dict[str, list[float]]:
        """Give where a search begins: sizes are multiples of the gradients' own."""
        gradient, parameter = (float(np.sqrt(np.mean(of**2))) for of in (self.sample.gradients, self.sample.before))
        units = {"epsilon": gradient, "epsilon_root": gradient**2, "initial_sum_of_squares": gradient**2}
        units["weight_decay"] = gradient / parameter if parameter else 1.0
        return {name: [value * units.get(name, 1.0) for value in of] for name, of in self.candidate.constants.items()}

    def most(self) -> Array:
        """Give the highest coordinate that each constant may have: beyond it the rule becomes another one."""
        return np.array([_coordinate(name, of[0] / self.candidate.constants[name][0] * MOST) if name in SIZES else np.inf
                         for name, of in self.begun().items()])  # fmt: skip

    def fit(self, constants: Mapping[str, float], scaled: bool = True, decayed: bool = True) -> _Fit:
        """Fit learning rates, and what tensors have of their own, to updates by a rule with these constants."""
        sample, candidate = self.sample, self.candidate
        given = sample.gradients
        if "weight_decay" in constants:
            given, decayed = given + constants["weight_decay"] * sample.before, False
        if candidate.velocity:  # without a decay
            return self._fit_velocity(constants["momentum"])
        along = directions(candidate, given, constants)
        through = candidate.linear and candidate.decay == GRADIENT
        decay = directions(candidate, sample.before, constants) if through and decayed else sample.before
        return self._solve(along, decay, scaled, decayed)

    def _solve(self, along: Array, decay: Array, scaled: bool, decayed: bool) -> _Fit:
        w, of, made = self.weights, self.of, self.weighted
        along, decay = w * along, w * decay
        aa, am = (along * along) @ of, (along * made) @ of
        ab, bb, bm = ((along * decay) @ of, (decay * decay) @ of, (decay * made) @ of) if decayed else (aa * 0,) * 3
        grams = _Grams(aa, ab, bb, am, bm)
        count = aa.shape[1]
        rates, scales, shrinks = grams.rates(np.ones(count), np.zeros(count)), np.ones(count), np.zeros(count)
        if scaled or decayed:
            scales, shrinks = grams.tensors(rates, scaled, decayed)
            for _ in range(self.rounds):
                rates = grams.rates(scales, shrinks)
                moved = grams.moved(rates, scales, shrinks, scaled, decayed)
                scales, shrinks = scales + moved[:count], shrinks + moved[count:]
                if not np.max(np.abs(moved)) > 1e-13 * np.max(np.abs(scales)):
                    break
            if scaled:
                # The learning rate is that of the tensor that most have.
                middle = _usual(scales, np.sum(grams.rates(scales, shrinks)[:, None] ** 2 * aa, axis=0))
                scales, shrinks = scales / middle, shrinks / middle
            rates = grams.rates(scales, shrinks)
        ids = self.sample.ids
        left = made - rates[:, None] * (scales[ids] * along + shrinks[ids] * decay)
        return _Fit(rates, scales, shrinks, left)

    def _fit_velocity(self, momentum: float) -> _Fit:
        """Fit a velocity that holds learning rates: a step is what is kept of the step before it, and the gradient's."""
        made, g, w = self.made, self.sample.gradients, self.weights
        old = np.vstack([np.zeros((1, made.shape[1])), made[:-1]])
        rates = np.empty(len(made))
        for number in range(len(made)):
            columns = np.stack([w[number] * g[number], w[number] * old[number]], axis=1)
            rates[number] = np.linalg.lstsq(columns, w[number] * made[number], rcond=None)[0][0]
        if self.candidate.velocity == "twice":
            before = np.concatenate([rates[:1], rates[:-1]])
            kept = momentum * np.divide(rates, before, out=np.ones_like(rates), where=before != 0) ** 2
        else:
            kept = np.full(len(rates), momentum)
        left = w * (made - kept[:, None] * old - rates[:, None] * g)
        count = len(self.sample.names)
        return _Fit(rates, np.ones(count), np.zeros(count), left)


@dataclass(frozen=True)
class _Grams:
    """The products of steps, of what a decay adds to them, and of the steps made: each (updates, tensors)."""

    aa: Array
    ab: Array
    bb: Array
    am: Array
    bm: Array

    def rates(self, scales: Array, shrinks: Array) -> Array:
        """Solve for the learning rate of each update."""
        below = self._below(scales, shrinks)
        above = np.sum(self.am * scales + self.bm * shrinks, axis=1)
        return np.divide(above, below, out=np.zeros_like(below), where=below > 0)

    def _below(self, scales: Array, shrinks: Array) -> Array:
        found: Array = np.sum(self.aa * scales**2 + 2 * self.ab * scales * shrinks + self.bb * shrinks**2, axis=1)
        return found

    def tensors(self, rates: Array, scaled: bool, decayed: bool) -> tuple[Array, Array]:
        """Solve for the scale and the shrinking of each tensor."""
        r, r2 = rates[:, None], rates[:, None] ** 2
        p, q, s = (np.sum(r2 * of, axis=0) for of in (self.aa, self.ab, self.bb))
        u, v = (np.sum(r * of, axis=0) for of in (self.am, self.bm))
        if not decayed:
            return np.divide(u, p, out=np.ones_like(p), where=p > 0), np.zeros_like(p)
        if not scaled:
            return np.ones_like(p), np.divide(v - q, s, out=np.zeros_like(p), where=s > 0)
        whole = p * s - q * q
        told = whole > TOLD * p * s
        alone = np.divide(u, p, out=np.ones_like(p), where=p > 0)
        scales = np.divide(s * u - q * v, whole, out=alone, where=told)
        return scales, np.divide(p * v - q * u, whole, out=np.zeros_like(p), where=told)

    def moved(self, rates: Array, scales: Array, shrinks: Array, scaled: bool, decayed: bool) -> Array:
        """Say how scales and shrinkings move in a turn of a fit, in which the learning rates move with them."""
        r, r2, count = rates[:, None], rates[:, None] ** 2, len(scales)
        a, b = self.aa * scales + self.ab * shrinks, self.ab * scales + self.bb * shrinks
        p, q, s = (np.sum(r2 * of, axis=0) for of in (self.aa, self.ab, self.bb))
        rest = np.concatenate([np.sum(r * (self.am - r * a), axis=0), np.sum(r * (self.bm - r * b), axis=0)])
        beside = np.concatenate([r * a, r * b], axis=1)  # (updates, 2 tensors)
        below = self._below(scales, shrinks)
        share = np.divide(beside, below[:, None], out=np.zeros_like(beside), where=below[:, None] > 0)
        whole = np.block([[np.diag(p), np.diag(q)], [np.diag(q), np.diag(s)]]) - beside.T @ share
        told = p * s - q * q > TOLD * p * s
        free = np.concatenate([(p > 0) & scaled, told & decayed if scaled else (s > 0) & decayed])
        found = np.zeros(2 * count)
        if free.any():
            size = np.sqrt(np.concatenate([p, s])[free])
            scaled_down = whole[np.ix_(free, free)] / np.outer(size, size)
            # All scales may grow by what the learning rates fall by: the shortest way is taken.
            found[free] = np.linalg.lstsq(scaled_down, rest[free] / size, rcond=1e-13)[0] / size
        return found


def _usual(scales: Array, weights: Array) -> float:
    """Choose the scale that has the most tensors, of which the surest, so that it is 1."""
    near = np.abs(scales[:, None] - scales) <= 1e-3 * np.abs(scales)
    counts = near.sum(axis=1) + weights / (2 * max(float(np.max(weights)), np.finfo(float).tiny))
    found = float(scales[int(np.argmax(np.where(scales != 0, counts, -1)))])
    return found if math.isfinite(found) and found else 1.0


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
        if (constants := _searched(_Problem(fewest, candidate, 2))) is None:
            continue
        if constants and (constants := _searched(_Problem(few, candidate), constants)) is None:
            continue
        if (one := _accepted(sample, few, candidate, constants)) is not None:
            found.append(one)
    return _told(found, rates)


def _thinned(sample: Sample, values: int, updates: int) -> Sample:
    """Keep some values of each tensor, and the first updates."""
    few, most = copy.copy(sample), max(8, values // max(1, len(sample.names)))
    kept = np.concatenate([places[:: max(1, len(places) // most)][:most]
                           for places in (np.flatnonzero(sample.ids == k) for k in range(len(sample.names)))])  # fmt: skip
    few.ids, few.count = sample.ids[kept], min(sample.count, updates)
    few.before, few.after, few.gradients = (
        of[: few.count, kept] for of in (sample.before, sample.after, sample.gradients)
    )
    few.floors = sample.floors[: few.count]
    return few


def _coordinate(name: str, value: float) -> float:
    if name in KEPT:
        return math.log(max(1 - value, 1e-12))
    return value if name == "dampening" else math.log(max(value, 1e-300))


def _value(name: str, place: float) -> float:
    if name in KEPT:
        return -math.expm1(min(place, 0.0))
    return min(max(place, 0.0), 1.0) if name == "dampening" else math.exp(min(place, 50.0))


def _searched(problem: _Problem, begun: Mapping[str, float] | None = None) -> dict[str, float] | None:
    """Find the constants that leave the least, from where the rule's search begins or from others.

    None if the rule leaves much of the steps whatever they are.
    """
    names = list(problem.candidate.constants)

    def left(places: Array) -> Array:
        found = {name: _value(name, place) for name, place in zip(names, places, strict=True)}
        return problem.fit(found).left.ravel()

    def square(places: Array) -> float:
        rest = left(places)
        total = float(rest @ rest)
        return total if math.isfinite(total) else math.inf

    whole = float(np.sum(problem.weighted**2))
    axes = problem.begun() if begun is None else {name: (value,) for name, value in begun.items()}
    grids = [[_coordinate(name, value) for value in axes[name]] for name in names]
    starts = (
        np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], axis=1) if names else np.zeros((1, 0))
    )
    least, number = min((square(one), number) for number, one in enumerate(starts))
    best = starts[number]
    if not least <= NEAR * whole:
        return None
    most = problem.most()
    damped, enough = 1e-4, problem.weights.size
    for _ in range(TURNS if names else 0):
        if least <= 1e-2 * enough:
            break
        rest, slopes = left(best), _slopes(left, best)
        squares, gain = slopes.T @ slopes, 0.0
        scale = np.diag(np.maximum(np.diag(squares), 1e-12 * max(float(np.trace(squares)), 1e-300)))
        if not np.isfinite(squares).all():
            return None
        for _ in range(3):
            step = np.linalg.lstsq(squares + damped * scale, -slopes.T @ rest, rcond=None)[0]
            there = np.minimum(best + np.clip(step, -3.0, 3.0), most)
            if (value := square(there)) < least:
                gain = 1 - value / least
                best, least, damped = there, value, damped / 30
                break
            damped *= 30
        # Near its end a fit gains nearly all that is left in each turn.
        if gain < (1e-3 if least <= FACTOR**2 * enough else 0.15):
            break
    for axis, name in enumerate(names):  # no logarithm comes to nothing by itself
        if name in SIZES:
            there = best.copy()
            there[axis] = NOUGHT
            if (value := square(there)) < least:
                best, least = there, value
    close = least <= max(CLOSE * whole, FACTOR**2 * enough)
    return {name: _value(name, place) for name, place in zip(names, best, strict=True)} if close else None


def _slopes(left: object, places: Array) -> Array:
    aside, found = 1e-5, []
    for axis in range(len(places)):
        ahead, back = places.copy(), places.copy()
        ahead[axis] += aside
        back[axis] -= aside
        found.append((left(ahead) - left(back)) / (2 * aside))  # type: ignore[operator]
    return np.stack(found, axis=1)


def _accepted(sample: Sample, few: Sample, candidate: Candidate, constants: dict[str, float]) -> Inferred | None:
    """Hold a fit against all that was recorded; None if it leaves more than rounding of any update."""
    problem, thin = _Problem(sample, candidate), _Problem(few, candidate)
    if float(np.max(np.abs(thin.fit(constants).left), initial=0.0)) > FACTOR:
        return None
    unsure = _unsure(thin, constants)
    plain = {name: plainly(value, min(unsure[name], 0.1 * abs(value))) for name, value in constants.items()}
    fits = [problem.fit(each) for each in (plain, constants)]
    fit, numbers = (fits[0], plain) if fits[0].square <= 2 * fits[1].square else (fits[1], constants)
    if float(np.max(np.abs(fit.left), initial=np.inf if fit.left.size == 0 else 0.0)) > FACTOR:
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
        square=fit.square,
        count=fit.left.size,
        shapes=sample.shapes,
    )


def _unsure(problem: _Problem, constants: Mapping[str, float]) -> dict[str, float]:
    """Say how far rounding may have moved each constant, by as many standard errors as a tolerance has noise floors."""
    names = list(constants)
    if not names:
        return {}
    places = np.array([_coordinate(name, value) for name, value in constants.items()])

    def left(places: Array) -> Array:
        return problem.fit({name: _value(name, each) for name, each in zip(names, places, strict=True)}).left.ravel()

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
    problem: _Problem, constants: Mapping[str, float], fit: _Fit
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
    if mine.rule is not its.rule:
        return False
    more = [name for name in mine.constants if name not in its.constants]
    if more:
        return len(mine.constants) > len(its.constants) and all(
            name != "weight_decay"
            and abs(one.constants[name][0]) <= max(one.constants[name][1], NONE)
            and one.constants[name][1] < 0.5
            for name in more
        )
    same = dict(mine.fixed) == dict(its.fixed) and mine.constants == its.constants
    return same and mine.decay == BESIDE and its.decay == GRADIENT and not one.decaying and not mine.velocity


def chosen(found: list[Inferred]) -> Inferred | None:
    """Give the plainest of what remains, if it is all of one family; None if nothing remains or families do."""
    return found[0] if len({one.candidate.family for one in found}) == 1 else None
