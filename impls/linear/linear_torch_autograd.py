"""Linear regression on PyTorch tensors: cost and update by hand, derivatives by autograd."""

from functools import partial

from torch import Tensor

from parity.layout import Slot
from parity.spec import Case, Sgd
from parity.trainers.torch_trainer import Tensors, TorchTrainer

LAYOUT = (
    Slot("dense/kernel", "weights"),
    Slot("dense/bias", "bias"),
)


def forward(params: Tensors, x: Tensor) -> Tensor:
    return x @ params["weights"] + params["bias"]  # (n, features) -> (n, 1)


def cost(reduction: str, prediction: Tensor, y: Tensor) -> Tensor:
    errors = (prediction - y).square()  # (n, 1)
    return errors.sum() if reduction == "sum" else errors.mean()


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    in_case = partial(cost, case.loss.reduction)
    return TorchTrainer(case, dtype, device, LAYOUT, forward, cost=in_case, update=update)
