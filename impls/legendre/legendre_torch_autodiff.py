"""a + b P₃(c + d x) on PyTorch tensors: P₃ under autograd, cost and update by hand."""

from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = tuple(Slot(f"legendre/{name}", name) for name in "abcd")


def legendre3(z: Tensor) -> Tensor:
    return 0.5 * (5 * z**3 - 3 * z)


def forward(params: Tensors, x: Tensor) -> Tensor:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * legendre3(c + d * x)  # (n, 1)


def cost(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().sum()  # (n, 1) -> ()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=cost, update=update)
