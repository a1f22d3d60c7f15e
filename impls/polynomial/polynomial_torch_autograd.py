"""A cubic on PyTorch tensors: cost and update by hand, derivatives by autograd."""

from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = tuple(Slot(f"polynomial/{name}", name) for name in "abcd")


def forward(params: Tensors, x: Tensor) -> Tensor:
    a, b, c, d = (params[name] for name in "abcd")  # (1,) each
    return a + b * x + c * x**2 + d * x**3  # (n, 1)


def cost(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().sum()  # (n, 1) -> ()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=cost, update=update)
