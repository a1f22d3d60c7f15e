"""torch's initializers. A kernel's outputs come first, then its inputs, then its places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import init

from parity.tests.nn.conformance import Way
from parity.tests.nn.families.initializers import spread_by


def spread(shape: tuple[int, ...], distribution: str, initialize: Callable[[Any], Any]) -> dict[str, Any]:
    """How much larger draws are than those of the unit distribution from the same seed."""
    *places, inputs, outputs = shape

    def largest(fill: Callable[[Any], Any]) -> Any:
        torch.manual_seed(0)
        return fill(torch.empty(outputs, inputs, *places, dtype=torch.float64)).abs().max()

    units = {
        "uniform": lambda kernel: kernel.uniform_(-1, 1),
        "normal": lambda kernel: kernel.normal_(),
        "truncated_normal": init.trunc_normal_,
    }
    return spread_by(largest(initialize) / largest(units[distribution]), distribution)


def glorot(shape: tuple[int, ...], distribution: str, gain: float) -> dict[str, Any]:
    kind = {"uniform": init.xavier_uniform_, "normal": init.xavier_normal_}[distribution]
    return spread(shape, distribution, lambda kernel: kind(kernel, gain))


def he(shape: tuple[int, ...], distribution: str, mode: str, negative_slope: float) -> dict[str, Any]:
    kind = {"uniform": init.kaiming_uniform_, "normal": init.kaiming_normal_}[distribution]
    return spread(shape, distribution, lambda kernel: kind(kernel, negative_slope, mode))


def truncated_normal(shape: tuple[int, ...], standard_deviation: float) -> dict[str, Any]:
    cut = 2 * standard_deviation
    return spread(
        shape, "truncated_normal", lambda kernel: init.trunc_normal_(kernel, std=standard_deviation, a=-cut, b=cut)
    )


CUT = {"a truncated distribution": lambda asked: asked.configuration["distribution"] == "truncated_normal"}
WAYS = (
    Way("glorot", ("torch.nn.init.xavier_uniform_", "torch.nn.init.xavier_normal_"), glorot, CUT),
    Way(
        "he",
        ("torch.nn.init.kaiming_uniform_", "torch.nn.init.kaiming_normal_"),
        he,
        CUT,
        words={"a": "negative_slope"},
    ),
    Way("truncated_normal", ("torch.nn.init.trunc_normal_",), truncated_normal, words={"std": "standard_deviation"}),
)
