"""Plant mistakes in the pieces of a PyTorch model, without importing PyTorch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from parity.mistakes.mistake import CannotBePlanted, Plant, Unplanted
from parity.mistakes.planting import replaced
from parity.spec import Case
from parity.trainer import Build, Trainer


def is_torch(trainer: Trainer) -> bool:
    """Tell whether it is the torch trainer, by its module's name: its class would import the framework."""
    return type(trainer).__module__ == "parity.trainers.torch_trainer"


def in_torch(change: Callable[[Any, Any, Case], None]) -> Plant:
    """Change the PyTorch implementation by ``change(torch, trainer, case)``."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer | Unplanted:
        trainer = build(case, dtype, device)
        if not is_torch(trainer):
            return CannotBePlanted("it is made in the pieces of a PyTorch model")
        change(sys.modules["torch"], trainer, case)  # imported already: it is the trainer's own
        return trainer

    return plant


def torch_output(function: Callable[[Any, Any], Any]) -> Plant:
    """Put ``function(torch, prediction)`` after the last layer of a torch model."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        forward = trainer.forward
        trainer.forward = lambda params, x: function(torch, forward(params, x))

    return in_torch(change)


def torch_loss(losses: Callable[[Any, Any, Any], Any]) -> Plant:
    """Let ``losses(torch, prediction, y)`` make the losses of a torch model's rows."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        reduce = torch.sum if case.loss.reduction == "sum" else torch.mean
        trainer.cost = lambda prediction, y: reduce(losses(torch, prediction, y))

    return in_torch(change)


def torch_functions(
    make: Callable[[Any, Any, Case], dict[str, Callable[..., Any]]],
    owner: Callable[[Any], Any] = lambda torch: torch.nn.functional,
) -> Plant:
    """Put the functions of ``make(torch, trainer, case)`` in the place of an owner's while a torch model runs."""

    def change(torch: Any, trainer: Any, case: Case) -> None:
        forward, functions = trainer.forward, make(torch, trainer, case)

        def mistaken(params: Any, x: Any) -> Any:
            with replaced(owner(torch), functions):
                return forward(params, x)

        trainer.forward = mistaken

    return in_torch(change)
