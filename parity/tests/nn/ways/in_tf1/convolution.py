"""TensorFlow's convolutions, to which a bias is added. Transposed kernels are (*sizes, out, in)."""

from __future__ import annotations

from math import inf
from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Asked, Departure, Way


def convolution(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: str, dilation: Any, groups: int
) -> dict[str, Any]:
    return biased(tf.nn.convolution(x, kernel, padding, stride, dilation), bias)


def conv2d(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    sides = padding if isinstance(padding, str) else [(0, 0), *padding, (0, 0)]
    return biased(tf.nn.conv2d(x, kernel, (1, *stride, 1), sides, dilations=(1, *dilation, 1)), bias)


def transposed(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: str, dilation: Any, groups: int
) -> dict[str, Any]:
    *sizes, _, out = kernel.shape.as_list()
    counts, added = x.shape.as_list()[1:-1], [0] * len(sizes)
    if padding == "VALID":
        added = [max(size - step, 0) for size, step in zip(sizes, stride, strict=True)]
    lengths = [count * step + more for count, step, more in zip(counts, stride, added, strict=True)]
    function = getattr(tf.nn, f"conv{len(sizes)}d_transpose")
    own, shape = tf.linalg.matrix_transpose(kernel), (x.shape[0], *lengths, out)
    return biased(function(x, own, shape, stride[0] if len(sizes) == 1 else (1, *stride, 1), padding), bias)


def biased(output: Any, bias: Any) -> dict[str, Any]:
    return {"output": output if bias is None else tf.nn.bias_add(output, bias)}


def explicit(asked: Asked) -> bool:
    return not isinstance(asked.configuration["padding"], str)


def grouped(asked: Asked) -> bool:
    return asked.configuration["groups"] > 1


def dilated(asked: Asked) -> bool:
    return max(asked.configuration["dilation"]) > 1


def both(asked: Asked) -> bool:
    return dilated(asked) and max(asked.configuration["stride"]) > 1


def left(asked: Asked, sizes: list[int]) -> bool:
    """Whether SAME adds nothing over three axes, and the last window ends two places or more before the input does."""
    steps = zip(sizes, asked.configuration["stride"], asked.arrays["kernel"].shape, strict=False)
    ends = [size - (-(-size // step) - 1) * step - length for size, step, length in steps]
    return len(ends) == 3 and asked.configuration["padding"] == "SAME" and max(ends) >= 2


def of_output(asked: Asked) -> list[int]:
    sizes = asked.arrays["x"].shape[1:-1]
    return [size * step for size, step in zip(sizes, asked.configuration["stride"], strict=True)]


CROPPED = Departure(
    "SAME over three axes with a stride beyond the kernel",
    "Where windows leave places out, the kernel on a CPU centres them on the input; over fewer axes the first window "
    "begins at the first place.",
    size=inf,
    when=lambda asked: left(asked, list(asked.arrays["x"].shape[1:-1])),
)
BACK = Departure(
    "gradient of SAME over three axes with a stride beyond the kernel",
    "The gradient of x is a convolution that is centred, which the output is not: it is not the derivative.",
    size=inf,
    results=("gradient of x",),
    when=lambda asked: left(asked, of_output(asked)),
)
CANNOT = {"groups, on a CPU": grouped}
TF = "tensorflow.compat.v1.nn"
WAYS = (
    Way(
        "conv",
        (f"{TF}.convolution",),
        convolution,
        {**CANNOT, "explicit padding": explicit, "a stride and a dilation": both},
        (CROPPED,),
    ),
    Way(
        "conv",
        (f"{TF}.conv2d",),
        conv2d,
        {
            **CANNOT,
            "other than two axes": lambda asked: asked.arrays["x"].ndim != 4,
            "a dilation, for its gradient on a CPU": dilated,
        },
    ),
    Way(
        "conv_transpose",
        tuple(f"{TF}.conv{n}d_transpose" for n in (1, 2, 3)),
        transposed,
        {**CANNOT, "explicit padding": explicit, "a dilation": dilated},
        (BACK,),
    ),
)
