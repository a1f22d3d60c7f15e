"""A classifier of padded sequences as a PyTorch module: of what ``nn.LSTM`` gives, the state at each row's last word.

A packed sequence would have no padding, but wants the lengths on the CPU, wherever the model is.
"""

import torch
from torch import Tensor, nn

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.torch_trainer import TorchTrainer, module_trainer

LAYOUT = (
    Slot("embedding/table", "embedding.weight"),
    Slot("lstm/input_kernel", "lstm.weight_ih_l0", axes=(1, 0)),
    Slot("lstm/recurrent_kernel", "lstm.weight_hh_l0", axes=(1, 0)),
    Slot("lstm/input_bias", "lstm.bias_ih_l0"),
    Slot("lstm/recurrent_bias", "lstm.bias_hh_l0"),
    Slot("dense/kernel", "dense.weight", axes=(1, 0)),
    Slot("dense/bias", "dense.bias"),
)


class Lstm(nn.Module):
    def __init__(self, words: int, width: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True)
        self.dense = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        embedded = self.embedding(x)  # (n, T) -> (n, T, E)
        states, _ = self.lstm(embedded)  # (n, T, E) -> (n, T, H)
        last = torch.count_nonzero(x, -1) - 1  # (n, T) -> (n,)
        rows = torch.arange(len(x), device=x.device)
        return self.dense(states[rows, last])  # (n, T, H) -> (n, H) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> TorchTrainer:
    initial = case.initial()
    (words, width), (hidden, classes) = initial["embedding/table"].shape, initial["dense/kernel"].shape
    return module_trainer(case, dtype, device, LAYOUT, Lstm(words, width, hidden, classes))
