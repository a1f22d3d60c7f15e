"""The optimizers that a run may have had, each a rule of ``parity.nn.optimizers`` with what is to be fitted to it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.nn import optimizers
from parity.typing import Array

KEPT, SIZES = (
    ("momentum", "beta1", "beta2", "rho"),
    ("epsilon", "epsilon_root", "initial_sum_of_squares", "weight_decay"),
)
"""Shares that are kept from step to step, whose rest counts; and numbers whose power of ten counts."""
_MOMENTUM, _BETA1, _BETA2 = (0.9, 0.5), (0.9, 0.5), (0.999, 0.9)
_EPSILON = (1e-6, 1e-2, 0.3)
_ADAM = {"beta1": _BETA1, "beta2": _BETA2, "epsilon": _EPSILON}
_RMSPROP = {"rho": (0.9, 0.99), "epsilon": _EPSILON}
_PENALTY = {"weight_decay": (0.3, 0.01)}
BESIDE, GRADIENT = "beside", "gradient"
"""Where a weight decay acts: on the parameters beside the step, or through the gradient."""


@dataclass(frozen=True)
class Candidate:
    """A rule, whatever the learning rate of each update."""

    family: str
    """What people call the optimizer."""
    rule: Callable[..., Any]
    """A function of ``parity.nn.optimizers``."""
    constants: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What is to be fitted, by the rule's own names, and where the search begins: an epsilon as a multiple of the
    gradients, a decay of their ratio to the parameters."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """The rule's other arguments."""
    variant: str = ""
    """In words, how it departs from the family's usual form."""
    mistake: str = ""
    """The mistake of the catalogue that this form is, if it is one."""
    decay: str = BESIDE
    linear: bool = False
    """Whether its steps are linear in the gradients: then a decay through the gradient is fitted as one beside it."""
    counted: bool = False
    """Whether the rule is given the number of the step."""
    velocity: str = ""
    """How a changing learning rate enters the velocity, if it is not that of the step: ``kept`` or ``twice``."""

    @property
    def title(self) -> str:
        """The family with the variant, in words."""
        return f"{self.family} {self.variant}".strip()


def _adam(**more: Any) -> Candidate:
    settings: dict[str, Any] = {"family": "Adam", "rule": optimizers.adam, "constants": _ADAM, "counted": True}
    return Candidate(**settings | more)


def uncorrected(parameter: Array, gradient: Array, slots: optimizers.Slots, *, step: int, **numbers: Any) -> Any:
    """Take a step of Adam whose moments are not corrected: after very many steps a correction is none.

    >>> uncorrected(np.zeros(1), np.ones(1), {}, step=1, learning_rate=1.0, beta1=0.5, beta2=0.75, epsilon=0.0)[0]
    array([-1.])
    """
    return optimizers.adam(parameter, gradient, slots, step=1 << 40, **numbers)


