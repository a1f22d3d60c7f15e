"""Softmax regression as a PyTorch module: autograd, torch's cross-entropy from logits, torch's SGD."""

from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = (
    Slot("dense/kernel", "dense.weight", axes=(1, 0)),
    Slot("dense/bias", "dense.bias"),
)


class SoftmaxRegression(nn.Module):
    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.dense = nn.Linear(pixels, classes)

    def forward(self, x: Tensor) -> Tensor:
        # Logits: the softmax is part of the loss, where its logarithm cannot underflow.
        return self.dense(x)  # (n, pixels) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    pixels, classes = case.initial()["dense/kernel"].shape
    return module_trainer(case, dtype, device, LAYOUT, SoftmaxRegression(pixels, classes))
