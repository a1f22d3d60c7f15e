"""JAX's resizing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.resizing import is_, read_off


def resize(x: Any, *, output_size: Any, method: str, places: str, antialias: bool) -> dict[str, Any]:
    return {"output": jax.image.resize(x, (len(x), *output_size, x.shape[-1]), method, antialias=antialias)}


def places() -> dict[str, Any]:
    return {"places": read_off(jax.image.resize(jnp.array([0.0, 3.0]), (4,), "linear"))}


WAYS = (
    Way(
        "resize",
        ("jax.image.resize",),
        resize,
        cannot={"aligned corners": is_(places="aligned"), "half pixels left out": is_(places="corner")},
        measured=places,
    ),
)
