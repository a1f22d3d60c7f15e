"""torch's pooling. Channels are the second axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_torch import first, last
from parity.tests.nn.ways.in_torch.convolution import uneven


def windows(kind: str) -> Any:
    def pool(
        x: Any, *, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_padding: bool | None = None
    ) -> dict[str, Any]:
        sizes = 0 if padding == "VALID" else tuple(before for before, _ in padding)
        counted = {} if count_padding is None else {"count_include_pad": count_padding}
        layer = getattr(nn, f"{kind}{x.ndim - 2}d")(kernel_size, stride, sizes, ceil_mode=ceil_mode, **counted)
        return {"output": last(layer(first(x)))}

    return pool


def bins(kind: str) -> Any:
    def pool(x: Any, output_size: Any = None) -> dict[str, Any]:
        rank = x.ndim - 2
        output = last(getattr(nn, f"{kind}{rank}d")(output_size or (1,) * rank)(first(x)))
        return {"output": output if output_size else output.reshape(len(x), -1)}

    return pool


def named(kind: str) -> tuple[str, ...]:
    return tuple(f"torch.nn.{kind}{n}d" for n in (1, 2, 3))


def stride(kind: str) -> Any:
    """Of nine places a window of three that moves by its length makes three."""
    return lambda: {"stride": "kernel_size" if getattr(nn, f"{kind}1d")(3)(torch.ones(1, 1, 9)).shape[-1] == 3 else 1}


CANNOT = {
    "SAME": lambda asked: asked.configuration["padding"] == "SAME",
    "other padding before than after": uneven,
}
WAYS = (
    Way("max_pool", named("MaxPool"), windows("MaxPool"), CANNOT, measured=stride("MaxPool")),
    Way(
        "average_pool",
        named("AvgPool"),
        windows("AvgPool"),
        CANNOT,
        measured=stride("AvgPool"),
        words={"count_include_pad": "count_padding"},
    ),
    Way("global_average_pool", named("AdaptiveAvgPool"), bins("AdaptiveAvgPool")),
    Way("global_max_pool", named("AdaptiveMaxPool"), bins("AdaptiveMaxPool")),
    Way("adaptive_average_pool", named("AdaptiveAvgPool"), bins("AdaptiveAvgPool")),
    Way("adaptive_max_pool", named("AdaptiveMaxPool"), bins("AdaptiveMaxPool")),
)
