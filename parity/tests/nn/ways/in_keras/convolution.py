"""Keras's convolutions, on TensorFlow. Transposed kernels are (*sizes, out, in)."""

from __future__ import annotations

from math import inf
from typing import Any

import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Asked, Departure, Way
from parity.tests.nn.ways.in_keras import applied, there


def conv(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: str, dilation: Any, groups: int
) -> dict[str, Any]:
    *sizes, _, out = kernel.shape
    said = {"strides": stride, "padding": padding.lower(), "dilation_rate": dilation, "groups": groups}
    kind = getattr(layers, f"Conv{len(sizes)}D")
    layer = kind(out, sizes, use_bias=bias is not None, dtype=x.dtype, **said)
    return {"output": applied(layer, x, *there(kernel, bias))[0]}


def depthwise(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: str, dilation: Any, groups: int
) -> dict[str, Any]:
    *sizes, _, out = kernel.shape
    said = {"strides": stride, "padding": padding.lower(), "dilation_rate": dilation}
    kind, times = getattr(layers, f"DepthwiseConv{len(sizes)}D"), out // groups
    layer = kind(sizes, depth_multiplier=times, use_bias=bias is not None, dtype=x.dtype, **said)
    own = tf.reshape(kernel, (*sizes, groups, times))  # from (*sizes, 1, groups · times)
    return {"output": applied(layer, x, *there(own, bias))[0]}


def conv_transpose(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: str, dilation: Any, groups: int
) -> dict[str, Any]:
    *sizes, _, out = kernel.shape
    said = {"strides": stride, "padding": padding.lower(), "dilation_rate": dilation}
    kind = getattr(layers, f"Conv{len(sizes)}DTranspose")
    layer = kind(out, sizes, use_bias=bias is not None, dtype=x.dtype, **said)
    return {"output": applied(layer, x, *there(tf.linalg.matrix_transpose(kernel), bias))[0]}


def explicit(asked: Asked) -> bool:
    return not isinstance(asked.configuration["padding"], str)


def both(asked: Asked) -> bool:
    return max(asked.configuration["stride"]) > 1 and max(asked.configuration["dilation"]) > 1


def dilated(asked: Asked) -> bool:
    return max(asked.configuration["dilation"]) > 1


def grouped(asked: Asked) -> bool:
    return asked.configuration["groups"] > 1


def named(kind: str, *axes: int) -> tuple[str, ...]:
    return tuple(f"keras.layers.{kind.format(n)}" for n in axes or (1, 2, 3))


def left(asked: Asked, sizes: list[int]) -> bool:
    """Whether SAME adds nothing over three axes, and the last window ends two places or more before the input does."""
    steps = zip(sizes, asked.configuration["stride"], asked.arrays["kernel"].shape, strict=False)
    ends = [size - (-(-size // step) - 1) * step - length for size, step, length in steps]
    return len(ends) == 3 and asked.configuration["padding"] == "SAME" and max(ends) >= 2


def of_output(asked: Asked) -> list[int]:
    return [
        size * step for size, step in zip(asked.arrays["x"].shape[1:-1], asked.configuration["stride"], strict=True)
    ]


CANNOT = {"explicit padding": explicit, "a stride and a dilation": both}
CROPPED = Departure(
    "SAME over three axes with a stride beyond the kernel",
    "Where windows leave places out, TensorFlow's kernel on a CPU centres them on the input; over fewer axes the first "
    "window begins at the first place.",
    size=inf,
    when=lambda asked: left(asked, list(asked.arrays["x"].shape[1:-1])) and asked.configuration["groups"] == 1,
)
BACK = Departure(
    "gradient of SAME over three axes with a stride beyond the kernel",
    "The gradient of x is a convolution that is centred, which the output is not: it is not the derivative.",
    size=inf,
    results=("gradient of x",),
    when=lambda asked: left(asked, of_output(asked)),
)
WAYS = (
    Way("conv", named("Conv{}D"), conv, CANNOT, (CROPPED,)),
    Way(
        "conv",
        named("DepthwiseConv{}D", 1, 2),
        depthwise,
        {
            **CANNOT,
            "fewer groups than channels": lambda asked: asked.arrays["kernel"].shape[-2] > 1,
            "three axes": lambda asked: asked.arrays["x"].ndim == 5,
            "strides that differ": lambda asked: len(set(asked.configuration["stride"])) > 1,
        },
    ),
    Way(
        "conv_transpose",
        named("Conv{}DTranspose"),
        conv_transpose,
        {"explicit padding": explicit, "a dilation": dilated, "groups": grouped},
        (BACK,),
    ),
)
