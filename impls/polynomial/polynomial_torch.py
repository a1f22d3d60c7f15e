"""A cubic as a PyTorch module: autograd, torch's MSELoss, torch's SGD."""

import torch
from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = tuple(Slot(f"polynomial/{name}", name) for name in "abcd")


class Cubic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Parameter(torch.zeros(1)) for _ in "abcd")

    def forward(self, x: Tensor) -> Tensor:
        return self.a + self.b * x + self.c * x**2 + self.d * x**3  # (n, 1)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return module_trainer(case, dtype, device, LAYOUT, Cubic())
