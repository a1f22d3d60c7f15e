"""Linear regression as a PyTorch module: autograd, torch's MSELoss, torch's SGD."""

from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = (
    Slot("dense/kernel", "dense.weight", axes=(1, 0)),
    Slot("dense/bias", "dense.bias"),
)


class LinearRegression(nn.Module):
    def __init__(self, features: int) -> None:
        super().__init__()
        self.dense = nn.Linear(features, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x)  # (n, features) -> (n, 1)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    features = len(case.initial()["dense/kernel"])
    return module_trainer(case, dtype, device, LAYOUT, LinearRegression(features))
