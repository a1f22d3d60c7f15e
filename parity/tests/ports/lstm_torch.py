"""A classifier of sentences in PyTorch, as its author wrote it: the model that the other three were ported from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

WORDS, WIDTH, HIDDEN, CLASSES = 12, 8, 8, 3
RATE, MOMENTUM, CLIP = 0.3, 0.9, 0.05


class Classifier(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(WORDS, WIDTH), nn.LSTM(WIDTH, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, CLASSES)
        nn.init.zeros_(self.lstm.bias_ih_l0)
        if mistake != "two-biases":  # the other frameworks have one, and of two each would make the whole step
            self.lstm.bias_ih_l0.requires_grad_(False)
        self.padded = mistake == "last-state"

    def forward(self, words, lengths):  # (batch, time), (batch,)
        states, _ = self.lstm(self.embedding(words))
        last = states[:, -1] if self.padded else states[torch.arange(len(words)), lengths - 1]
        return self.head(last)


def build(mistake: str = "") -> Classifier:
    return Classifier(mistake)


def loss_of(model, words, lengths, labels):
    return functional.cross_entropy(model(words, lengths), labels)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    if mistake == "forget-bias":
        with torch.no_grad():
            model.lstm.bias_hh_l0[HIDDEN : 2 * HIDDEN] += 1
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=RATE, momentum=MOMENTUM)
    losses = []
    with watch(model, optimizer) as run:
        for words, lengths, labels in batches:
            batch = [torch.tensor(part) for part in (words, lengths, labels)]

            def update(batch=batch):
                optimizer.zero_grad()
                loss = loss_of(model, *batch)
                loss.backward()
                if mistake == "clip-per-tensor":
                    for p in trained:
                        nn.utils.clip_grad_norm_(p, CLIP)
                else:
                    nn.utils.clip_grad_norm_(trained, CLIP)
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
