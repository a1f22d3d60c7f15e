"""torch's schedulers, stepped after each update. They multiply the last rate by a ratio, or give a formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import lr_scheduler

from parity.tests.nn.conformance import Departure, Way


def rates(updates: int, learning_rate: float, make: Callable[[Any], Any]) -> dict[str, Any]:
    """The rate of each update under a scheduler made for an optimizer."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=learning_rate)
    scheduler = make(optimizer)
    found = []
    for _ in range(updates):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(found) < updates:  # OneCycleLR refuses a step after its last
            scheduler.step()
    return {"rates": torch.tensor(found, dtype=torch.float64)}


def step_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, learning_rate, lambda one: lr_scheduler.StepLR(one, every, factor))


def exponential_decay(updates: int, learning_rate: float, every: int, factor: float) -> dict[str, Any]:
    return rates(updates, learning_rate, lambda one: lr_scheduler.ExponentialLR(one, factor))


def piecewise_constant(updates: int, values: tuple[float, ...], boundaries: tuple[int, ...]) -> dict[str, Any]:
    return rates(updates, values[0], lambda one: lr_scheduler.MultiStepLR(one, boundaries, 0.5))


def polynomial_decay(
    updates: int, learning_rate: float, end: float, steps: int, power: float, cycle: bool
) -> dict[str, Any]:
    return rates(updates, learning_rate, lambda one: lr_scheduler.PolynomialLR(one, steps, power))


def linear_warmup(updates: int, learning_rate: float, start: float, steps: int) -> dict[str, Any]:
    return rates(updates, learning_rate, lambda one: lr_scheduler.LinearLR(one, start / learning_rate, 1.0, steps))


def cosine_decay(updates: int, learning_rate: float, end: float, steps: int, exponent: float) -> dict[str, Any]:
    return rates(updates, learning_rate, lambda one: lr_scheduler.CosineAnnealingLR(one, steps, end))


def cosine_restarts(
    updates: int, learning_rate: float, end: float, steps: int, growth: float, factor: float
) -> dict[str, Any]:
    return rates(
        updates, learning_rate, lambda one: lr_scheduler.CosineAnnealingWarmRestarts(one, steps, int(growth), end)
    )


def warmup_cosine(
    updates: int, learning_rate: float, start: float, end: float, steps: int, warmup_steps: int
) -> dict[str, Any]:
    def make(one: Any) -> Any:
        warmup = lr_scheduler.LinearLR(one, start / learning_rate, 1.0, warmup_steps)
        cosine = lr_scheduler.CosineAnnealingLR(one, steps, end)
        return lr_scheduler.SequentialLR(one, [warmup, cosine], [warmup_steps])

    return rates(updates, learning_rate, make)


def one_cycle(
    updates: int, learning_rate: float, share: float, divisor: float, end_divisor: float, shape: str
) -> dict[str, Any]:
    anneal = {"cosine": "cos", "linear": "linear"}[shape]
    return rates(
        updates,
        learning_rate,
        lambda one: lr_scheduler.OneCycleLR(
            one,
            learning_rate,
            total_steps=updates,
            pct_start=share,
            anneal_strategy=anneal,
            cycle_momentum=False,
            div_factor=divisor,
            final_div_factor=end_divisor,
        ),
    )


COMES_BACK = Departure(
    "the rate rises again",
    "After its last step the rate goes on along the wave, and rises.",
    like={"comes_back": True},
    when=lambda asked: asked.configuration["updates"] > asked.configuration["steps"] + 1,
)
NO_START = {"a rate of 0 to begin with": lambda asked: asked.configuration["start"] == 0}
LR = "torch.optim.lr_scheduler."
WAYS = (
    Way("step_decay", (LR + "StepLR",), step_decay, words={"gamma": "factor", "step_size": "every"}),
    Way(
        "exponential_decay",
        (LR + "ExponentialLR",),
        exponential_decay,
        {"a factor of several updates": lambda asked: asked.configuration["every"] > 1},
    ),
    Way("piecewise_constant", (LR + "MultiStepLR",), piecewise_constant, words={"gamma": "factor"}),
    Way(
        "polynomial_decay",
        (LR + "PolynomialLR",),
        polynomial_decay,
        {
            "another end than 0": lambda asked: asked.configuration["end"] != 0,
            "cycles": lambda asked: asked.configuration["cycle"],
        },
        words={"total_iters": "steps", "power": "power"},
    ),
    Way(
        "linear_warmup",
        (LR + "LinearLR",),
        linear_warmup,
        NO_START,
        words={"total_iters": "steps"},
    ),
    Way(
        "cosine_decay",
        (LR + "CosineAnnealingLR",),
        cosine_decay,
        {"an exponent": lambda asked: asked.configuration["exponent"] != 1},
        (COMES_BACK,),
        words={"eta_min": "end"},
    ),
    Way(
        "cosine_restarts",
        (LR + "CosineAnnealingWarmRestarts",),
        cosine_restarts,
        {"a factor at each restart": lambda asked: asked.configuration["factor"] != 1},
        words={"T_mult": "growth", "eta_min": "end"},
    ),
    Way("warmup_cosine", (LR + "SequentialLR",), warmup_cosine, NO_START, (COMES_BACK,)),
    Way(
        "one_cycle",
        (LR + "OneCycleLR",),
        one_cycle,
        words={
            "pct_start": "share",
            "div_factor": "divisor",
            "final_div_factor": "end_divisor",
            "anneal_strategy": "shape",
        },
    ),
)
