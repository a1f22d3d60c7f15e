"""torch's clipping, which changes the gradients of parameters in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import utils

from parity.tests.nn.conformance import Departure, Way


def clipped(clip: Callable[[list[Any]], Any], **gradients: Any) -> dict[str, Any]:
    parameters = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients.values()]
    for parameter, gradient in zip(parameters, gradients.values(), strict=True):
        parameter.grad = gradient.clone()
    clip(parameters)
    return {name: parameter.grad for name, parameter in zip(gradients, parameters, strict=True)}


def clip_by_value(gradient: Any, *, limit: float) -> dict[str, Any]:
    return clipped(lambda parameters: utils.clip_grad_value_(parameters, limit), output=gradient)


def clip_by_global_norm(first: Any, second: Any, *, limit: float, order: float) -> dict[str, Any]:
    return clipped(lambda both: utils.clip_grad_norm_(both, limit, norm_type=order), first=first, second=second)


WAYS = (
    Way("clip_by_value", ("torch.nn.utils.clip_grad_value_",), clip_by_value),
    Way(
        "clip_by_global_norm",
        ("torch.nn.utils.clip_grad_norm_",),
        clip_by_global_norm,
        departures=(
            Departure(
                "norm plus 1e-6",
                "1e-6 is added to the norm that divides, so that what is clipped ends below the limit.",
                like={"epsilon": 1e-6},
            ),
        ),
        words={"norm_type": "order"},
    ),
)
