"""Logistic regression on PyTorch tensors, all by hand: sigmoid, cost, gradient and update, without autograd."""

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


def backward(params: Tensors, x: Tensor, y: Tensor, reduction: str) -> tuple[Tensor, Tensors]:
    p = forward(params, x)
    d_z = p - y  # (n, 1): through cost and sigmoid at once, whose p (1 - p) cancel
    if reduction == "mean":
        d_z = d_z / len(y)
    return cost(p, y, reduction), {"weights": x.T @ d_z, "bias": d_z.sum(0)}


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    reduced = partial(backward, reduction=case.loss.reduction)
    return TorchTrainer(case, dtype, device, LAYOUT, forward, backward=reduced, update=update)
