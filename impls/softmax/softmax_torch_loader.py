"""Softmax regression as its source trains it: a ``DataLoader`` hands out images, the module flattens them.

A loader that shuffles draws an order of its own, which ``parity.ShuffledByLoader`` says in NumPy. Here the order is the
case's, the same for all implementations, and the loader follows it as its batch sampler.
"""

from collections.abc import Iterable, Sequence
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from parity import Trainer
from parity.layout import Slot
from parity.spec import Batches, Case
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


def loader(x: Tensor, y: Tensor, batches: Batches) -> Iterable[Sequence[Tensor]]:
    images = TensorDataset(x.view(-1, 1, 28, 28), y)  # (rows, pixels) -> (rows, 1, 28, 28)
    return DataLoader(images, batch_sampler=[rows.tolist() for rows in batches])


def build(case: Case, dtype: str, device: str) -> Trainer:
    model = SoftmaxRegression(*case.initial()["dense/kernel"].shape)
    criterion = partial(F.cross_entropy, reduction=case.loss.reduction)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.optimizer.learning_rate)
    return optimizer_trainer(
        case, dtype, device, LAYOUT, model, criterion, optimizer, forward=lambda x: model(x)[0], loader=loader
    )
