"""What is linear in a run's updates, fitted to a candidate's steps: learning rates, decays, and rates of tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from parity.explaining.updates.candidates import GRADIENT, KEPT, SIZES, Candidate, directions
from parity.explaining.updates.fits import Sample
from parity.typing import Array

ROUNDS = 8
"""What is linear in a fit is solved for in turn, in so many rounds."""
MOST = 20.0
"""No epsilon is so many times as large as the gradients: the rule would be one without it."""
TOLD = 1e-9
"""A decay whose direction is all but the step's is not told from it."""


@dataclass(frozen=True)
class Fit:
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


class Problem:
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
        units = {name: of[0] / self.candidate.constants[name][0] for name, of in self.begun().items()}
        ends = {name: coordinate(name, MOST * unit) if name in SIZES else 0.0 for name, unit in units.items()}
        return np.array([1.0 if name == "dampening" else end for name, end in ends.items()])

    def fit(self, constants: Mapping[str, float], scaled: bool = True, decayed: bool = True) -> Fit:
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

    def _solve(self, along: Array, decay: Array, scaled: bool, decayed: bool) -> Fit:
        w, of, made = self.weights, self.of, self.weighted
        along, decay = w * along, w * decay
        aa, am = (along * along) @ of, (along * made) @ of
        ab, bb, bm = ((along * decay) @ of, (decay * decay) @ of, (decay * made) @ of) if decayed else (aa * 0,) * 3
        grams = Grams(aa, ab, bb, am, bm)
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
        return Fit(rates, scales, shrinks, left)

    def _fit_velocity(self, momentum: float) -> Fit:
        """Fit a velocity that holds learning rates: a share of the step before is kept, and the gradient added."""
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
        return Fit(rates, np.ones(count), np.zeros(count), left)


@dataclass(frozen=True)
class Grams:
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
        found: Array = np.divide(above, below, out=np.zeros_like(below), where=below > 0)
        return found

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


def coordinate(name: str, value: float) -> float:
    if name in KEPT:
        return math.log(max(1 - value, 1e-12))
    return value if name == "dampening" else math.log(max(value, 1e-300))


def value_at(name: str, place: float) -> float:
    if name in KEPT:
        return -math.expm1(min(place, 0.0))
    return min(max(place, 0.0), 1.0) if name == "dampening" else math.exp(min(place, 50.0))
