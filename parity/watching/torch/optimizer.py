"""Say what a torch optimizer is: its class and its settings, and its name in the words of ``parity.spec``."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import torch

from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.watching.torch.layers import plain


def described(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Say an optimizer's class, and the settings of each of its groups that are plain values."""
    kind = type(optimizer)
    groups = [
        {name: plain(value) for name, value in group.items() if name != "params"} for group in optimizer.param_groups
    ]
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "groups": groups}


def optimizer_in_words(optimizer: torch.optim.Optimizer) -> Optimizer | None:
    """Say which optimizer this is in the words of ``parity.spec``; None if it has none for it.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer_in_words(torch.optim.SGD([weight], lr=0.1))
        Sgd(learning_rate=0.1, momentum=0.0, weight_decay=0.0)
        >>> optimizer_in_words(torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True)) is None
        True
    """
    said = described(optimizer)["groups"]
    group, kind = said[0], type(optimizer)
    if any(each != group for each in said) or group.get("maximize"):
        return None
    if kind is torch.optim.SGD and not group["nesterov"] and not group["dampening"]:
        return Sgd(float(group["lr"]), float(group["momentum"]), float(group["weight_decay"]))
    if kind not in (torch.optim.Adam, torch.optim.AdamW) or group["amsgrad"]:
        return None
    rate, epsilon = float(group["lr"]), float(group["eps"])
    beta1, beta2 = (float(beta) for beta in group["betas"])
    if kind is torch.optim.AdamW:
        return AdamW(rate, beta1, beta2, epsilon, float(group["weight_decay"]))
    return Adam(rate, beta1, beta2, epsilon) if not group["weight_decay"] else None


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Say whether an optimizer's step evaluates the loss itself.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> needs_closure(torch.optim.LBFGS([weight])), needs_closure(torch.optim.SGD([weight], lr=0.1))
        (True, False)
    """
    return _needs_closure(type(optimizer).step)


@cache
def _needs_closure(step: Any) -> bool:
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
