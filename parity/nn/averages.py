"""Averages of a parameter over the steps of its training."""

from __future__ import annotations

from parity.typing import Array


def exponential_average(average: Array, value: Array, *, decay: float) -> Array:
    """Move an average towards a new value, so that each old one weighs ``decay`` times as much as the one after it.

    Frameworks differ in how the average begins. torch's and Keras's is a copy of the parameter after the first step;
    TF1's is the parameter before it; optax's ``ema`` begins with 0 and is divided by the weight that it lacks.

    Args:
        average: The average so far, of any shape and dtype.
        value: The value that joins it, of the same shape.
        decay: The share of the old average that is kept.

    Returns:
        The new average, of the same shape and dtype.

    Source:
        Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging", for the idea; the documentation
        of ``tf.compat.v1.train.ExponentialMovingAverage`` for this form.

    Examples:
        >>> import numpy as np
        >>> exponential_average(np.array([1.0]), np.array([3.0]), decay=0.75)
        array([1.5])
    """
    return decay * average + (1 - decay) * value


def debiased(average: Array, *, decay: float, step: int) -> Array:
    """Divide an exponential average that began with 0 by the weight of the values that it holds.

    Args:
        average: The average after ``step`` values, of any shape and dtype.
        decay: The share of the old average that was kept.
        step: How many values it holds, from 1.

    Returns:
        The weighted mean of these values, of the same shape and dtype.

    Source:
        Kingma & Ba 2015, "Adam: a method for stochastic optimization", section 3.

    Examples:
        >>> import numpy as np
        >>> first = exponential_average(np.array([0.0]), np.array([4.0]), decay=0.75)
        >>> debiased(first, decay=0.75, step=1)
        array([4.])
    """
    return average / (1 - decay**step)


def warmed_up_decay(decay: float, *, updates: int) -> float:
    """Lower the decay of an average that has not seen many values yet.

    Args:
        decay: The decay in the end.
        updates: How many updates came before.

    Returns:
        The decay to use now: the smaller of the one in the end and (1 + updates) / (10 + updates).

    Source:
        The documentation of ``tf.compat.v1.train.ExponentialMovingAverage``, under ``num_updates``.

    Examples:
        >>> [warmed_up_decay(0.5, updates=count) for count in (0, 2, 8)]
        [0.1, 0.25, 0.5]
    """
    return min(decay, (1 + updates) / (10 + updates))


def equal_average(average: Array, value: Array, *, step: int) -> Array:
    """Add a value to an average in which all weigh the same, as stochastic weight averaging does.

    Args:
        average: The average of ``step - 1`` values, of any shape and dtype.
        value: The value that joins it, of the same shape.
        step: The number of this value, from 1.

    Returns:
        The average of ``step`` values, of the same shape and dtype.

    Source:
        Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization", equation 1.

    Examples:
        >>> import numpy as np
        >>> equal_average(np.array([1.0]), np.array([4.0]), step=3)
        array([2.])
    """
    return average + (value - average) / step
