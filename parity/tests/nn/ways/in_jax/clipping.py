"""optax's clipping: transformations of all gradients."""

from __future__ import annotations

from typing import Any

import optax

from parity.tests.nn.conformance import Way


def clipped(transformation: Any, **gradients: Any) -> dict[str, Any]:
    return transformation.update(gradients, transformation.init(gradients))[0]


def clip_by_value(gradient: Any, *, limit: float) -> dict[str, Any]:
    return clipped(optax.clip(limit), output=gradient)


def clip_by_global_norm(first: Any, second: Any, *, limit: float, order: float) -> dict[str, Any]:
    return clipped(optax.clip_by_global_norm(limit), first=first, second=second)


WAYS = (
    Way("clip_by_value", ("optax.clip",), clip_by_value),
    Way(
        "clip_by_global_norm",
        ("optax.clip_by_global_norm",),
        clip_by_global_norm,
        {"another norm than the second": lambda asked: asked.configuration["order"] != 2},
    ),
)
