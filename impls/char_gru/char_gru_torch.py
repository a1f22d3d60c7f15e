"""A character model as a PyTorch module: ``nn.GRU`` over the whole portion at once."""

import torch
from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = (
    Slot("embedding/table", "embed.weight"),
    Slot("gru/input_kernel", "gru.weight_ih_l0", axes=(1, 0)),
    Slot("gru/recurrent_kernel", "gru.weight_hh_l0", axes=(1, 0)),
    Slot("gru/input_bias", "gru.bias_ih_l0"),
    Slot("gru/recurrent_bias", "gru.bias_hh_l0"),
    Slot("gru/initial_state", "init_hidden"),
    Slot("dense/kernel", "fc.weight", axes=(1, 0)),
    Slot("dense/bias", "fc.bias"),
)


class CharGru(nn.Module):
    def __init__(self, characters: int, hidden: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(characters, hidden)
        self.gru = nn.GRU(hidden, hidden)
        self.fc = nn.Linear(hidden, characters)
        self.init_hidden = nn.Parameter(torch.zeros(1, hidden))  # the source declares it and starts from zeros

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embed(x)  # (T,) -> (T, H)
        states, _ = self.gru(embedded)  # (T, H) -> (T, H), from a state of zeros
        return self.fc(states)  # (T, H) -> (T, characters)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    return module_trainer(case, dtype, device, LAYOUT, CharGru(*case.initial()["embedding/table"].shape))
