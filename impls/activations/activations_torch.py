"""Activation functions of PyTorch, differentiated by autograd."""

import torch
from torch import Tensor

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import Tensors, TorchTrainer

FUNCTIONS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}

LAYOUT = tuple(Slot(f"{name}/{role}", f"{name}/{role}") for name in FUNCTIONS for role in ("shift", "scale"))


def forward(params: Tensors, x: Tensor) -> Tensor:
    columns = [params[f"{name}/scale"] * f(x + params[f"{name}/shift"]) for name, f in FUNCTIONS.items()]
    return torch.stack(columns, -1)  # (n, points) -> (n, points, 3)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward)
