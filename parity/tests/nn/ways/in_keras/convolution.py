"""Keras's convolutions, on TensorFlow. Transposed kernels are (*sizes, out, in)."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from keras import layers

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_keras import applied, there
from parity.tests.nn.ways.of_tensorflow import CENTRED, CENTRED_BACK, dilated, dilated_and_strided, explicit, grouped


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


def named(kind: str, *axes: int) -> tuple[str, ...]:
    return tuple(f"keras.layers.{kind.format(n)}" for n in axes or (1, 2, 3))


CANNOT = {"explicit padding": explicit, "a stride with a dilation": dilated_and_strided}
WAYS = (
    Way("conv", named("Conv{}D"), conv, CANNOT, (CENTRED,)),
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
        (CENTRED_BACK,),
    ),
)
