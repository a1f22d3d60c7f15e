"""a + b P₃(c + d x) on PyTorch tensors: P₃ as a ``torch.autograd.Function``, cost and update by hand."""

from typing import Any

import torch
from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = tuple(Slot(f"legendre/{name}", name) for name in "abcd")


class Legendre3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return 0.5 * (5 * z**3 - 3 * z)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return upstream * 1.5 * (5 * z**2 - 1)


def forward(params: Tensors, x: Tensor) -> Tensor:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * Legendre3.apply(c + d * x)  # (n, 1)


def cost(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().sum()  # (n, 1) -> ()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=cost, update=update)
