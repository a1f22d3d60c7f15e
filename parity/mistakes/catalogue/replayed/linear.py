"""Mistakes in a layer that multiplies by a kernel: how the kernel lies, its bias, what it takes."""

from __future__ import annotations

import numpy as np

from parity.mistakes.layer import LayerMistake, calls
from parity.nn.layers import Call
from parity.typing import Array

PRODUCTS = ("linear", "conv", "conv_transpose")


def transposed(call: Call) -> list[Call]:
    kernel = call.params["kernel"]
    return [call.holding(kernel=kernel.T)] if kernel.shape[0] == kernel.shape[1] else []


def without_bias(call: Call) -> list[Call]:
    return [call.without("bias")] if np.any(call.params.get("bias", 0)) else []


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
        name="flattened-in-another-order",
        kinds=("linear",),
        sentence="What a layer takes was flattened in another order of channels and places.",
        reference="gzuidhof/nn-transfer#16; microsoft/MMdnn#250",
        wrong=calls(flattened_otherwise),
    ),
)
