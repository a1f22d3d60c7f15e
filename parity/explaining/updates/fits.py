"""What a run's updates do: the learning rate of each, the weight decay of each tensor, and one constant that fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from parity import nn
from parity.dtypes import unit
from parity.explaining.updates.given import Norms, shortened
from parity.explaining.updates.rules import RULES, THROUGH_THE_GRADIENT
from parity.nn.updates import slot_names
from parity.recording.sketch import evenly
from parity.recording.steps import Step
from parity.spec import Adam, Optimizer, Sgd, decay_of
from parity.tolerance import FACTOR, least_floor
from parity.trainer import State
from parity.typing import Array

MOST = 1 << 13
"""So many values of all tensors together are looked at: each has its own gradient, and one number fits them all."""
CONSTANTS = ("momentum", "beta1", "beta2", "epsilon")


class Sample:
    """Some values of every trained tensor along a run's recorded updates, laid side by side.

    With ``norms`` an optimizer that clips gets the gradients clipped; without, none does.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        names: Sequence[str],
        dtype: str,
        slots: Sequence[str] = (),
        norms: Norms | None = None,
    ) -> None:
        self.names, self.dtype, self.count = tuple(names), dtype, len(steps)
        each = max(1, MOST // max(1, len(names)))
        first = steps[0].before if len(steps) else State({}, {}, 0)  # a step is read anew whenever it is asked for
        self.shapes = {name: np.shape(first.params[name]) for name in names}
        places = {name: evenly(math.prod(shape), each) for name, shape in self.shapes.items()}
        self.ids = np.repeat(np.arange(len(names)), [len(places[name]) for name in names])

        def flat(values: Mapping[str, Array], slot: str = "") -> Array:
            taken = [np.asarray(values[slot + name]).reshape(-1)[places[name]] for name in self.names]
            return np.concatenate(taken).astype(np.float64)

        self.before, self.after, self.gradients = (np.empty((len(steps), len(self.ids))) for _ in range(3))
        largest = np.empty((len(steps), len(names)))
        for number, step in enumerate(steps):
            self.before[number], self.after[number] = flat(step.before.params), flat(step.after.params)
            self.gradients[number] = flat(step.gradients)
            largest[number] = [float(np.max(np.abs(step.after.params[name]), initial=0.0)) for name in self.names]
        self.own = self.whole = np.empty((len(steps), 0))
        if norms is not None:
            self.own = np.array([[norms(number)[name] for name in self.names] for number in range(len(steps))])
            self.whole = np.array([[norms.whole(number)] for number in range(len(steps))])
        self.floors = least_floor(largest, dtype)
        """(updates, tensors): the least noise floor of each tensor."""
        begun, self.done = first.slots, first.step
        self.slots = {
            slot: flat(begun, f"{slot}/") for slot in slots if all(f"{slot}/{name}" in begun for name in self.names)
        }

    def directions(self, optimizer: Optimizer) -> tuple[Array, Array]:
        """Make the step of each update at a learning rate of one, and what a weight decay of one adds to it."""
        plain = replace(optimizer, learning_rate=1.0, rates=None, decayed=None, clipping=None)
        plain = plain if type(plain) is Adam else altered(plain, weight_decay=0.0)
        rule, nought = RULES[type(plain)], np.zeros(len(self.ids))

        def along(values: Array, slots: Mapping[str, Array]) -> Array:
            state = State({}, {f"{name}/p": slots.get(name, nought).copy() for name in slot_names(plain)})
            made = np.empty_like(values)
            for number, value in enumerate(values):
                state.step = self.done + number + 1
                made[number] = -rule(plain, "p", nought, value, state)
            return made

        given = self.given(optimizer)
        if isinstance(optimizer, THROUGH_THE_GRADIENT):  # then nothing is left of a decay beside the step
            return along(given + self.decays(optimizer) * self.before, self.slots), np.zeros_like(given)
        decay = along(self.before, {}) if isinstance(optimizer, Sgd) else self.before
        return along(given, self.slots), decay

    def given(self, optimizer: Optimizer) -> Array:
        """Give the gradients as an optimizer gets them: clipped, if it clips."""
        if optimizer.clipping is None or not self.whole.size:
            return self.gradients
        return shortened(optimizer.clipping, self.gradients, self.own[:, self.ids], self.whole)

    def sizes(self, optimizer: Optimizer) -> tuple[float, float]:
        """Give the range in which a limit of the optimizer's clipping matters."""
        kind = optimizer.clipping.kind if optimizer.clipping is not None else "value"
        every = {"global_norm": self.whole, "norm": self.own}.get(kind, np.abs(self.gradients))
        seen = every[every > 0]
        return (float(np.min(seen)) / 4, float(np.max(seen)) * 1.01) if seen.size else (1.0, 2.0)

    def rates(self, optimizer: Optimizer) -> Array:
        """Give the learning rate that an optimizer has in each update."""
        return nn.updates.rates(optimizer, self.done, self.count)

    def decays(self, optimizer: Optimizer) -> Array:
        """Give the weight decay that an optimizer has for each value."""
        found: Array = np.array([decay_of(optimizer, name) for name in self.names])[self.ids]
        return found

    def each(self, values: Array) -> Array:
        """Add up along each tensor: (updates, values) to (updates, tensors)."""
        found: Array = np.stack([np.bincount(self.ids, row, len(self.names)) for row in values])
        return found

    def tells(self) -> bool:
        """Tell whether steps are so much larger than rounding that one rule is told from another."""
        return bool(np.max(self.left(self.before), initial=0.0) > FACTOR**2)

    def left(self, wanted: Array) -> Array:
        """Measure how far the parameters after each update are from what is expected of them, in noise floors."""
        far = np.abs(self.after - wanted)
        worst = np.zeros((self.count, len(self.names)))
        for number in range(self.count):
            np.maximum.at(worst[number], self.ids, far[number])
        nought = np.where(worst > 0, np.inf, 0.0)
        left: Array = np.divide(worst, self.floors, out=nought, where=self.floors > 0)
        return left


@dataclass(frozen=True)
class Followed:
    """An optimizer whose rule a run's updates follow, with the numbers that were fitted to them."""

    optimizer: Optimizer
    """The rule and its constants. Its learning rate and its decay are those that it was said to have."""
    rates: Array
    """(updates,): the learning rate of each update."""
    unsure: Array
    """(updates,): how far rounding may have moved each of them."""
    decays: Mapping[str, tuple[float, float]]
    """The weight decay of each tensor, and how far rounding may have moved it."""
    floors: float
    """What is left of the updates, in noise floors."""
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The shapes of the tensors."""

    @property
    def rate(self) -> tuple[float, float] | None:
        """Find the one learning rate of all updates, and how unsure it is; None if they have not one."""
        weights = 1 / self.unsure**2
        middle = float(np.sum(weights * self.rates) / np.sum(weights))
        agree = np.all(np.abs(self.rates - middle) <= self.unsure)
        return (middle, float(1 / np.sqrt(np.sum(weights)))) if agree else None

    def decay(self) -> tuple[float, float] | None:
        """Find the one weight decay of all tensors, and how unsure it is; None if they have not one."""
        sure = min(self.decays.values(), key=lambda one: one[1], default=(0.0, 0.0))
        agree = all(abs(value - sure[0]) <= unsure + sure[1] for value, unsure in self.decays.values())
        return sure if agree else None

    def undecayed(self) -> tuple[list[str], list[str]] | None:
        """Split the tensors into those that decay and those that do not; None if there are not both."""
        found: tuple[list[str], list[str]] = ([], [])
        for name, (value, unsure) in self.decays.items():
            found[abs(value) <= unsure].append(name)
        return found if all(found) else None


@np.errstate(all="ignore")  # a recording may hold any numbers
def follow(sample: Sample, optimizer: Optimizer) -> Followed | None:
    """Fit a learning rate to each update and a weight decay to each tensor, as far as an optimizer's rule makes them.

    Args:
        sample: The run.
        optimizer: The rule, with its constants. Its learning rate and weight decay do not matter.

    Returns:
        What was fitted; None if it leaves more than rounding of any update.
    """
    along, decay = sample.directions(optimizer)
    made = sample.before - sample.after
    if not (np.isfinite(along).all() and np.isfinite(made).all() and sample.count):
        return None
    each = sample.each
    squares = each(decay * decay)

    def without(values: Array) -> tuple[Array, Array]:
        """Take off a step what a decay of each tensor may have made of it."""
        share = np.divide(each(values * decay), squares, out=np.zeros_like(squares), where=squares > 0)
        return values - share[:, sample.ids] * decay, share

    rest, share = without(along)
    step, moved = without(made)
    # Tensors of one size have rounding errors of one size.
    weights = 1 / np.where(sample.floors > 0, sample.floors, np.inf)[:, sample.ids] ** 2
    square = np.sum(weights * rest * rest, axis=1)
    seen = square > 0
    rates = np.divide(np.sum(weights * rest * step, axis=1), square, out=np.zeros(sample.count), where=seen)
    shrinks = moved - rates[:, None] * share
    left = sample.left(sample.before - rates[:, None] * along - shrinks[:, sample.ids] * decay)
    if not seen.all() or np.any(left > FACTOR):
        return None
    unsure = 1 / np.sqrt(square) + _of_the_correction(optimizer, sample.dtype) * np.abs(rates)
    decays = _decays(sample, rates, shrinks, squares)
    return Followed(optimizer, rates, unsure, decays, float(np.max(left, initial=0.0)), sample.shapes)


def _of_the_correction(optimizer: Optimizer, dtype: str) -> float:
    """Say by what part of itself a step may be off, if a run works out the correction of Adam's bias in its dtype."""
    return unit(dtype) / (1 - optimizer.beta2) if isinstance(optimizer, Adam) and optimizer.beta2 < 1 else 0.0


def _decays(sample: Sample, rates: Array, shrinks: Array, squares: Array) -> dict[str, tuple[float, float]]:
    """Divide what each tensor shrinks by the learning rates, over all updates."""
    found = {}
    weights = np.divide(squares, sample.floors**2, out=np.zeros_like(squares), where=sample.floors > 0)
    for place, name in enumerate(sample.names):
        weight = float(np.sum(weights[:, place] * rates**2))
        if weight > 0 and np.max(np.abs(rates)) > 0:
            value = float(np.sum(weights[:, place] * rates * shrinks[:, place])) / weight
            # A framework may multiply by one less the decay times the rate, which has a rounding of its own.
            found[name] = value, 1 / math.sqrt(weight) + 2 * unit(sample.dtype) / float(np.max(np.abs(rates)))
    return found


def altered(optimizer: Optimizer, **numbers: float) -> Optimizer:
    """Give an optimizer other numbers."""
    return replace(optimizer, **numbers)  # type: ignore[arg-type]


def constants(optimizer: Optimizer) -> list[str]:
    """List the constants of an optimizer, apart from its learning rate and its decay."""
    return [one.name for one in fields(optimizer) if one.name in CONSTANTS]


def golden(square: Callable[[float], float], low: float, high: float, width: float) -> float:
    """Find the least value of a function of one number by the golden section.

    Args:
        square: The function, which has one least value between the two ends.
        low: The lower end.
        high: The upper end.
        width: How far off the result may be.

    Returns:
        The number that makes it least.

    Examples:
        >>> round(golden(lambda x: (x - 2) ** 2, 0.0, 5.0, 1e-4), 3)
        2.0
    """
    part = (math.sqrt(5) - 1) / 2
    one, two = high - part * (high - low), low + part * (high - low)
    of_one, of_two = square(one), square(two)
    while high - low > width:
        if of_one < of_two:
            high, two, of_two = two, one, of_one
            one = high - part * (high - low)
            of_one = square(one)
        else:
            low, one, of_one = one, two, of_two
            two = low + part * (high - low)
            of_two = square(two)
    return (low + high) / 2


@np.errstate(all="ignore")  # a recording may hold any numbers
def fitted(sample: Sample, optimizer: Optimizer, name: str) -> tuple[float, float]:
    """Find the value of one constant that leaves the least of all updates, if all else is as it is said to be.

    Args:
        sample: The run.
        optimizer: The optimizer that it is said to have.
        name: The constant: momentum, beta1, beta2 or epsilon; or ``limit``, that of the clipping.

    Returns:
        Its value, and how far rounding may have moved it.
    """
    floors = np.where(sample.floors > 0, sample.floors, np.inf)[:, sample.ids]
    asked, whole = optimizer.clipping, name in ("epsilon", "limit")

    def value(place: float) -> float:
        return math.exp(place) if whole else -math.expm1(place)

    def left(place: float) -> Array:
        if name == "limit" and asked is not None:
            other = replace(optimizer, clipping=replace(asked, limit=value(place)))
        else:
            other = altered(optimizer, **{name: value(place)})
        far: Array = residuals(sample, other) / floors
        return far

    def square(place: float) -> float:
        if not least <= place <= most:
            return math.inf  # a beta of 1 divides by 0
        total = float(np.sum(left(place) ** 2))
        return total if math.isfinite(total) else math.inf

    # Of what is kept, the rest counts, from one to a hundred-thousandth; of epsilon every power of ten.
    grid = np.log(10.0 ** np.arange(-16, 1)) if name == "epsilon" else np.log(10.0 ** np.arange(-5, 0.1, 0.25))
    if name == "limit":
        small, large = sample.sizes(optimizer)
        grid = np.linspace(math.log(small), math.log(large), 40)
    least, most = float(2 * grid[0] - grid[1]), float(2 * grid[-1] - grid[-2])
    best = float(min(grid, key=square))
    step = float(grid[1] - grid[0])
    found = min((best, golden(square, best - step, best + step, 1e-3 * step)), key=square)
    # Squares are flat at their least: the residuals themselves, which are all but linear there, tell the last digits.
    aside, slope = 1e-4, np.zeros(0)
    for _ in range(3):
        slope = (left(found + aside) - left(found - aside)) / (2 * aside)
        moved = found - float(np.sum(slope * left(found))) / (float(np.sum(slope * slope)) or 1.0)
        if not square(moved) < square(found):
            break
        found = moved
    # As many standard errors as a tolerance has noise floors. A change of a logarithm is a share of the number.
    error = math.sqrt(square(found) / max(1, sample.before.size) / (float(np.sum(slope * slope)) or math.inf))
    return value(found), FACTOR * error * (value(found) if whole else 1 - value(found))


def residuals(sample: Sample, optimizer: Optimizer) -> Array:
    """Subtract from the parameters after each update what an optimizer makes of those before it."""
    along, shrinks = sample.directions(optimizer)
    steps = along + sample.decays(optimizer) * shrinks
    left: Array = sample.after - (sample.before - sample.rates(optimizer)[:, None] * steps)
    return left


@np.errstate(all="ignore")  # a recording may hold any numbers
def errors_apart(sample: Sample, optimizer: Optimizer, better: Optimizer) -> float:
    """Say by how many standard errors of a fit an optimizer is off, if a better one was fitted."""
    floors = np.where(sample.floors > 0, sample.floors, np.inf)[:, sample.ids]
    mine, best = (float(np.sum((residuals(sample, one) / floors) ** 2)) for one in (optimizer, better))
    variance = best / max(1, sample.before.size)
    return math.sqrt(max(0.0, mine - best) / variance) if variance else (0.0 if mine == best else math.inf)


def plainly(value: float, unsure: float) -> float:
    """Round a fitted number to the fewest digits that rounding leaves of it.

    >>> plainly(0.000100031, 1e-6), plainly(0.13000000000000003, 1e-15), plainly(-2e-16, 1e-15)
    (0.0001, 0.13, 0.0)
    """
    if abs(value) <= unsure:
        return 0.0
    for digits in range(17):
        said = float(f"{value:.{digits}e}")
        if abs(said - value) <= unsure:
            return said
    return value
