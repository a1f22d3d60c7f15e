"""The perceptron with several layers as its source trains it: a ``DataLoader`` hands out images, the module flattens
them.

A loader that shuffles draws an order of its own, which ``parity.ShuffledByLoader`` says in NumPy. Here the order is the
case's, the same for all implementations, and the loader follows it as its batch sampler.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from impls.mlp.spec import widths
from parity import Trainer
from parity.layout import Layout, Slot
from parity.spec import Batches, Case, Sgd
from parity.trainers.torch_optim_trainer import optimizer_trainer


def layout(layers: int) -> Layout:
    # Every second module of the Sequential is a ReLU.
    numbers = [(n, 2 * (n - 1)) for n in range(1, layers + 1)]
    kernels = [Slot(f"dense{n}/kernel", f"fc.{place}.weight", axes=(1, 0)) for n, place in numbers]
    biases = [Slot(f"dense{n}/bias", f"fc.{place}.bias") for n, place in numbers]
    return (*kernels, *biases)


class Mlp(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers = [layer for size in pairwise(widths) for layer in (nn.Linear(*size), nn.ReLU())]
        self.fc = nn.Sequential(*layers)
        self.log_softmax = nn.LogSoftmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), -1)  # (n, 1, 28, 28) or (n, pixels) -> (n, pixels)
        return self.log_softmax(self.fc(x))  # (n, pixels) -> (n, classes)


def loader(x: Tensor, y: Tensor, batches: Batches) -> Iterable[Sequence[Tensor]]:
    images = TensorDataset(x.view(-1, 1, 28, 28), y)  # (rows, pixels) -> (rows, 1, 28, 28)
    return DataLoader(images, batch_sampler=[rows.tolist() for rows in batches])


def build(case: Case, dtype: str, device: str) -> Trainer:
    sizes, rule = widths(case.initial()), case.optimizer
    assert isinstance(rule, Sgd)
    model = Mlp(sizes)
    criterion = nn.NLLLoss(reduction=case.loss.reduction)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rule.learning_rate, momentum=rule.momentum, weight_decay=rule.weight_decay
    )
    return optimizer_trainer(case, dtype, device, layout(len(sizes) - 1), model, criterion, optimizer, loader=loader)
