"""Optimizers: a parameter after one step, from its value, its gradient and the slots, which the step replaces.

The learning rate, the decay and the clipped gradients that a step takes are said here, too, once for every trainer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from parity.nn import clipping, learning_rates
from parity.rules import Listed
from parity.spec import Adam, AdamW, CosineDecay, LinearWarmup, Optimizer, Sgd, StepDecay, WarmupCosine, decay_of
from parity.trainer import State
from parity.typing import Array, Params


def listed(step: int, *, learning_rate: float, values: tuple[float, ...]) -> float:
    """Give the learning rate that a run recorded of an update; see ``parity.rules.Listed``.

    >>> [listed(step, learning_rate=1.0, values=(0.5, 0.25)) for step in range(3)]
    [0.5, 0.25, 0.25]
    """
    return values[min(step, len(values) - 1)]


RATES: Mapping[type, Callable[..., float]] = {
    StepDecay: learning_rates.step_decay,
    LinearWarmup: learning_rates.linear_warmup,
    CosineDecay: learning_rates.cosine_decay,
    WarmupCosine: learning_rates.warmup_cosine,
    Listed: listed,
}


def rate(rule: Optimizer, step: int) -> float:
    """Give the learning rate of an update, from how many updates came before it.

    >>> from parity.spec import Sgd, StepDecay
    >>> [rate(Sgd(0.5, rates=StepDecay(every=2, factor=0.5)), step) for step in range(5)]
    [0.5, 0.5, 0.25, 0.25, 0.125]
    """
    if rule.rates is None:
        return rule.learning_rate
    numbers = {one.name: getattr(rule.rates, one.name) for one in fields(rule.rates)}
    return RATES[type(rule.rates)](step, learning_rate=rule.learning_rate, **numbers)


def rates(rule: Optimizer, step: int, updates: int) -> Array:
    """Give the learning rates of so many updates after ``step`` that were made: (updates,) float64."""
    return np.array([rate(rule, step + number) for number in range(updates)], np.float64)


def rule_at(rule: Optimizer, name: str, step: int) -> Any:
    """Give the plain rule of a parameter's update ``step``, counted from 1: of one learning rate and its own decay.

    >>> from parity.spec import AdamW, LinearWarmup
    >>> rule = AdamW(1.0, weight_decay=0.1, rates=LinearWarmup(0.0, 2), decayed=("kernel",))
    >>> one = rule_at(rule, "dense/bias", 2)
    >>> one.learning_rate, one.weight_decay
    (0.5, 0.0)
    """
    if rule.rates is None and rule.decayed is None:
        return rule
    own: Any = replace(rule, learning_rate=rate(rule, step - 1), rates=None, decayed=None)
    return replace(own, weight_decay=decay_of(rule, name)) if hasattr(own, "weight_decay") else own


def clipped(rule: Optimizer, gradients: Params) -> Params:
    """Clip the gradients of an update as a rule asks.

    >>> from parity.spec import Clipping, Sgd
    >>> clipped(Sgd(0.1, clipping=Clipping("global_norm", 1.0)), {"a": np.array([3.0]), "b": np.array([4.0])})
    {'a': array([0.6]), 'b': array([0.8])}
    """
    asked = rule.clipping
    if asked is None:
        return gradients
    if asked.kind == "value":
        return {name: clipping.clip_by_value(g, limit=asked.limit) for name, g in gradients.items()}
    if asked.kind == "norm":
        norms = {"limit": asked.limit, "epsilon": asked.epsilon}
        return {name: clipping.clip_by_norm(g, **norms) for name, g in gradients.items()}
    found = clipping.clip_by_global_norm(list(gradients.values()), limit=asked.limit, epsilon=asked.epsilon)
    return dict(zip(gradients, found, strict=True))


def sgd(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    """The parameter after one step; see ``parity.spec.Sgd``."""
    if rule.weight_decay:
        g = g + rule.weight_decay * p
    if rule.momentum:
        slot = f"momentum/{name}"
        g = state.slots[slot] = rule.momentum * state.slots[slot] + g
    return p - rule.learning_rate * g


def adam(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """The parameter after one step; see ``parity.spec.Adam``. ``state.step`` already counts this step."""
    first, second = f"first_moment/{name}", f"second_moment/{name}"
    m = state.slots[first] = rule.beta1 * state.slots[first] + (1 - rule.beta1) * g
    v = state.slots[second] = rule.beta2 * state.slots[second] + (1 - rule.beta2) * (g * g)
    m_scale = rule.learning_rate / (1 - rule.beta1**state.step)
    v_scale = (1 - rule.beta2**state.step) ** 0.5
    return decayed(rule, p) - m_scale * (m / (np.sqrt(v) / v_scale + rule.epsilon))


def decayed(rule: Adam, p: Array) -> Array:
    """The parameter before Adam's step: AdamW first takes its weight decay off."""
    return p - rule.learning_rate * rule.weight_decay * p if isinstance(rule, AdamW) else p


UPDATES: dict[type, Callable[..., Array]] = {Sgd: sgd, Adam: adam, AdamW: adam}


def slot_names(optimizer: Optimizer) -> tuple[str, ...]:
    """The slots that an optimizer keeps for each parameter, by canonical name."""
    if isinstance(optimizer, Adam):
        return ("first_moment", "second_moment")
    return ("momentum",) if optimizer.momentum else ()
