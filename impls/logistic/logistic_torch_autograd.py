"""Logistic regression on PyTorch tensors: sigmoid, cost and update by hand, derivatives by autograd."""

from functools import partial

import torch
from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = (
    Slot("dense/kernel", "weights"),
    Slot("dense/bias", "bias"),
)


def forward(params: Tensors, x: Tensor) -> Tensor:
    z = x @ params["weights"] + params["bias"]  # (n, features) -> (n, 1)
    return 1 / (1 + torch.exp(-z))


def cost(p: Tensor, y: Tensor, reduction: str) -> Tensor:
    # Unlike BCELoss, this does not clamp the logarithms: a probability of exactly 0 or 1 gives NaN.
    losses = -(y * torch.log(p) + (1 - y) * torch.log(1 - p))  # (n, 1)
    return losses.sum() if reduction == "sum" else losses.mean()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    reduced = partial(cost, reduction=case.loss.reduction)
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=reduced, update=update)
