"""Optimizers as every framework defines them: a parameter and its slots after one step.

Each function takes the parameter, its gradient and its slots, and gives the new parameter and the new slots; nothing
that it is given is changed. Slots that are not there yet have the value with which the optimizer begins, so the first
step is given ``{}``. Steps count from 1. Numbers have no default where frameworks disagree about it.

Where one algorithm is written in several ways, an argument says which. ``decoupled`` tells the two kinds of weight
decay apart: the gradient of an L2 penalty, which goes through the slots, or a shrinkage of the parameter by
``learning_rate * weight_decay`` before the step, which does not (Loshchilov & Hutter 2019).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from parity.typing import Array

Slots = dict[str, Array]
"""What an optimizer keeps of one parameter from step to step, by name: each array has the parameter's shape, but for
Adafactor's rows and columns."""


def sgd(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    rate_in_velocity: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of stochastic gradient descent, with any framework's momentum.

    torch, optax and TF1 add gradients up in the velocity and multiply by the learning rate of the step; Keras adds
    steps up (``rate_in_velocity``). The two agree for as long as the learning rate stays what it is.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``momentum``, after a step with momentum.
        learning_rate: The step size.
        momentum: The share of the old velocity that is kept. 0 keeps no velocity.
        dampening: The share of the gradient that is left out of the velocity, but for the first step's gradient.
        nesterov: Whether the step goes on from the new velocity by the gradient once more.
        rate_in_velocity: Whether the velocity has been multiplied by each step's learning rate.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"; the documentation of
        ``torch.optim.SGD``, which names the difference.

    Examples:
        >>> p, slots = sgd(np.array([1.0]), np.array([2.0]), {}, learning_rate=0.1, momentum=0.5)
        >>> p, slots = sgd(p, np.array([2.0]), slots, learning_rate=0.1, momentum=0.5)
        >>> p, slots["momentum"]
        (array([0.5]), array([3.]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    rate, after = (learning_rate, 1.0) if rate_in_velocity else (1.0, learning_rate)
    step = rate * gradient
    if not momentum:
        return parameter - after * step, {}
    kept = step if "momentum" not in slots else momentum * slots["momentum"] + (1 - dampening) * step
    return parameter - after * (momentum * kept + step if nesterov else kept), {"momentum": kept}


def adam(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_root: float = 0.0,
    epsilon_hat: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Adam.

    torch and optax add epsilon to the root of the corrected second moment. Keras and TF1 add it to the root of the
    uncorrected one, which the paper calls epsilon hat: in the first step it then weighs 1 / √(1 - beta2) times as much,
    as if it were 32 times as large where beta2 is 0.999.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the second moment.
        epsilon_root: Added to the second moment under the root.
        epsilon_hat: Whether epsilon is added before the second moment is corrected for its beginning at 0.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1 and the end of section 2.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
        >>> p, slots = adam(np.array([1.0]), np.array([2.0]), {}, **rule)
        >>> p.round(6), slots["first_moment"].round(6), slots["second_moment"].round(6)
        (array([0.9]), array([0.2]), array([0.004]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    slots = _moments(gradient, slots, beta1, beta2)
    second = slots["second_moment"]
    return parameter - learning_rate * _adam_direction(
        slots["first_moment"], second, step, beta1, beta2, epsilon, epsilon_root, epsilon_hat
    ), slots


def adamw(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    epsilon_root: float = 0.0,
    epsilon_hat: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Adam with decoupled weight decay.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size, which the decay is multiplied by as well.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the second moment.
        weight_decay: The strength of the decay.
        epsilon_root: Added to the second moment under the root.
        epsilon_hat: Whether epsilon is added before the second moment is corrected, as ``adam`` says.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2. There the learning rate does
        not multiply the decay; in every framework it does.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=1e-8)
        >>> adamw(np.array([1.0]), np.array([0.0]), {}, weight_decay=0.5, **rule)[0]
        array([0.95])
    """
    parameter, _ = _with_decay(parameter, gradient, learning_rate, weight_decay, True)
    return adam(
        parameter,
        gradient,
        slots,
        step=step,
        learning_rate=learning_rate,
        beta1=beta1,
        beta2=beta2,
        epsilon=epsilon,
        epsilon_root=epsilon_root,
        epsilon_hat=epsilon_hat,
    )


def amsgrad(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_root: float = 0.0,
    epsilon_hat: bool = False,
    corrected_maximum: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of AMSGrad: Adam whose second moment never falls.

    torch and Keras keep the maximum of the second moment and correct it for the step at which it is used. optax keeps
    the maximum of the corrected ones: the first step's, which is divided by 1 - beta2, is then hard to exceed.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment``, ``second_moment`` and ``largest_second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the second moment.
        epsilon_root: Added to the second moment under the root.
        epsilon_hat: Whether epsilon is added before the second moment is corrected, as ``adam`` says.
        corrected_maximum: Whether the maximum is one of corrected moments.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Reddi, Kale & Kumar 2018, "On the convergence of Adam and beyond", algorithm 2, which corrects nothing.

    Examples:
        >>> rule = dict(learning_rate=0.1, beta1=0.0, beta2=0.5, epsilon=0.0)
        >>> p, slots = amsgrad(np.array([1.0]), np.array([4.0]), {}, step=1, **rule)
        >>> p, slots = amsgrad(p, np.array([1.0]), slots, step=2, **rule)
        >>> slots["second_moment"], slots["largest_second_moment"]
        (array([4.5]), array([8.]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    slots = slots | _moments(gradient, slots, beta1, beta2)
    second = slots["second_moment"] / (1 - beta2**step) if corrected_maximum else slots["second_moment"]
    largest = np.maximum(_old(slots, "largest_second_moment", parameter), second)
    slots["largest_second_moment"] = largest
    uncorrected = largest * (1 - beta2**step) if corrected_maximum else largest
    return parameter - learning_rate * _adam_direction(
        slots["first_moment"], uncorrected, step, beta1, beta2, epsilon, epsilon_root, epsilon_hat
    ), slots


def nadam(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    momentum_decay: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of NAdam: Adam with Nesterov's momentum.

    The momentum of step t is beta1 (1 - 0.96^(t momentum_decay) / 2). Frameworks differ in how fast it gets from half
    of beta1 to beta1: torch's ``momentum_decay`` is 0.004 unless another is given, Keras's is 1 and cannot be changed,
    and optax begins with beta1, which an infinite ``momentum_decay`` says.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept, and the momentum that is reached in the end.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the corrected second moment.
        momentum_decay: How fast the momentum reaches beta1.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Dozat 2016, "Incorporating Nesterov momentum into Adam", algorithm 2 and its section on warming up.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, beta1=0.5, beta2=0.5, epsilon=0.0)
        >>> p, slots = nadam(np.array([1.0]), np.array([2.0]), {}, momentum_decay=math.inf, **rule)
        >>> p.round(6)
        array([0.866667])
    """

    def momentum_at(when: int) -> float:
        return beta1 * (1 - 0.96 ** (when * momentum_decay) / 2)

    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    slots = _moments(gradient, slots, beta1, beta2)
    now, next_ = momentum_at(step), momentum_at(step + 1)
    product = math.prod(momentum_at(when) for when in range(1, step + 1))
    first = next_ / (1 - product * next_) * slots["first_moment"] + (1 - now) / (1 - product) * gradient
    second = slots["second_moment"] / (1 - beta2**step)
    return parameter - learning_rate * (first / (np.sqrt(second) + epsilon)), slots


def adamax(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_in_norm: bool = False,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Adamax: Adam with the largest gradient so far, which fades, in place of the root mean square.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``infinity_norm``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old norm that is kept.
        epsilon: Keeps the division from one by 0.
        epsilon_in_norm: Whether epsilon is added to each new gradient's size, as in torch and optax, and stays in the
            norm; else to the norm where it divides, as in Keras.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 2, which has no epsilon.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=0.0)
        >>> p, slots = adamax(np.array([1.0]), np.array([-2.0]), {}, **rule)
        >>> p, slots["infinity_norm"]
        (array([1.1]), array([2.]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    first = _average(_old(slots, "first_moment", parameter), gradient, beta1)
    size = np.abs(gradient) + epsilon if epsilon_in_norm else np.abs(gradient)
    norm = np.maximum(beta2 * _old(slots, "infinity_norm", parameter), size)
    divisor = norm if epsilon_in_norm else norm + epsilon
    slots = {"first_moment": first, "infinity_norm": norm}
    return parameter - learning_rate / (1 - beta1**step) * (first / divisor), slots


def rmsprop(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    rho: float,
    epsilon: float,
    epsilon_in_root: bool = False,
    centered: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    rate_in_velocity: bool = False,
    initial_mean_square: float = 0.0,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of RMSprop.

    torch adds epsilon to the root; Keras, TF1 and, unless told otherwise, optax add it under the root. The mean square
    begins with 1 in TF1, with 0 elsewhere.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``mean_square``, with ``centered`` ``mean_gradient`` and with momentum ``momentum``, after a step.
        learning_rate: The step size.
        rho: The share of the old mean square that is kept.
        epsilon: Keeps the division from one by 0.
        epsilon_in_root: Whether epsilon is added under the root.
        centered: Whether the square of the mean gradient is taken off the mean square.
        momentum: The share of the old velocity that is kept. 0 keeps no velocity.
        nesterov: Whether the step goes on from the new velocity by the scaled gradient once more.
        rate_in_velocity: Whether the velocity has been multiplied by each step's learning rate, as in all but torch.
        initial_mean_square: What the mean square begins with.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Tieleman & Hinton 2012, lecture 6.5 of "Neural networks for machine learning"; for the centered one with
        momentum Graves 2013, "Generating sequences with recurrent neural networks", equations 38 to 45.

    Examples:
        >>> rule = dict(learning_rate=0.1, rho=0.75, epsilon=0.0)
        >>> p, slots = rmsprop(np.array([1.0]), np.array([2.0]), {}, **rule)
        >>> p, slots["mean_square"]
        (array([0.8]), array([1.]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    new = {"mean_square": _average(_old(slots, "mean_square", parameter, initial_mean_square), gradient**2, rho)}
    variance = new["mean_square"]
    if centered:
        new["mean_gradient"] = _average(_old(slots, "mean_gradient", parameter), gradient, rho)
        variance = variance - new["mean_gradient"] ** 2
    scaled = gradient / (np.sqrt(variance + epsilon) if epsilon_in_root else np.sqrt(variance) + epsilon)
    velocity = {"momentum": slots["momentum"]} if "momentum" in slots else {}
    parameter, velocity = sgd(
        parameter,
        scaled,
        velocity,
        learning_rate=learning_rate,
        momentum=momentum,
        nesterov=nesterov,
        rate_in_velocity=rate_in_velocity,
    )
    return parameter, new | velocity


def adagrad(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    epsilon: float,
    initial_sum_of_squares: float,
    epsilon_in_root: bool = False,
    learning_rate_decay: float = 0.0,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Adagrad.

    torch adds epsilon to the root and begins with 0; Keras and optax add it under the root and begin with 0.1; TF1
    begins with 0.1 and has no epsilon.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``sum_of_squares``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        epsilon: Keeps the division from one by 0.
        initial_sum_of_squares: What the sum of squares begins with.
        epsilon_in_root: Whether epsilon is added under the root.
        learning_rate_decay: The learning rate of step t is divided by 1 + (t - 1) of it. torch alone has it.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Duchi, Hazan & Singer 2011, "Adaptive subgradient methods for online learning and stochastic optimization".

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, epsilon=0.0, initial_sum_of_squares=0.0)
        >>> adagrad(np.array([1.0]), np.array([2.0]), {}, **rule)
        (array([0.9]), {'sum_of_squares': array([4.])})
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    total = _old(slots, "sum_of_squares", parameter, initial_sum_of_squares) + gradient**2
    rate = learning_rate / (1 + (step - 1) * learning_rate_decay)
    divisor = np.sqrt(total + epsilon) if epsilon_in_root else np.sqrt(total) + epsilon
    return parameter - rate * (gradient / divisor), {"sum_of_squares": total}


def adadelta(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    rho: float,
    epsilon: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of Adadelta, whose step size is the ratio of two root mean squares.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``mean_square`` and ``mean_square_update``, after a step.
        learning_rate: A factor of the step, 1 in the paper.
        rho: The share of the old mean squares that is kept.
        epsilon: Added to both mean squares, under the roots.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter and leaves the gradient as it is.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Zeiler 2012, "ADADELTA: an adaptive learning rate method", algorithm 1.

    Examples:
        >>> p, slots = adadelta(np.array([1.0]), np.array([3.0]), {}, learning_rate=1.0, rho=0.0, epsilon=1e-6)
        >>> p.round(6), slots["mean_square"]
        (array([0.999]), array([9.]))
    """
    parameter, gradient = _with_decay(parameter, gradient, learning_rate, weight_decay, decoupled)
    square = _average(_old(slots, "mean_square", parameter), gradient**2, rho)
    old = _old(slots, "mean_square_update", parameter)
    update = np.sqrt(old + epsilon) / np.sqrt(square + epsilon) * gradient
    slots = {"mean_square": square, "mean_square_update": _average(old, update**2, rho)}
    return parameter - learning_rate * update, slots


def lion(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    learning_rate: float,
    beta1: float,
    beta2: float,
    weight_decay: float = 0.0,
) -> tuple[Array, Slots]:
    """Take a step of Lion, which goes by the sign of a first moment.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment``, after a step.
        learning_rate: The step size.
        beta1: The share of the old first moment in the sign.
        beta2: The share of the old first moment that is kept.
        weight_decay: The strength of the decay, which is decoupled everywhere.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Chen et al. 2023, "Symbolic discovery of optimization algorithms", program 1.

    Examples:
        >>> p, slots = lion(np.array([1.0]), np.array([-2.0]), {}, learning_rate=0.1, beta1=0.9, beta2=0.75)
        >>> p, slots["first_moment"]
        (array([1.1]), array([-0.5]))
    """
    parameter, _ = _with_decay(parameter, gradient, learning_rate, weight_decay, True)
    old = _old(slots, "first_moment", parameter)
    moved = parameter - learning_rate * np.sign(_average(old, gradient, beta1))
    return moved, {"first_moment": _average(old, gradient, beta2)}


def lamb(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> tuple[Array, Slots]:
    """Take a step of LAMB: Adam's direction, made as long as the parameter is.

    In optax, as in the paper, the decay belongs to the direction whose length is taken. In Keras it is decoupled, as in
    all of its optimizers, and the parameter's length is taken after it.

    Args:
        parameter: The value before the step, of any shape and dtype. Lengths are of the whole of it.
        gradient: Its gradient, of the same shape.
        slots: ``first_moment`` and ``second_moment``, after a step.
        step: The number of this step, from 1.
        learning_rate: The step size.
        beta1: The share of the old first moment that is kept.
        beta2: The share of the old second moment that is kept.
        epsilon: Added to the root of the corrected second moment.
        weight_decay: The strength of the decay.
        decoupled: Whether the decay shrinks the parameter before the step, and is no part of the direction.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        You et al. 2020, "Large batch optimization for deep learning: training BERT in 76 minutes", algorithm 2.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, beta1=0.9, beta2=0.999, epsilon=0.0)
        >>> lamb(np.array([3.0, 4.0]), np.array([1.0, -1.0]), {}, **rule)[0].round(6)
        array([2.646447, 4.353553])
    """
    if decoupled:
        parameter, _ = _with_decay(parameter, gradient, learning_rate, weight_decay, True)
    slots = _moments(gradient, slots, beta1, beta2)
    direction = _adam_direction(slots["first_moment"], slots["second_moment"], step, beta1, beta2, epsilon, 0.0, False)
    if weight_decay and not decoupled:
        direction = direction + weight_decay * parameter
    lengths = np.sqrt(np.sum(parameter**2)), np.sqrt(np.sum(direction**2))
    ratio = lengths[0] / lengths[1] if lengths[0] > 0 and lengths[1] > 0 else 1
    return parameter - learning_rate * ratio * direction, slots


def adafactor(
    parameter: Array,
    gradient: Array,
    slots: Slots,
    *,
    step: int,
    learning_rate: float,
    decay_rate: float,
    epsilon: float,
    epsilon_scale: float,
    clip_threshold: float,
    factored: bool = True,
    epsilon_is_floor: bool = False,
    relative_step: bool = True,
    weight_decay: float = 0.0,
    decay: Literal["before", "after", "without_rate"] = "before",
) -> tuple[Array, Slots]:
    """Take a step of Adafactor without momentum: its second moment is kept as the means of rows and of columns.

    Keras and optax add epsilon to each squared gradient. In torch epsilon is the least mean of the rows, and its square
    the least second moment (``epsilon_is_floor``). torch and Keras take no rate above 1 / √t; optax takes any.

    Args:
        parameter: The value before the step, of any shape and dtype.
        gradient: Its gradient, of the same shape.
        slots: ``row_mean`` (…, rows) and ``column_mean`` (…, columns) where the moment is factored, else
            ``second_moment``, after a step.
        step: The number t of this step, from 1.
        learning_rate: The step size, relative to the parameter's root mean square.
        decay_rate: Of the old moment 1 - t^-decay_rate is kept.
        epsilon: Keeps the second moment from being 0.
        epsilon_scale: The least root mean square that the step is scaled by.
        clip_threshold: A direction of a larger root mean square is shortened to this one.
        factored: Whether a parameter of two axes or more has its last two factored.
        epsilon_is_floor: Whether epsilon is a least value, and is not added.
        relative_step: Whether the learning rate is at most 1 / √t.
        weight_decay: The strength of the decay, which is always decoupled.
        decay: Whether the parameter shrinks before its root mean square is taken, as in Keras, or after, as in torch;
            or after and by ``weight_decay`` alone, not multiplied by the learning rate, as in optax.

    Returns:
        The parameter and the slots after the step, in the parameter's dtype.

    Source:
        Shazeer & Stern 2018, "Adafactor: adaptive learning rates with sublinear memory cost", algorithms 4 and 5.

    Examples:
        >>> rule = dict(step=1, learning_rate=0.1, decay_rate=0.8, epsilon=0.0, epsilon_scale=1e-3, clip_threshold=1.0)
        >>> p, slots = adafactor(np.ones((2, 2)), np.array([[1.0, 2.0], [2.0, 4.0]]), {}, **rule)
        >>> p.round(6).tolist(), slots["row_mean"].tolist()
        ([[0.9, 0.9], [0.9, 0.9]], [2.5, 10.0])
    """
    kept = 1 - step**-decay_rate
    rate = min(learning_rate, step**-0.5) if relative_step else learning_rate
    shrunk = parameter - (1 if decay == "without_rate" else learning_rate) * weight_decay * parameter
    rate = rate * max(epsilon_scale, _root_mean_square(shrunk if decay == "before" else parameter))
    square = gradient**2 if epsilon_is_floor else gradient**2 + epsilon
    if factored and parameter.ndim > 1:
        rows = _average(slots.get("row_mean", 0), square.mean(-1), kept)  # (…, rows)
        columns = _average(slots.get("column_mean", 0), square.mean(-2), kept)  # (…, columns)
        slots = {"row_mean": rows, "column_mean": columns}
        mean = rows.mean(-1)[..., None, None]  # (…, 1, 1)
        second = rows[..., None] * columns[..., None, :] / (np.maximum(mean, epsilon) if epsilon_is_floor else mean)
    else:
        second = _average(_old(slots, "second_moment", parameter), square, kept)
        slots = {"second_moment": second}
    direction = gradient / np.sqrt(np.maximum(second, epsilon**2) if epsilon_is_floor else second)
    return shrunk - rate * direction / max(1, _root_mean_square(direction) / clip_threshold), slots


def _with_decay(
    parameter: Array, gradient: Array, learning_rate: float, weight_decay: float, decoupled: bool
) -> tuple[Array, Array]:
    """The parameter and the gradient with the decay in one of the two."""
    if not weight_decay:
        return parameter, gradient
    if decoupled:
        return parameter - learning_rate * weight_decay * parameter, gradient
    return parameter, gradient + weight_decay * parameter


def _old(slots: Slots, name: str, like: Array, initial: float = 0.0) -> Array:
    return slots[name] if name in slots else np.full_like(like, initial)


def _average(old: Array | float, new: Array, kept: float) -> Array:
    return kept * old + (1 - kept) * new


def _moments(gradient: Array, slots: Slots, beta1: float, beta2: float) -> Slots:
    return {
        "first_moment": _average(_old(slots, "first_moment", gradient), gradient, beta1),
        "second_moment": _average(_old(slots, "second_moment", gradient), gradient**2, beta2),
    }


def _adam_direction(
    first: Array,
    second: Array,
    step: int,
    beta1: float,
    beta2: float,
    epsilon: float,
    epsilon_root: float,
    epsilon_hat: bool,
) -> Array:
    """The corrected first moment over the root of the corrected second one."""
    correction = 1 - beta2**step
    if epsilon_hat:
        return first * (math.sqrt(correction) / (1 - beta1**step)) / (np.sqrt(second + epsilon_root) + epsilon)
    return first / (1 - beta1**step) / (np.sqrt(second / correction + epsilon_root) + epsilon)


def _root_mean_square(values: Array) -> float:
    return np.sqrt(np.mean(values**2))
