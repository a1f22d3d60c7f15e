"""flax's pooling functions."""

from __future__ import annotations

from typing import Any

from flax import linen

from parity.tests.nn.conformance import Way


def max_pool(x: Any, *, kernel_size: Any, stride: Any, padding: Any) -> dict[str, Any]:
    return {"output": linen.max_pool(x, kernel_size, stride, padding)}


def average_pool(x: Any, *, kernel_size: Any, stride: Any, padding: Any, count_padding: bool) -> dict[str, Any]:
    return {"output": linen.avg_pool(x, kernel_size, stride, padding, count_include_pad=count_padding)}


WAYS = (
    Way("max_pool", ("flax.linen.max_pool",), max_pool),
    Way("average_pool", ("flax.linen.avg_pool",), average_pool, words={"count_include_pad": "count_padding"}),
)
