"""TensorFlow's convolutions, to which a bias is added. Transposed kernels are (*sizes, out, in)."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.of_tensorflow import CENTRED, CENTRED_BACK, dilated, dilated_and_strided, explicit, grouped


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


CANNOT = {"groups on a CPU": grouped}
TF = "tensorflow.compat.v1.nn"
WAYS = (
    Way(
        "conv",
        (f"{TF}.convolution",),
        convolution,
        {**CANNOT, "explicit padding": explicit, "a stride with a dilation": dilated_and_strided},
        (CENTRED,),
    ),
    Way(
        "conv",
        (f"{TF}.conv2d",),
        conv2d,
        {
            **CANNOT,
            "other than two axes": lambda asked: asked.arrays["x"].ndim != 4,
            "the gradient of a dilation on a CPU": dilated,
        },
    ),
    Way(
        "conv_transpose",
        tuple(f"{TF}.conv{n}d_transpose" for n in (1, 2, 3)),
        transposed,
        {**CANNOT, "explicit padding": explicit, "a dilation": dilated},
        (CENTRED_BACK,),
    ),
)
