"""Learning-rate schedules: the rate of an update, from how many updates came before it.

Every framework counts from 0: the first update has the schedule's value at 0. torch's schedulers do so if ``step()`` is
called after the optimizer's, once an update; called once an epoch, they count epochs. Rates are Python floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal


def step_decay(step: int, *, learning_rate: float, every: int, factor: float) -> float:
    """Multiply the learning rate by a factor again and again.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        every: How many updates have one rate.
        factor: The ratio of a rate to the one before.

    Returns:
        The rate of this update.

    Source:
        The documentation of ``torch.optim.lr_scheduler.StepLR``; elsewhere it is the exponential decay's staircase.

    Examples:
        >>> [step_decay(step, learning_rate=1.0, every=2, factor=0.5) for step in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """
    return learning_rate * factor ** (step // every)


def exponential_decay(step: int, *, learning_rate: float, every: float, factor: float) -> float:
    """Let the learning rate fall by the same share at every update.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        every: How many updates it takes to fall by the whole factor.
        factor: The ratio of the rate after ``every`` updates to the rate now.

    Returns:
        The rate of this update.

    Source:
        The documentation of ``tf.compat.v1.train.exponential_decay``.

    Examples:
        >>> [exponential_decay(step, learning_rate=1.0, every=2, factor=0.25) for step in range(3)]
        [1.0, 0.5, 0.25]
    """
    return learning_rate * factor ** (step / every)


def inverse_time_decay(
    step: int, *, learning_rate: float, every: float, factor: float, staircase: bool = False
) -> float:
    """Divide the learning rate by a number that grows with time.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        every: How many updates it takes the divisor to grow by the whole factor.
        factor: What the divisor grows by.
        staircase: Whether the divisor grows at each ``every``-th update alone.

    Returns:
        The rate of this update.

    Source:
        The documentation of ``tf.compat.v1.train.inverse_time_decay``.

    Examples:
        >>> [inverse_time_decay(step, learning_rate=1.0, every=1, factor=1.0) for step in range(2)]
        [1.0, 0.5]
    """
    return learning_rate / (1 + factor * (step // every if staircase else step / every))


def piecewise_constant(
    step: int, *, values: Sequence[float], boundaries: Sequence[int], boundary_has_old: bool = False
) -> float:
    """Change the learning rate at given updates.

    torch and optax give the update at the boundary the new rate; Keras and TF1 give it the old one, so that with equal
    numbers they change one update later.

    Args:
        step: How many updates came before.
        values: The rates, one more than there are boundaries.
        boundaries: The updates at which the rate changes, ascending.
        boundary_has_old: Whether the update at a boundary still has the rate before it.

    Returns:
        The rate of this update.

    Raises:
        ValueError: If there is not one value more than there are boundaries.

    Source:
        The documentation of ``torch.optim.lr_scheduler.MultiStepLR`` and ``tf.compat.v1.train.piecewise_constant``.

    Examples:
        >>> [piecewise_constant(step, values=[1.0, 0.1], boundaries=[1]) for step in range(3)]
        [1.0, 0.1, 0.1]
        >>> [piecewise_constant(step, values=[1.0, 0.1], boundaries=[1], boundary_has_old=True) for step in range(3)]
        [1.0, 1.0, 0.1]
    """
    if len(values) != len(boundaries) + 1:
        raise ValueError(f"{len(boundaries)} boundaries part {len(boundaries) + 1} values, not {len(values)}")
    return values[sum(step > one if boundary_has_old else step >= one for one in boundaries)]


def polynomial_decay(
    step: int, *, learning_rate: float, end: float, steps: int, power: float = 1.0, cycle: bool = False
) -> float:
    """Let the learning rate fall, or rise, along a power of the updates that are left.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        end: The rate after ``steps`` updates, which stays.
        steps: How many updates it takes.
        power: The exponent; 1 gives a straight line.
        cycle: Whether the rate leaps up at the end and falls again, over a longer while each time.

    Returns:
        The rate of this update.

    Source:
        The documentation of ``tf.compat.v1.train.polynomial_decay``.

    Examples:
        >>> [polynomial_decay(step, learning_rate=1.0, end=0.0, steps=4, power=2.0) for step in range(6)]
        [1.0, 0.5625, 0.25, 0.0625, 0.0, 0.0]
    """
    length = steps * max(1, math.ceil(step / steps)) if cycle else steps
    return (learning_rate - end) * (1 - min(step, length) / length) ** power + end


def linear_warmup(step: int, *, learning_rate: float, start: float, steps: int) -> float:
    """Let the learning rate rise along a straight line, then stay.

    Args:
        step: How many updates came before.
        learning_rate: The rate after the warm-up.
        start: The first update's rate. With 0, which optax's examples have, the first update changes nothing.
        steps: The number of the first update that has the whole rate, counted from 0.

    Returns:
        The rate of this update.

    Source:
        Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2; the documentation of
        ``torch.optim.lr_scheduler.LinearLR``.

    Examples:
        >>> [linear_warmup(step, learning_rate=1.0, start=0.0, steps=2) for step in range(4)]
        [0.0, 0.5, 1.0, 1.0]
    """
    return polynomial_decay(step, learning_rate=start, end=learning_rate, steps=steps)


def cosine_decay(
    step: int, *, learning_rate: float, end: float, steps: int, exponent: float = 1.0, comes_back: bool = False
) -> float:
    """Let the learning rate fall along half a wave of the cosine.

    torch's scheduler goes on along the wave, and the rate rises again; everywhere else it stays at its end.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        end: The rate after ``steps`` updates. Keras, TF1 and optax give it as a share of the first one.
        steps: How many updates it takes.
        exponent: The power that the wave is raised to. optax alone has it.
        comes_back: Whether the rate rises again after ``steps`` updates.

    Returns:
        The rate of this update.

    Source:
        Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5 without restarts.

    Examples:
        >>> [round(cosine_decay(step, learning_rate=1.0, end=0.0, steps=2), 6) for step in range(4)]
        [1.0, 0.5, 0.0, 0.0]
        >>> [round(cosine_decay(step, learning_rate=1.0, end=0.0, steps=2, comes_back=True), 6) for step in range(4)]
        [1.0, 0.5, 0.0, 0.5]
    """
    wave = (1 + math.cos(math.pi * (step if comes_back else min(step, steps)) / steps)) / 2
    return (learning_rate - end) * wave**exponent + end


def cosine_restarts(
    step: int, *, learning_rate: float, end: float, steps: int, growth: float = 1.0, factor: float = 1.0
) -> float:
    """Let the learning rate fall along half a wave of the cosine, again and again.

    Args:
        step: How many updates came before.
        learning_rate: The first rate.
        end: What each fall would reach if it went on for one update more.
        steps: The updates of the first fall.
        growth: The ratio of each fall's length to the one before.
        factor: The ratio of each fall's height over ``end`` to the one before: not of the rate to which it leaps.
            torch has none.

    Returns:
        The rate of this update.

    Source:
        Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts", equation 5.

    Examples:
        >>> [round(cosine_restarts(step, learning_rate=1.0, end=0.0, steps=2), 6) for step in range(5)]
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    since, length, height = float(step), float(steps), learning_rate - end
    while since >= length:
        since, length, height = since - length, length * growth, height * factor
    return height * (1 + math.cos(math.pi * since / length)) / 2 + end


def warmup_cosine(
    step: int,
    *,
    learning_rate: float,
    start: float,
    end: float,
    warmup_steps: int,
    steps: int,
    exponent: float = 1.0,
    comes_back: bool = False,
) -> float:
    """Let the learning rate rise along a straight line, then fall along half a wave of the cosine.

    Args:
        step: How many updates came before.
        learning_rate: The highest rate.
        start: The first update's rate.
        end: The last rate, which stays.
        warmup_steps: The number of the update that has the highest rate, counted from 0.
        steps: How many updates the fall takes. Keras's ``decay_steps`` are these; optax's are these and the warm-up's.
        exponent: The power that the wave is raised to. optax alone has it.
        comes_back: Whether the rate rises again in the end, as ``cosine_decay`` says.

    Returns:
        The rate of this update.

    Source:
        The documentation of ``optax.warmup_cosine_decay_schedule`` and ``keras.optimizers.schedules.CosineDecay``.

    Examples:
        >>> rule = dict(learning_rate=1.0, start=0.0, end=0.0, warmup_steps=2, steps=2)
        >>> [round(warmup_cosine(step, **rule), 6) for step in range(6)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if step < warmup_steps:
        return linear_warmup(step, learning_rate=learning_rate, start=start, steps=warmup_steps)
    return cosine_decay(
        step - warmup_steps,
        learning_rate=learning_rate,
        end=end,
        steps=steps,
        exponent=exponent,
        comes_back=comes_back,
    )


def one_cycle(
    step: int,
    *,
    learning_rate: float,
    start: float,
    end: float,
    peak_step: float,
    end_step: float,
    return_step: float | None = None,
    shape: Literal["cosine", "linear"] = "cosine",
) -> float:
    """Let the learning rate rise to a peak, then fall far below where it began.

    Of ``n`` updates, torch gives the peak to update ``share * n - 1`` and the end to ``n - 1``, counted from 0, where
    optax has the whole part of ``share * n``, and ``n``: torch's last update has the last rate, optax's does not.

    Args:
        step: How many updates came before.
        learning_rate: The peak.
        start: The first update's rate. torch and optax give it as a divisor of the peak, 25 unless another is given.
        end: The last rate. It is given as a divisor of the start; for optax's straight lines, of the start as well.
        peak_step: When the peak is reached, in updates from 0.
        end_step: When the end is reached.
        return_step: When the rate is back at its start, if it falls in two pieces.
        shape: Half waves of the cosine, or straight lines.

    Returns:
        The rate of this update.

    Source:
        Smith & Topin 2018, "Super-convergence: very fast training of neural networks using large learning rates"; the
        documentation of ``torch.optim.lr_scheduler.OneCycleLR``.

    Examples:
        >>> rule = dict(learning_rate=1.0, start=0.5, end=0.0, peak_step=1, end_step=3)
        >>> [round(one_cycle(step, **rule), 6) for step in range(5)]
        [0.5, 1.0, 0.5, 0.0, 0.0]
    """
    knots = [(0.0, start), (peak_step, learning_rate), (end_step, end)]
    if return_step is not None:
        knots.insert(2, (return_step, start))
    for (begin, first), (until, last) in pairwise(knots):
        if step < until:
            share = (step - begin) / (until - begin)
            share = (1 - math.cos(math.pi * share)) / 2 if shape == "cosine" else share
            return first + (last - first) * share
    return end
