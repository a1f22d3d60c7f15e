"""Rules of updates that ``parity.spec`` has no words for, as variants of those that it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from parity import nn
from parity.mistakes.catalogue.adam import amsgrad, epsilon_before_the_correction
from parity.mistakes.catalogue.updates import decay_in_the_moments, nesterov
from parity.nn import optimizers
from parity.spec import AdamW, Optimizer, Sgd
from parity.trainer import State
from parity.trajectory import Trajectory
from parity.typing import Array


@dataclass(frozen=True, repr=False)
class EpsilonHat(AdamW):
    """Adam as TF1 and Keras have it, with its epsilon added before the bias is corrected."""

    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class AmsGrad(AdamW):
    """AdamW that divides by the largest second moment so far."""


@dataclass(frozen=True, repr=False)
class AdamThroughTheGradient(AdamW):
    """Adam whose decay goes through the gradient, hence through both moments."""


@dataclass(frozen=True, repr=False)
class RmsProp(AdamW):
    """RMSprop without momentum: ``beta2`` is what is kept of the mean square, which is not corrected; no ``beta1``."""

    beta1: float = 0.0
    weight_decay: float = 0.0


@dataclass(frozen=True, repr=False)
class RmsPropEpsilonInside(RmsProp):
    """RMSprop as Keras and optax have it, with its epsilon under the root."""


@dataclass(frozen=True, repr=False)
class Nesterov(Sgd):
    """SGD with Nesterov's momentum."""


def rmsprop(rule: RmsProp, name: str, p: Array, g: Array, state: State) -> Array:
    """The parameter after one step; see ``parity.nn.optimizers.rmsprop``."""
    made, slots = optimizers.rmsprop(
        p,
        g,
        {"mean_square": state.slots[f"second_moment/{name}"]},
        learning_rate=rule.learning_rate,
        rho=rule.beta2,
        epsilon=rule.epsilon,
        epsilon_in_root=isinstance(rule, RmsPropEpsilonInside),
        weight_decay=rule.weight_decay,
    )
    state.slots[f"second_moment/{name}"] = slots["mean_square"]
    return made


RULES: Mapping[type, Callable[..., Array]] = nn.UPDATES | {
    EpsilonHat: epsilon_before_the_correction,
    AmsGrad: amsgrad,
    AdamThroughTheGradient: decay_in_the_moments,
    RmsProp: rmsprop,
    RmsPropEpsilonInside: rmsprop,
    Nesterov: nesterov,
}
THROUGH_THE_GRADIENT = (AdamThroughTheGradient, RmsProp)
"""Rules that a decay does not shrink beside the step, nor along it."""
KERAS = ("keras.", "tf_keras.", "tensorflow.")


def made(optimizer: Any, name: str, p: Array, g: Array, state: State) -> Array:
    """Make an update by the rule of any of these optimizers."""
    return RULES[type(optimizer)](optimizer, name, p, g, state)


def beyond_the_spec(run: Trajectory) -> Optimizer | None:
    """Read from a watched optimizer's class and settings one of these rules; None if it is yet another.

    >>> group = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0, "dampening": 0}
    >>> said = {"optimizer": {"class": "torch.optim.sgd.SGD", "groups": [group]}}
    >>> beyond_the_spec(Trajectory(said, None, None, {}, {}))
    Nesterov(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
    """
    said = run.meta.get("optimizer")
    groups, kind = (said.get("groups"), said.get("class")) if isinstance(said, dict) else (None, None)
    if not isinstance(groups, list) or not groups or not all(isinstance(group, dict) for group in groups):
        return None
    if not isinstance(kind, str) or any(group.get("maximize") or group.get("use_ema") for group in groups):
        return None
    group, torch, keras = groups[0], kind.startswith("torch."), kind.startswith(KERAS)

    def number(*names: str) -> float | None:
        return next((float(group[name]) for name in names if isinstance(group.get(name), int | float)), None)

    rate, decay, momentum = number("lr", "learning_rate") or 1.0, number("weight_decay") or 0.0, number("momentum")
    name, epsilon = kind.rpartition(".")[2], number("eps", "epsilon")
    if name == "SGD" and group.get("nesterov") and momentum and not group.get("dampening") and (torch or not decay):
        return Nesterov(rate, momentum, decay)
    if name == "RMSprop" and not momentum and not group.get("centered") and epsilon is not None:
        rho = number("alpha", "rho")
        rule = RmsProp if torch else RmsPropEpsilonInside
        return (
            None if rho is None or (decay and not torch) else rule(rate, beta2=rho, epsilon=epsilon, weight_decay=decay)
        )
    if name not in ("Adam", "AdamW") or epsilon is None:
        return None
    betas = group.get("betas") if torch else [number("beta_1"), number("beta_2")]
    if not isinstance(betas, list | tuple) or not all(isinstance(beta, int | float) for beta in betas):
        return None
    numbers = rate, float(betas[0]), float(betas[1]), epsilon
    amsgrad_too, through = bool(group.get("amsgrad")), name == "Adam" and not group.get("decoupled_weight_decay")
    if keras and not amsgrad_too:
        return EpsilonHat(*numbers, weight_decay=decay)
    if torch and amsgrad_too and not (through and decay):
        return AmsGrad(*numbers, weight_decay=decay)
    return AdamThroughTheGradient(*numbers, weight_decay=decay) if torch and through and not amsgrad_too else None


def in_words(optimizer: Optimizer) -> str:
    """Say an optimizer, but not the learning rates that its run recorded."""
    return repr(replace(optimizer, rates=None))
