"""torch's pooling. Channels are the second axis."""

from __future__ import annotations

from typing import Any

from torch import nn

from parity.tests.nn.conformance import Way
from parity.tests.nn.ways.in_torch import first, last
from parity.tests.nn.ways.in_torch.convolution import uneven


def windows(kind: str) -> Any:
    def pool(
        x: Any, *, kernel_size: Any, stride: Any, padding: Any, count_padding: bool | None = None
    ) -> dict[str, Any]:
        sizes = 0 if padding == "VALID" else tuple(before for before, _ in padding)
        counted = {} if count_padding is None else {"count_include_pad": count_padding}
        layer = getattr(nn, f"{kind}{x.ndim - 2}d")(kernel_size, stride, sizes, **counted)
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


CANNOT = {
    "SAME": lambda asked: asked.configuration["padding"] == "SAME",
    "other padding before than after": uneven,
}
WAYS = (
    Way("max_pool", named("MaxPool"), windows("MaxPool"), CANNOT),
    Way(
        "average_pool",
        named("AvgPool"),
        windows("AvgPool"),
        CANNOT,
        words={"count_include_pad": "count_padding"},
    ),
    Way("global_average_pool", named("AdaptiveAvgPool"), bins("AdaptiveAvgPool")),
    Way("global_max_pool", named("AdaptiveMaxPool"), bins("AdaptiveMaxPool")),
    Way("adaptive_average_pool", named("AdaptiveAvgPool"), bins("AdaptiveAvgPool")),
    Way("adaptive_max_pool", named("AdaptiveMaxPool"), bins("AdaptiveMaxPool")),
)
