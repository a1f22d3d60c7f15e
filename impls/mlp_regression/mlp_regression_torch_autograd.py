"""The perceptron with one hidden layer on PyTorch tensors: cost and update by hand, derivatives by autograd."""

import torch
from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = (
    Slot("dense1/kernel", "kernel1"),
    Slot("dense1/bias", "bias1"),
    Slot("dense2/kernel", "kernel2"),
    Slot("dense2/bias", "bias2"),
)


def with_ones(x: Tensor) -> Tensor:
    return torch.hstack([x.new_ones(len(x), 1), x])  # (n, k) -> (n, 1 + k)


def folded(params: Tensors, n: int) -> Tensor:
    return torch.vstack([params[f"bias{n}"], params[f"kernel{n}"]])  # (1 + in, out)


def forward(params: Tensors, x: Tensor) -> Tensor:
    a_1 = with_ones(torch.relu(with_ones(x) @ folded(params, 1)))  # (n, 1 + features) -> (n, 1 + hidden)
    return a_1 @ folded(params, 2)  # (n, 1)


def cost(prediction: Tensor, y: Tensor) -> Tensor:
    return ((prediction - y) ** 2).mean()  # (n, 1) -> ()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient + rule.weight_decay * params[name], alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=cost, update=update)
