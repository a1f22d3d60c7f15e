"""How torch is asked: functions of tensors, and their gradients by autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from parity.tests.nn.conformance import Arrays


def evaluate(
    call: Callable[..., Mapping[str, Any]],
    arrays: Arrays,
    configuration: Mapping[str, Any],
    trained: list[str],
    d_results: Arrays,
) -> tuple[Arrays, Arrays]:
    tensors = {name: torch.tensor(value) for name, value in arrays.items()}
    for name in trained:
        tensors[name].requires_grad_()
    results = call(**tensors, **configuration)
    gradients = {}
    if trained and d_results:
        through = [results[name] for name in d_results]
        cotangents = [torch.tensor(value) for value in d_results.values()]
        found = torch.autograd.grad(through, [tensors[name] for name in trained], cotangents)
        gradients = dict(zip(trained, (value.numpy() for value in found), strict=True))
    return {name: value.detach().numpy() for name, value in results.items()}, gradients


def first(x: Any) -> Any:
    """Channels first, from (batch, ..., channels)."""
    return x.movedim(-1, 1)


def last(x: Any) -> Any:
    """Channels last, from (batch, channels, ...)."""
    return x.movedim(1, -1)


def there(**parameters: Any) -> dict[str, Any]:
    """The parameters that a layer has."""
    return {name: value for name, value in parameters.items() if value is not None}
