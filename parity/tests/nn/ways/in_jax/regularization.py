"""flax's dropout, from a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

from parity.tests.nn.conformance import Arrays, Asked, Way


def of_linen(x: Any, mask: Any, *, rate: float, training: bool) -> dict[str, Any]:
    return {"output": linen.Dropout(rate, deterministic=not training).apply({}, x, rngs={"dropout": jax.random.key(0)})}


def of_nnx(x: Any, mask: Any, *, rate: float, training: bool) -> dict[str, Any]:
    return {"output": nnx.Dropout(rate, deterministic=not training, rngs=nnx.Rngs(0))(x)}


def mask(way: Callable[..., dict[str, Any]]) -> Callable[[Asked], Arrays]:
    """What is kept of ones is kept of all."""

    def draws(asked: Asked) -> Arrays:
        ones = jnp.ones(asked.arrays["x"].shape)
        return {"mask": np.asarray(way(ones, None, **asked.configuration)["output"]) != 0}

    return draws


WAYS = (
    Way("dropout", ("flax.linen.Dropout",), of_linen, draws=mask(of_linen)),
    Way("dropout", ("flax.nnx.Dropout",), of_nnx, draws=mask(of_nnx)),
)
