"""Mistakes in a layer that multiplies by a kernel: how the kernel lies, its bias, what it takes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from parity.mistakes.layer import LayerMistake, Made, calls, fitted
from parity.nn.layers import Call, compute
from parity.typing import Array

PRODUCTS = ("linear", "conv", "conv_transpose")
MOST, FEW = 64, 16
"""So many devices may share a kernel; and of fewer values than these some number always makes what was seen."""


def transposed(call: Call) -> list[Call]:
    kernel = call.params["kernel"]
    return [call.holding(kernel=kernel.T)] if kernel.shape[0] == kernel.shape[1] else []


def without_bias(call: Call) -> list[Call]:
    return [call.without("bias")] if np.any(call.params.get("bias", 0)) else []


def bias_repeated(call: Call, seen: Array) -> Iterator[Made]:
    """As often as devices that share a kernel add it."""
    bias = call.params.get("bias", np.zeros(0))[..., : seen.shape[-1]]
    if not np.any(bias):
        return
    product = compute(call.without("bias"))
    left = (seen - product).reshape(-1, seen.shape[-1]).mean(0)
    times = round(float(np.sum(left * bias) / np.sum(bias * bias)))
    if 2 <= times <= MOST:
        yield Made(product + times * bias, f"{times} times")


def scaled(call: Call, seen: Array) -> Iterator[Made]:
    """By the root of the width, or its inverse, or a number that is neither 0 nor 1."""
    product, bias = compute(call.without("bias")), call.params.get("bias", 0.0)
    if seen.size < FEW or call.settings.get("outputs"):
        return
    rest = seen - bias
    size = float(np.sum(product * product))
    factor = float(np.sum(product * rest)) / size if size else 0.0
    width = float(call.x.shape[-1])
    for power, said in ((0.5, "the root of the width"), (-0.5, "one over the root of the width")):
        if abs(factor - width**power) <= 1e-5 * width**power:
            yield Made(product * width**power + bias, f"{said}, {width**power:.6g}")
            return
    if factor and abs(factor - 1) > 1e-6:
        yield from fitted(factor, None, "factor", lambda by: by * product + bias)


def flattened_otherwise(call: Call) -> list[Call]:
    """The features are (places, channels) instead of (channels, places), for whatever number of channels."""
    features = call.x.shape[-1]
    orders: list[Array] = [
        np.arange(features).reshape(channels, -1).T.ravel()
        for channels in range(2, features)
        if features % channels == 0
    ]
    return [Call(kind=call.kind, settings=call.settings, inputs=(call.x[..., o],), params=call.params) for o in orders]


MISTAKES: tuple[LayerMistake, ...] = (
    LayerMistake(
        name="square-kernel-transposed",
        kinds=("linear",),
        sentence="A square kernel is taken for (out, in) instead of (in, out).",
        reference="PyTorch documentation, Linear: weight is (out_features, in_features)",
        wrong=calls(transposed),
    ),
    LayerMistake(
        name="layer-bias-missing",
        kinds=PRODUCTS,
        sentence="A layer does not add its bias.",
        reference="pudae/tensorflow-densenet#21; OpenNMT/CTranslate2#833",
        wrong=calls(without_bias),
    ),
    LayerMistake(
        name="layer-bias-repeated",
        kinds=("linear", "conv"),
        sentence="A layer adds its bias more than once, as where each of several devices adds it before the sum.",
        reference="huggingface/text-generation-inference#1036; Wenyueh/MinivLLM#80",
        wrong=bias_repeated,
    ),
    LayerMistake(
        name="product-times-a-factor",
        kinds=("linear",),
        sentence="What a kernel gives is multiplied by a number, as a tied head's by one over the root of its width.",
        reference="ml-explore/mlx-examples#591; jadore801120/attention-is-all-you-need-pytorch#138",
        wrong=scaled,
    ),
    LayerMistake(
        name="flattened-in-another-order",
        kinds=("linear",),
        sentence="What a layer takes was flattened in another order of channels and places.",
        reference="gzuidhof/nn-transfer#16; microsoft/MMdnn#250",
        wrong=calls(flattened_otherwise),
    ),
)
