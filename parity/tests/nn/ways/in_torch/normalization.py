"""torch's normalization layers. Channels are the second axis; momentum is the share of the new statistics."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.ways.in_torch import first, last, there


def batch_norm(
    x: Any,
    running_mean: Any,
    running_variance: Any,
    scale: Any = None,
    bias: Any = None,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
) -> dict[str, Any]:
    kind = getattr(nn, f"BatchNorm{max(x.ndim - 2, 1)}d")
    layer = kind(x.shape[-1], eps=epsilon, momentum=1 - momentum, affine=scale is not None, dtype=x.dtype)
    layer.train(training)
    # Buffers are changed in place.
    state = {"running_mean": running_mean.clone(), "running_var": running_variance.clone()}
    output = functional_call(layer, {**there(weight=scale, bias=bias), **state}, (first(x),))
    return {"output": last(output), "running_mean": state["running_mean"], "running_variance": state["running_var"]}


def layer_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float, axes: int) -> dict[str, Any]:
    layer = nn.LayerNorm(x.shape[-axes:], eps=epsilon, elementwise_affine=scale is not None, dtype=x.dtype)
    return {"output": functional_call(layer, there(weight=scale, bias=bias), (x,))}


def group_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float, groups: int) -> dict[str, Any]:
    layer = nn.GroupNorm(groups, x.shape[-1], eps=epsilon, affine=scale is not None, dtype=x.dtype)
    return {"output": last(functional_call(layer, there(weight=scale, bias=bias), (first(x),)))}


def instance_norm(x: Any, scale: Any = None, bias: Any = None, *, epsilon: float) -> dict[str, Any]:
    kind = getattr(nn, f"InstanceNorm{x.ndim - 2}d")
    layer = kind(x.shape[-1], eps=epsilon, affine=scale is not None, dtype=x.dtype)
    return {"output": last(functional_call(layer, there(weight=scale, bias=bias), (first(x),)))}


def rms_norm(x: Any, scale: Any = None, *, epsilon: float, axes: int) -> dict[str, Any]:
    layer = nn.RMSNorm(x.shape[-axes:], eps=epsilon, elementwise_affine=scale is not None, dtype=x.dtype)
    return {"output": functional_call(layer, there(weight=scale), (x,))}


def local_response_norm(x: Any, *, radius: int, alpha: float, beta: float, bias: float) -> dict[str, Any]:
    return {"output": last(nn.LocalResponseNorm(2 * radius + 1, alpha, beta, bias)(first(x)))}


def epsilon() -> dict[str, Any]:
    """What is added to the square of a small x, from x² / (x² + ε), the square of what becomes of it."""
    x = torch.tensor([1e-8], dtype=torch.float64)
    return {"epsilon": float(f"{(x * x * (1 / nn.RMSNorm(1, dtype=x.dtype)(x) ** 2 - 1)).item():.6g}")}


UNBIASED = Departure(
    "unbiased running variance",
    "The running variance takes up the unbiased variance, n / (n - 1) times that which normalizes the batch.",
    like={"unbiased": True},
    when=lambda asked: asked.configuration["training"],
)
FAST = Departure(
    "fast variance in channels_last",
    "Where the memory is channels last, the variance is the mean of squares less the square of the mean, which loses "
    "digits where the mean is large; where channels are first it is exact.",
    like={"fast_variance": True},
    size=2**-28,  # four roundings of the square of a mean of 3000 deviations, in variances
    when=lambda asked: asked.arrays["x"].ndim == 4,
)
WAYS = (
    Way("batch_norm", tuple(f"torch.nn.BatchNorm{n}d" for n in (1, 2, 3)), batch_norm, departures=(UNBIASED,)),
    Way("layer_norm", ("torch.nn.LayerNorm",), layer_norm),
    Way("group_norm", ("torch.nn.GroupNorm",), group_norm, departures=(FAST,)),
    Way("instance_norm", tuple(f"torch.nn.InstanceNorm{n}d" for n in (1, 2, 3)), instance_norm),
    Way("rms_norm", ("torch.nn.RMSNorm",), rms_norm, measured=epsilon),
    Way(
        "local_response_norm",
        ("torch.nn.LocalResponseNorm",),
        local_response_norm,
        departures=(
            Departure(
                "alpha is divided",
                "Alpha is divided by the number of channels that count.",
                like={"divided": True},
            ),
        ),
        words={"k": "bias"},
    ),
)
