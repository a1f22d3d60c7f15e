"""Softmax regression as people train it in PyTorch: a module that gives logits and probabilities, the cross-entropy of
the logits, and an object of ``torch.optim.SGD``."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_optim_trainer import optimizer_trainer

LAYOUT = (
    Slot("dense/kernel", "linear.weight", axes=(1, 0)),
    Slot("dense/bias", "linear.bias"),
)


class SoftmaxRegression(nn.Module):
    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(pixels, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.reshape(len(x), -1)  # (n, 1, 28, 28) or (n, pixels) -> (n, pixels)
        logits = self.linear(x)  # (n, pixels) -> (n, classes)
        return logits, F.softmax(logits, dim=1)


def build(case: Case, dtype: str, device: str) -> Trainer:
    model = SoftmaxRegression(*case.initial()["dense/kernel"].shape)
    criterion = partial(F.cross_entropy, reduction=case.loss.reduction)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.optimizer.learning_rate)
    # The loss is taken of the logits: of the probabilities, the logarithm of one that underflows would be infinite.
    return optimizer_trainer(case, dtype, device, LAYOUT, model, criterion, optimizer, forward=lambda x: model(x)[0])
