"""Rotary positions by JAX's complex numbers: a pair is two neighbours, or one of each half."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jax import lax

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.positions import angles


def rotary(x: Any, positions: Any, *, base: float, interleaved: bool) -> dict[str, Any]:
    pairs = lax.complex(x[..., ::2], x[..., 1::2]) if interleaved else lax.complex(*jnp.split(x, 2, axis=-1))
    turned = pairs * jnp.exp(1j * angles(positions, base))
    output = [turned.real, turned.imag]
    joined = jnp.stack(output, -1).reshape(x.shape) if interleaved else jnp.concatenate(output, -1)
    return {"output": joined}


WAYS = (Way("rotary", ("jax.lax.complex",), rotary),)
