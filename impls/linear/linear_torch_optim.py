"""Linear regression as people train it in PyTorch: a module, ``nn.MSELoss`` and an object of ``torch.optim.SGD``."""

import torch
from torch import Tensor, nn

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_optim_trainer import optimizer_trainer

LAYOUT = (
    Slot("dense/kernel", "linear.weight", axes=(1, 0)),
    Slot("dense/bias", "linear.bias"),
)


class LinearRegression(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> Trainer:
    model = LinearRegression(len(case.initial()["dense/kernel"]))
    criterion = nn.MSELoss(reduction=case.loss.reduction)
    optimizer = torch.optim.SGD(model.parameters(), lr=case.optimizer.learning_rate)
    return optimizer_trainer(case, dtype, device, LAYOUT, model, criterion, optimizer)
