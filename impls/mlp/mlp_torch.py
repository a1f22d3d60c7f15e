"""The perceptron with several layers as a PyTorch module: autograd, torch's NLLLoss, torch's SGD."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from impls.mlp.spec import widths
from parity.layout import Layout, Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer


def layout(layers: int) -> Layout:
    # Every second module of the Sequential is a ReLU.
    numbers = [(n, 2 * (n - 1)) for n in range(1, layers + 1)]
    kernels = [Slot(f"dense{n}/kernel", f"layers.{place}.weight", axes=(1, 0)) for n, place in numbers]
    biases = [Slot(f"dense{n}/bias", f"layers.{place}.bias") for n, place in numbers]
    return (*kernels, *biases)


class Mlp(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers = [layer for size in pairwise(widths) for layer in (nn.Linear(*size), nn.ReLU())]
        self.layers = nn.Sequential(*layers)
        self.log_softmax = nn.LogSoftmax(dim=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.log_softmax(self.layers(x))  # (n, pixels) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    sizes = widths(case.initial())
    return module_trainer(case, dtype, device, layout(len(sizes) - 1), Mlp(sizes))
