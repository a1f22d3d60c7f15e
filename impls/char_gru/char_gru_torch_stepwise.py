"""A character model as its source trains it: a PyTorch module that reads one character at a time, its state handed from
step to step, and an object of ``torch.optim.Adam``, which leaves alone the parameter that has no gradient."""

from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from parity import Trainer
from parity.layout import Slot
from parity.spec import Adam, Case
from parity.trainers.torch_optim_trainer import optimizer_trainer

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
        h = torch.zeros_like(self.init_hidden)  # (1, H)
        logits = []
        for character in x.split(1):
            output, h = self.step(character, h)
            logits.append(output)
        return torch.cat(logits)  # (T, characters)

    def step(self, character: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.embed(character)  # (1,) -> (1, H)
        output, h = self.gru(embedded, h)  # (1, H), (1, H) -> (1, H), (1, H)
        return self.fc(output), h  # (1, H) -> (1, characters)


def build(case: Case, dtype: str, device: str) -> Trainer:
    rule = case.optimizer
    assert isinstance(rule, Adam)
    model = CharGru(*case.initial()["embedding/table"].shape)
    criterion = partial(F.cross_entropy, reduction=case.loss.reduction)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=rule.learning_rate, betas=(rule.beta1, rule.beta2), eps=rule.epsilon
    )
    return optimizer_trainer(case, dtype, device, LAYOUT, model, criterion, optimizer)
