"""The perceptron with one hidden layer on PyTorch tensors, all by hand, the biases folded in as first rows."""

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


def activate(params: Tensors, x: Tensor) -> tuple[Tensor, Tensor]:
    x_1 = with_ones(x)
    return x_1, with_ones(torch.relu(x_1 @ folded(params, 1)))  # (n, 1 + features) -> (n, 1 + hidden)


def forward(params: Tensors, x: Tensor) -> Tensor:
    return activate(params, x)[1] @ folded(params, 2)  # (n, 1)


def backward(params: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
    x_1, a_1 = activate(params, x)
    error = a_1 @ folded(params, 2) - y  # (n, 1)
    d_prediction = 2 / len(y) * error
    d_w2 = a_1.T @ d_prediction
    d_a = d_prediction @ params["kernel2"].T  # (n, hidden): the column of ones needs no gradient
    d_w1 = x_1.T @ (d_a * (a_1[:, 1:] > 0))
    gradients = {"kernel1": d_w1[1:], "bias1": d_w1[0], "kernel2": d_w2[1:], "bias2": d_w2[0]}
    return (error * error).mean(), gradients


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient + rule.weight_decay * params[name], alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward, backward=backward, update=update)
