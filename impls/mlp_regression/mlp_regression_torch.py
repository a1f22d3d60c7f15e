"""The perceptron with one hidden layer as a PyTorch module: autograd, torch's MSELoss, torch's SGD."""

from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = (
    Slot("dense1/kernel", "dense1.weight", axes=(1, 0)),
    Slot("dense1/bias", "dense1.bias"),
    Slot("dense2/kernel", "dense2.weight", axes=(1, 0)),
    Slot("dense2/bias", "dense2.bias"),
)


class Mlp(nn.Module):
    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.dense1 = nn.Linear(features, hidden)
        self.relu = nn.ReLU()
        self.dense2 = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.dense1(x))  # (n, features) -> (n, hidden)
        return self.dense2(a)  # (n, 1)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    features, hidden = case.initial()["dense1/kernel"].shape
    return module_trainer(case, dtype, device, LAYOUT, Mlp(features, hidden))
