"""What a run says of its optimizer: its rule with all numbers, the decays of its groups, its learning rates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from parity.rules import Listed
from parity.spec import Adam, AdamW, Optimizer, Sgd, optimizer_from
from parity.trajectory import Trajectory
from parity.typing import Array


def optimizer_said(run: Trajectory) -> Optimizer | None:
    """Read the optimizer that a run declares; None if it declares none, or not in the words of ``parity.spec``."""
    said = run.meta.get("hyper_parameters")
    text = said.get("optimizer") if isinstance(said, dict) else None
    return optimizer_from(text) if isinstance(text, str) else in_our_words(run.meta.get("optimizer"))


def decays_said(run: Trajectory) -> tuple[float, ...]:
    """Read the weight decays of a watched optimizer's groups, if they have several: which decays what, nobody says."""
    said = run.meta.get("optimizer")
    groups = said.get("groups") if isinstance(said, dict) else None
    decays = [group.get("weight_decay") for group in groups or () if isinstance(group, dict)]
    found = sorted({float(decay) for decay in decays if isinstance(decay, int | float)})
    return tuple(found) if len(found) > 1 else ()


def class_said(run: Trajectory) -> str:
    """Read the class of the optimizer that a watched run had; empty if nobody watched it."""
    said = run.meta.get("optimizer")
    name = said.get("class") if isinstance(said, dict) else None
    return name.rpartition(".")[2] if isinstance(name, str) else ""


def in_our_words(said: Any) -> Optimizer | None:
    """Say in the words of ``parity.spec`` what a watcher read off a framework's optimizer; None if they do not fit.

    Groups may differ in what decays: then the decay is that of the first group that does.
    """
    groups = said.get("groups") if isinstance(said, dict) else None
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return None
    kind, decays = str(said.get("class")), [group.get("weight_decay") for group in groups]
    group = {**groups[0], "weight_decay": next((decay for decay in decays if decay), decays[0])}

    def number(*names: str) -> float:
        return next((float(group[each]) for each in names if isinstance(group.get(each), int | float)), 0.0)

    # Where the rate is recorded of each update, this one, which may be the last and 0, does not count.
    rate, decay, name = number("lr", "learning_rate") or 1.0, number("weight_decay"), kind.rpartition(".")[2]
    if any(group.get(flag) for flag in ("nesterov", "dampening", "amsgrad", "maximize")):
        return None
    if name == "SGD" and (kind.startswith("torch.") or not decay):
        return Sgd(rate, number("momentum"), decay)
    betas = group.get("betas")
    # Keras's Adam adds its epsilon elsewhere.
    if not kind.startswith("torch.") or name not in ("Adam", "AdamW") or not isinstance(betas, list | tuple):
        return None
    told = rate, float(betas[0]), float(betas[1]), number("eps")
    if name == "AdamW" or group.get("decoupled_weight_decay"):
        return AdamW(*told, decay)
    return None if decay else Adam(*told)


def recorded_rates(run: Trajectory) -> Array | None:
    """Read the learning rate of each update that a run recorded deeply; None if it lacks one."""
    updates = sum(1 for name in run.steps if name.endswith("/trained"))
    found = [run.steps.get(f"{number}/learning_rate") for number in range(updates)]
    rates = [float(rate) for rate in found if rate is not None and rate.size == 1]
    return np.array(rates) if rates and len(rates) == updates and np.isfinite(rates).all() else None


def with_recorded_rates(optimizer: Optimizer, run: Trajectory, each: int = 1) -> Optimizer:
    """Give an optimizer that says no schedule the learning rates that its run recorded, if they change.

    If they do not change, the optimizer says the rate. A schedule that it says itself is what the run is held to.
    Of ``each`` so many steps that make one update, the last one's counts.

    >>> names = [f"{number}/{what}" for number in (0, 1) for what in ("trained", "learning_rate")]
    >>> steps = {name: np.array(0.5 / (1 + int(name[0]))) for name in names}
    >>> with_recorded_rates(Sgd(0.1), Trajectory({}, np.arange(1), np.zeros((0, 0)), {}, {}, steps=steps)).rates
    Listed(values=(0.5, 0.25))
    """
    rates = recorded_rates(run) if optimizer.rates is None else None
    if rates is None or not np.ptp(rates):
        return optimizer
    return replace(optimizer, rates=Listed(tuple(map(float, rates[each - 1 :: each]))))
