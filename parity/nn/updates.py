"""Optimizers: a parameter after one step, from its value, its gradient and the slots, which the step replaces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.trainer import State
from parity.typing import Array


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
