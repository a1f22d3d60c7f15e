"""flax's pooling functions."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.pooling import BEYOND


def max_pool(x: Any, *, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> dict[str, Any]:
    return {"output": linen.max_pool(x, kernel_size, stride, padding)}


def average_pool(
    x: Any, *, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_padding: bool
) -> dict[str, Any]:
    return {"output": linen.avg_pool(x, kernel_size, stride, padding, count_include_pad=count_padding)}


def stride(pool: Any) -> dict[str, Any]:
    """Of nine places a window of three that moves by its length makes three."""
    return {"stride": "kernel_size" if pool(jnp.ones((1, 9, 1)), (3,)).shape[1] == 3 else 1}


WAYS = (
    Way("max_pool", ("flax.linen.max_pool",), max_pool, BEYOND, measured=partial(stride, linen.max_pool)),
    Way(
        "average_pool",
        ("flax.linen.avg_pool",),
        average_pool,
        BEYOND,
        measured=partial(stride, linen.avg_pool),
        words={"count_include_pad": "count_padding"},
    ),
)
