"""What TensorFlow's own functions and Keras's layers on it have in common: limits of its CPU kernels, and constants."""

from __future__ import annotations

from math import inf

from parity.tests.nn.conformance import Asked, Departure


def explicit(asked: Asked) -> bool:
    return not isinstance(asked.configuration["padding"], str)


def grouped(asked: Asked) -> bool:
    return asked.configuration["groups"] > 1


def dilated(asked: Asked) -> bool:
    return max(asked.configuration["dilation"]) > 1


def dilated_and_strided(asked: Asked) -> bool:
    return dilated(asked) and max(asked.configuration["stride"]) > 1


def three_axes(asked: Asked) -> bool:
    return asked.arrays["x"].ndim == 5


def leaves_out(asked: Asked, sizes: list[int]) -> bool:
    """Whether SAME adds nothing over three axes, and the last window ends two places or more before the input does."""
    steps = zip(sizes, asked.configuration["stride"], asked.arrays["kernel"].shape, strict=False)
    ends = [size - (-(-size // step) - 1) * step - length for size, step, length in steps]
    return three_axes(asked) and asked.configuration["padding"] == "SAME" and max(ends) >= 2


def of_input(asked: Asked) -> list[int]:
    return list(asked.arrays["x"].shape[1:-1])


def of_output(asked: Asked) -> list[int]:
    return [size * step for size, step in zip(of_input(asked), asked.configuration["stride"], strict=True)]


CENTRED = Departure(
    "SAME over three axes with a stride beyond the kernel",
    "Where windows leave places out, TensorFlow's kernel on a CPU centres them on the input; over fewer axes the first "
    "window begins at the first place.",
    size=inf,
    when=lambda asked: leaves_out(asked, of_input(asked)) and not grouped(asked),
)
CENTRED_BACK = Departure(
    "gradient of SAME over three axes with a stride beyond the kernel",
    "The gradient of x is a convolution that is centred, which the output is not: it is not the derivative.",
    size=inf,
    results=("gradient of x",),
    when=lambda asked: leaves_out(asked, of_output(asked)),
)
SLOPE = Departure("slope in float32", "The slope is an attribute of TensorFlow's operation, a float32.", size=2**-24)
GELU = Departure(
    "constant in float32",
    "TensorFlow casts the root of 2, or 0.044715, to the dtype of x by way of float32: up to 4e-9 off.",
    size=2**-24,
)
COUNTED = {"padding that counts": lambda asked: asked.configuration["count_padding"]}
