"""Linear regression on PyTorch tensors, all by hand: cost, gradient and update, without autograd."""

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


def backward(reduction: str, params: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
    share = 1 / len(x) if reduction == "mean" else 1.0
    error = forward(params, x) - y  # (n, 1)
    d_prediction = 2 * share * error
    # With a column of ones in x, the bias would be one more weight; this sum is its row of xᵀ d_prediction.
    gradients = {"weights": x.T @ d_prediction, "bias": d_prediction.sum(0)}
    return share * error.square().sum(), gradients


def update(rule: Sgd, params: Tensors, gradients: Tensors) -> None:
    for name, gradient in gradients.items():
        params[name].sub_(gradient, alpha=rule.learning_rate)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    in_case = partial(backward, case.loss.reduction)
    return TorchTrainer(case, dtype, device, LAYOUT, forward, backward=in_case, update=update)
