"""Optimizers that few people port, and get wrong when they do: RAdam, Rprop, FTRL and Muon.

They take and give what those of ``parity.nn.optimizers`` do: a parameter, its gradient and its slots, which are ``{}``
before the first step; steps count from 1.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from parity.nn.optimizers import Slots
from parity.typing import Array

QUINTIC = (3.4445, -4.775, 2.0315)
"""The coefficients of Muon's polynomial, from Jordan's "Muon: an optimizer for hidden layers in neural networks"."""


def radam(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_hat: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    """Take a step of RAdam: Adam that goes by its first moment alone until its second one is known well enough.

    That is so where the average is over more than 5 steps, which with a beta2 of 0.999 is the sixth step. From there on
    the step is Adam's, times a factor that tends to 1.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the second moment. The paper has none.
        epsilon_hat: Whether epsilon is added before the second moment is corrected for its beginning at 0, as in torch.
        weight_decay: The strength of an L2 penalty, whose gradient is added.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Liu et al. 2020, "On the variance of the adaptive learning rate and beyond", algorithm 2.

    Examples:
        >>> rule = dict(learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
        >>> radam(np.array([1.0]), np.array([2.0]), {}, step=1, **rule)[0].round(6)
        array([0.8])
    """
    gradient = gradient + weight_decay * parameter if weight_decay else gradient
    first = beta1 * slots.get("first_moment", 0) + (1 - beta1) * gradient
    second = beta2 * slots.get("second_moment", 0) + (1 - beta2) * gradient**2
    corrected, share = first / (1 - beta1**step), 1 - beta2**step
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * step * beta2**step / share
    if length > 5:
        factor = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
        if epsilon_hat:
            corrected = factor * math.sqrt(share) * corrected / (np.sqrt(second) + epsilon)
        else:
            corrected = factor * corrected / (np.sqrt(second / share) + epsilon)
    return parameter - learning_rate * corrected, {"first_moment": first, "second_moment": second}


def rprop(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    eta_minus: float,
    eta_plus: float,
    least_step: float,
    largest_step: float,
    first_bounded: bool = True,
    late: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Rprop: by the sign of each gradient, farther if it is the last one's, and less far if it is not.

    Where the sign changes no step is made, and the next one is as if it were the first.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``step_size`` and ``sign``, the sign of the last gradient or 0, after a step.
        learning_rate: The first step size. What is said of it later has no effect.
        eta_minus: What a step size is multiplied by where the sign changes.
        eta_plus: What it is multiplied by where the sign stays.
        least_step: The smallest step size.
        largest_step: The largest step size.
        first_bounded: Whether both bounds hold for the first step as well.
        late: Whether each step is made one step later, and not at all if the sign has changed by then, as in optax.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Riedmiller & Braun 1993, "A direct adaptive method for faster backpropagation learning: the RPROP algorithm";
        Igel & Huesken 2003, "Empirical evaluation of the improved Rprop learning algorithms", for no step back.

    Examples:
        >>> rule = dict(learning_rate=0.5, eta_minus=0.5, eta_plus=1.5, least_step=1e-6, largest_step=50.0)
        >>> p, slots = rprop(np.array([1.0, 1.0]), np.array([3.0, -3.0]), {}, **rule)
        >>> rprop(p, np.array([1.0, 1.0]), slots, **rule)[0], p
        (array([-0.25,  1.5 ]), array([0.5, 1.5]))
    """
    sign, old = np.sign(gradient), slots.get("sign", np.zeros_like(parameter))
    size = slots.get("step_size", np.full_like(parameter, learning_rate))
    turned = sign * old
    factor = np.where(turned > 0, eta_plus, np.where(turned < 0, eta_minus, 1.0)).astype(parameter.dtype)
    bounded = np.clip(size * factor, least_step, largest_step)
    bounded = bounded if first_bounded else np.where(turned == 0, size, bounded)
    sign = np.where(turned < 0, 0, sign)
    move = np.where(turned < 0, 0, old * size) if late else sign * bounded
    return parameter - move, {"step_size": bounded, "sign": sign}


def ftrl(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    learning_rate_power: float,
    initial_sum_of_squares: float,
    l1: float = 0.0,
    l2: float = 0.0,
    l2_shrinkage: float = 0.0,
    beta: float = 0.0,
) -> tuple[Array, Slots]:
    """Take a step of FTRL-Proximal, which leaves parameters at 0 that an L1 penalty keeps there.

    The parameter is made anew in each step from all gradients so far. What it was before the first step counts only by
    as much as the first gradient adds to the root of the sum of squares: with a large sum in the beginning it is nearly
    forgotten.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``sum_of_squares`` and ``linear``, after a step.
        learning_rate: The step size.
        learning_rate_power: The step size falls as the sum of squares to this power, which is not above 0.
        initial_sum_of_squares: What the sum of squares begins with.
        l1: The strength of the L1 penalty.
        l2: The strength of the L2 penalty that all steps together have.
        l2_shrinkage: The strength of an L2 penalty of the loss, which the sum of squares does not see.
        beta: What is added to the root of the sum of squares, in the paper 1.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        McMahan et al. 2013, "Ad click prediction: a view from the trenches", algorithm 1, whose power is -1/2.

    Examples:
        >>> rule = dict(learning_rate=0.5, learning_rate_power=-0.5, initial_sum_of_squares=0.0)
        >>> ftrl(np.array([1.0, 1.0]), np.array([3.0, -3.0]), {}, **rule)[0]
        array([0.5, 1.5])
        >>> ftrl(np.array([0.0, 0.0]), np.array([3.0, -3.0]), {}, l1=3.0, **rule)[0].tolist()
        [0.0, 0.0]
    """
    old = slots.get("sum_of_squares", np.full_like(parameter, initial_sum_of_squares))
    new = old + gradient**2
    before, after = (one**-learning_rate_power / learning_rate for one in (old, new))
    penalized = gradient + 2 * l2_shrinkage * parameter
    linear = slots.get("linear", 0) + penalized - (after - before) * parameter
    divisor = after + beta / learning_rate + 2 * l2
    return (np.clip(linear, -l1, l1) - linear) / divisor, {"sum_of_squares": new, "linear": linear}


def muon(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    momentum: float,
    newton_schulz_steps: int,
    epsilon: float,
    step: int = 1,
    nesterov: bool = True,
    scale: Literal["width", "rms", "none"] = "width",
    rms: float = 0.2,
    coefficients: tuple[float, float, float] = QUINTIC,
    averaged: bool = True,
    corrected: bool = False,
    least_norm: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    """Take a step of Muon: all singular values of the momentum are brought near to 1.

    How far the step goes by shape is not agreed upon. Jordan's, torch's and optax's is times √max(1, out / in)
    ("width"); Moonshot's, with which Adam's learning rate and decay do, is times 0.2 √max(in, out) ("rms"), which is
    Keras's default and an option of the others.

    Args:
        parameter: The value before the step, ``(in, out)``; torch's kernels are ``(out, in)``.
        gradient: Its gradient, of the same shape.
        slots: ``momentum``, after a step.
        learning_rate: The step size.
        momentum: The share of the old momentum that is kept.
        newton_schulz_steps: How often the polynomial is applied.
        epsilon: Added to the norm by which the momentum is divided before.
        step: The number of this step, from 1; it counts where the momentum is ``corrected``.
        nesterov: Whether the step goes on from the new momentum by the gradient once more.
        scale: What the step is multiplied by.
        rms: The factor of the scale "rms".
        coefficients: Those of x, x³ and x⁵ in the polynomial.
        averaged: Whether the momentum is an average of gradients; else it adds them up, as in Keras.
        corrected: Whether momentum and gradient are corrected for the beginning at 0, as in optax.
        least_norm: Whether epsilon is the least norm, as in torch, and not added.
        weight_decay: The strength of the decay, which is decoupled everywhere.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al. 2025, "Muon is
        scalable for LLM training", section 2.2, for the scale "rms".

    Examples:
        >>> rule = dict(learning_rate=0.1, momentum=0.95, newton_schulz_steps=5, epsilon=1e-7)
        >>> p, slots = muon(np.zeros((2, 2)), np.array([[5.0, 0.0], [0.0, -3.0]]), {}, **rule)
        >>> p.round(3).tolist()
        [[-0.097, 0.0], [0.0, 0.071]]
    """
    share = 1 - momentum if averaged else 1.0
    kept = momentum * slots.get("momentum", np.zeros_like(parameter)) + share * gradient
    ahead = share * gradient + momentum * kept if nesterov else kept
    if corrected and nesterov:
        ahead = share * gradient / (1 - momentum**step) + momentum * kept / (1 - momentum ** (step + 1))
    elif corrected:
        ahead = kept / (1 - momentum**step)
    norm = np.sqrt(np.sum(ahead**2))
    direction = ahead / (np.maximum(norm, epsilon) if least_norm else norm + epsilon)
    a, b, c = coefficients
    for _ in range(newton_schulz_steps):
        gram = direction @ direction.T  # (in, in)
        direction = a * direction + (b * gram + c * gram @ gram) @ direction
    into, out = parameter.shape
    factor = {"width": math.sqrt(max(1, out / into)), "rms": rms * math.sqrt(max(into, out)), "none": 1.0}[scale]
    moved = parameter - learning_rate * weight_decay * parameter - learning_rate * factor * direction
    return moved, {"momentum": kept}
