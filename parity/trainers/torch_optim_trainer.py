"""Training in PyTorch as most people do: a module, a criterion, an object of ``torch.optim``, and perhaps a loader."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parity.layout import Layout
from parity.spec import Adam, Case
from parity.trainers.torch_trainer import Cost, Loader, Tensors, TorchTrainer, device_of


def optimizer_trainer(
    case: Case,
    dtype: str,
    device: str,
    layout: Layout,
    module: torch.nn.Module,
    criterion: Cost,
    optimizer: torch.optim.Optimizer,
    *,
    forward: Callable[[Tensor], Tensor] | None = None,
    loader: Loader | None = None,
) -> TorchTrainer:
    """Make a trainer of a module, a criterion and an optimizer of the module's parameters, as most loops have them.

    A step is ``optimizer.zero_grad()``, ``criterion(module(x), y).backward()``, ``optimizer.step()``.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the module's parameters, by the names of ``named_parameters``.
        module: The model, from inputs (batch, ...) to predictions. It is cast and moved in place.
        criterion: ``(prediction, y)`` to the batch's loss.
        optimizer: ``torch.optim.SGD``, ``Adam`` or ``AdamW`` with the case's hyper-parameters. The trainer's slots
            become its state.
        forward: The prediction of an input, if it is not all that the module gives.
        loader: Gives the batches of a segment, in the place of plain indexing.

    Returns:
        The trainer.

    Raises:
        ValueError: If torch sees no such device, or if the case leaves parameters out of its weight decay: the groups
            of the optimizer would have to.
    """
    if case.optimizer.decayed is not None:
        raise ValueError("an optimizer of the model's own says by its groups what decays: use module_trainer")
    module.to(device_of(device), getattr(torch, dtype))
    said = forward or module
    parameters: Tensors = dict(module.named_parameters())
    trainer = TorchTrainer(
        case, dtype, device, layout, lambda params, x: said(x), parameters=parameters, cost=criterion, loader=loader
    )
    trainer.module = module

    def backward(params: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
        optimizer.zero_grad()
        loss = trainer.cost(trainer.forward(params, x), y)
        loss.backward()
        return loss, {name: p.grad for name, p in params.items() if p.grad is not None}

    def update(rule: Any, params: Tensors, gradients: Tensors) -> None:
        for name, g in gradients.items():
            parameters[name].grad = g  # clipped, where the case asks for it
        if case.optimizer.rates is not None:
            for group in optimizer.param_groups:
                group["lr"] = rule.learning_rate
        optimizer.step()

    trainer.backward, trainer.update = backward, update
    # The state that the optimizer would make for itself at its first step.
    own_names = {"momentum": "momentum_buffer", "first_moment": "exp_avg", "second_moment": "exp_avg_sq"}
    for name, p in parameters.items():
        optimizer.state[p] = {own_names[slot]: tensors[name] for slot, tensors in trainer.slots.items()}
        if isinstance(case.optimizer, Adam):
            optimizer.state[p]["step"] = trainer.steps[name]
    return trainer