TWICE = "momentum-corrected-in-vain"
"""A velocity that holds no learning rate, rescaled as one that does (Goyal et al. 2017, remark 3)."""
_SGD: dict[str, Any] = {"rule": optimizers.sgd, "linear": True}
_ROOT = "with its epsilon inside the root"
CANDIDATES: tuple[Candidate, ...] = (
    Candidate("SGD", **_SGD),
    *(
        Candidate("SGD with momentum", constants={"momentum": _MOMENTUM}, decay=decay, **_SGD)
        for decay in (GRADIENT, BESIDE)
    ),
    *(
        Candidate(
            "SGD with Nesterov's momentum",
            constants={"momentum": _MOMENTUM},
            fixed={"nesterov": True},
            decay=decay,
            mistake="nesterov-momentum",
            **_SGD,
        )
        for decay in (GRADIENT, BESIDE)
    ),
    Candidate(
        "SGD with momentum",
        constants={"momentum": _MOMENTUM, "dampening": (0.5, 0.9)},
        decay=GRADIENT,
        variant="dampened but for the first gradient",
        mistake="momentum-dampened-but-for-the-first-gradient",
        **_SGD,
    ),
    *(
        Candidate(
            "SGD with momentum",
            constants={"momentum": _MOMENTUM},
            decay=GRADIENT,
            velocity=kept,
            variant=variant,
            mistake=mistake,
            **_SGD,
        )
        for kept, variant, mistake in (
            (
                "kept",
                "whose velocity holds learning rates",
                "learning-rate-folded-into-the-velocity",
            ),
            (
                "twice",
                "whose velocity is corrected though it holds no learning rate",
                TWICE,
            ),
        )
    ),
    _adam(),
    _adam(
        fixed={"epsilon_hat": True},
        variant="with its epsilon before the bias is corrected",
        mistake="adam-epsilon-before-bias-correction",
    ),
    _adam(
        constants={"beta1": _BETA1, "beta2": _BETA2, "epsilon_root": _EPSILON},
        fixed={"epsilon": 0.0},
        variant=_ROOT,
        mistake="adam-epsilon-inside-the-root",
    ),
    _adam(rule=uncorrected, variant="without bias correction", mistake="adam-without-bias-correction"),
    _adam(constants=_ADAM | _PENALTY, decay=GRADIENT, variant="whose decay goes through the gradient"),
    _adam(family="AMSGrad", rule=optimizers.amsgrad, mistake="amsgrad"),
    _adam(
        family="AMSGrad",
        rule=optimizers.amsgrad,
        fixed={"corrected_maximum": True},
        variant="of corrected moments, as optax has it",
    ),
    *(
        _adam(family="NAdam", rule=optimizers.nadam, fixed={"momentum_decay": schedule}, variant=variant)
        for schedule, variant in (
            (0.004, "with torch's schedule of momentum"),
            (1.0, "with Keras's schedule of momentum"),
            (math.inf, "with no schedule of momentum, as optax has it"),
        )
    ),
    *(
        _adam(family="Adamax", rule=optimizers.adamax, fixed={"epsilon_in_norm": inside}, variant=variant)
        for inside, variant in ((True, "with epsilon in its norm"), (False, "with epsilon beside its norm"))
    ),
    Candidate("RMSprop", optimizers.rmsprop, _RMSPROP),
    Candidate("RMSprop", optimizers.rmsprop, _RMSPROP, {"epsilon_in_root": True}, _ROOT),
    Candidate(
        "RMSprop",
        optimizers.rmsprop,
        _RMSPROP | _PENALTY,
        variant="whose decay goes through the gradient",
        decay=GRADIENT,
    ),
    Candidate("centered RMSprop", optimizers.rmsprop, _RMSPROP, {"centered": True}),
    Candidate("centered RMSprop", optimizers.rmsprop, _RMSPROP, {"centered": True, "epsilon_in_root": True}, _ROOT),
    Candidate("RMSprop with momentum", optimizers.rmsprop, _RMSPROP | {"momentum": _MOMENTUM}),
    Candidate(
        "RMSprop with momentum",
        optimizers.rmsprop,
        _RMSPROP | {"momentum": _MOMENTUM},
        {"epsilon_in_root": True},
        _ROOT,
    ),
    Candidate(
        "RMSprop",
        optimizers.rmsprop,
        _RMSPROP,
        {"initial_mean_square": 1.0, "epsilon_in_root": True},
        "whose mean square begins with 1",
    ),
    *(
        Candidate(
            "Adagrad",
            optimizers.adagrad,
            {"epsilon": _EPSILON} | ({"initial_sum_of_squares": (0.3, 1e-3)} if begun else {}),
            {"epsilon_in_root": inside} | ({} if begun else {"initial_sum_of_squares": 0.0}),
            variant=" ".join(
                filter(None, ("whose sum of squares begins above 0" if begun else "", _ROOT if inside else ""))
            ),
            counted=True,
        )
        for begun in (False, True)
        for inside in (False, True)
    ),
    Candidate("Adadelta", optimizers.adadelta, {"rho": (0.9, 0.95), "epsilon": (1e-6, 1e-2)}),
    Candidate("Lion", optimizers.lion, fixed={"beta1": 0.9, "beta2": 0.99}),
)
"""The plainest of each family first. Optimizers that look at a whole tensor, LAMB and Adafactor, are not here: a sample
of its values does not tell their steps."""


def directions(candidate: Candidate, gradients: Array, constants: Mapping[str, float]) -> Array:
    """Make the step of each update at a learning rate of one.

    Args:
        candidate: The rule.
        gradients: (updates, values), from the beginning of training on.
        constants: The rule's, without a weight decay.

    Returns:
        What is taken off the parameters: (updates, values).

    Examples:
        >>> directions(CANDIDATES[1], np.array([[1.0], [1.0]]), {"momentum": 0.5}).tolist()
        [[1.0], [1.5]]
    """
    made, nought = np.empty_like(gradients), np.zeros(gradients.shape[1])
    slots: optimizers.Slots = {}
    given: dict[str, Any] = {name: value for name, value in constants.items() if name != "weight_decay"} | dict(
        candidate.fixed
    )
    for number, gradient in enumerate(gradients):
        step = {"step": number + 1} if candidate.counted else {}
        moved, slots = candidate.rule(nought, gradient, slots, learning_rate=1.0, **given, **step)
        made[number] = -moved
    return made
