"""Initializers: from which distribution a kernel is drawn. The draws themselves are each framework's own."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

Distribution = Literal["uniform", "normal", "truncated_normal"]
"""What a kernel is drawn from. A truncated normal distribution is cut at two of its standard deviations."""
Mode = Literal["fan_in", "fan_out", "fan_avg", "fan_geo_avg"]
"""The fan that a variance is divided by: inputs, outputs, their mean, or the root of their product."""
TRUNCATED = math.sqrt(1 - 2 * 2 * math.exp(-2) / math.sqrt(2 * math.pi) / math.erf(math.sqrt(2)))
"""The standard deviation that is left of a normal distribution of 1 cut at -2 and 2: .8796."""


class Fans(NamedTuple):
    """How many values a unit of a layer takes, and how many units take a value of it.

    Examples:
        >>> Fans(3, 5).fan_out
        5
    """

    fan_in: float
    """Inputs, times the places of a convolution."""
    fan_out: float
    """Outputs, times the places of a convolution."""


class Spread(NamedTuple):
    """A distribution around 0.

    Examples:
        >>> Spread(1.0, math.inf).standard_deviation
        1.0
    """

    standard_deviation: float
    """Of what is drawn, after a cut."""
    bound: float
    """No draw is larger; infinite for the normal distribution."""


def fans(shape: tuple[int, ...], *, swapped: bool = False) -> Fans:
    """Count what a kernel's units take and give.

    A kernel's last two axes are inputs and outputs; those before are the places of a convolution. The kernel of a
    transposed convolution has its inputs where a convolution's has its outputs, in torch and in Keras, and both count
    its fans as if it were a convolution's: they are swapped. flax's kernels are all alike.

    Args:
        shape: The kernel's shape, (places…, inputs, outputs); inputs are those of one group.
        swapped: Whether inputs and outputs change places.

    Returns:
        Inputs times places, and outputs times places.

    Raises:
        ValueError: If the shape has fewer than two axes, for which frameworks agree on nothing.

    Source:
        Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".

    Examples:
        >>> fans((3, 3, 8, 16))
        Fans(fan_in=72, fan_out=144)
    """
    if len(shape) < 2:
        raise ValueError(f"a kernel has at least two axes, not the shape {shape}")
    *places, inputs, outputs = shape
    field = math.prod(places)
    found = Fans(inputs * field, outputs * field)
    return Fans(found.fan_out, found.fan_in) if swapped else found


def variance_scaling(
    fans: Fans, *, scale: float, mode: Mode, distribution: Distribution, corrected: bool = True
) -> Spread:
    """Spread a kernel so that the variance of what goes through it is kept.

    Args:
        fans: What the kernel's units take and give.
        scale: The variance of a draw, times the fan.
        mode: Which fan: inputs, outputs, their mean, or the root of their product, which JAX alone has.
        distribution: What is drawn from; a truncated normal distribution is cut at two of its standard deviations.
        corrected: Whether a truncated distribution is widened, so that the variance is right after the cut.

    Returns:
        The standard deviation and the bound of the draws.

    Source:
        He et al. 2015, "Delving deep into rectifiers"; the documentation of ``jax.nn.initializers.variance_scaling``.

    Examples:
        >>> variance_scaling(Fans(3, 5), scale=1.0, mode="fan_in", distribution="uniform").standard_deviation
        0.5773502691896257
    """
    fan_in, fan_out = fans
    fan = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    deviation = math.sqrt(scale / fan)
    if distribution == "truncated_normal":
        return truncated_normal(deviation / TRUNCATED if corrected else deviation)
    return Spread(deviation, math.sqrt(3) * deviation if distribution == "uniform" else math.inf)


def truncated_normal(standard_deviation: float) -> Spread:
    """Cut a normal distribution at two of its standard deviations.

    Keras, TF1 and JAX cut there. torch's ``trunc_normal_`` cuts at -2 and 2, whatever the standard deviation is, unless
    it is told where.

    Args:
        standard_deviation: That of the distribution before the cut.

    Returns:
        The standard deviation after the cut, and the bound.

    Source:
        The documentation of ``keras.initializers.TruncatedNormal`` and ``torch.nn.init.trunc_normal_``.

    Examples:
        >>> [round(number, 4) for number in truncated_normal(0.02)]
        [0.0176, 0.04]
    """
    return Spread(TRUNCATED * standard_deviation, 2 * standard_deviation)


def glorot(fans: Fans, *, distribution: Distribution, gain: float = 1.0) -> Spread:
    """Spread a kernel by the mean of its fans; torch says Xavier.

    Args:
        fans: What the kernel's units take and give.
        distribution: What is drawn from. Keras and JAX cut the normal one, torch does not.
        gain: A factor of the standard deviation. torch alone has it.

    Returns:
        The standard deviation and the bound of the draws.

    Source:
        Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks", equation 16.

    Examples:
        >>> glorot(Fans(2, 4), distribution="uniform").standard_deviation
        0.5773502691896257
    """
    return variance_scaling(fans, scale=gain**2, mode="fan_avg", distribution=distribution)


def he(fans: Fans, *, distribution: Distribution, mode: Mode = "fan_in", negative_slope: float = 0.0) -> Spread:
    """Spread a kernel for rectifiers behind it; torch says Kaiming.

    torch's own layers are drawn with ``negative_slope=√5``, which makes the bound 1 / √fan_in.

    Args:
        fans: What the kernel's units take and give.
        distribution: What is drawn from. Keras and JAX cut the normal one, torch does not.
        mode: Which fan. torch alone has a choice.
        negative_slope: That of the leaky rectifier behind the kernel. torch alone has it.

    Returns:
        The standard deviation and the bound of the draws.

    Source:
        He et al. 2015, "Delving deep into rectifiers", equations 10, 14 and 15.

    Examples:
        >>> round(he(Fans(25, 1), distribution="uniform", negative_slope=math.sqrt(5)).bound, 12)
        0.2
    """
    return variance_scaling(fans, scale=2 / (1 + negative_slope**2), mode=mode, distribution=distribution)


def lecun(fans: Fans, *, distribution: Distribution) -> Spread:
    """Spread a kernel by its inputs alone: what flax's layers begin with, by a truncated normal distribution.

    Args:
        fans: What the kernel's units take and give.
        distribution: What is drawn from.

    Returns:
        The standard deviation and the bound of the draws.

    Source:
        LeCun et al. 1998, "Efficient backprop", section 4.6.

    Examples:
        >>> lecun(Fans(3, 5), distribution="uniform").standard_deviation
        0.5773502691896257
    """
    return variance_scaling(fans, scale=1.0, mode="fan_in", distribution=distribution)
