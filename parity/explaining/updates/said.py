"""What a run says of its optimizer: its rule with all numbers, the decays of its groups, its learning rates."""

from __future__ import annotations

from typing import Any

from parity.spec import Adam, AdamW, Optimizer, Sgd, optimizer_from
from parity.trajectory import Trajectory


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
