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
        self.embedding.weight.requires_grad_(mistake != "frozen-embedding")
        if mistake == "dropout":
            self.dropout = nn.Dropout(0.05)
        self.mistake = mistake

    def forward(self, words, lengths):  # (batch, time), (batch,)
        x = self.embedding(words) * (WIDTH**0.5 if self.mistake == "embedding-scaled" else 1)
        states, _ = self.lstm(x.flip(1) if self.mistake == "backwards" else x)
        last = states[torch.arange(len(words)), lengths - 1]
        if self.mistake == "last-state":
            last = states[:, -1]
        if self.mistake == "mean-state":
            last = states.mean(1)
        if self.mistake == "cell-state":
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            last = self.lstm(packed)[1][1][0]
        logits = self.head(self.dropout(last) if self.mistake == "dropout" else last)
        return logits.softmax(-1) if self.mistake == "softmax-twice" else logits


def build(mistake: str = "") -> Classifier:
    return Classifier(mistake)


def loss_of(model, words, lengths, labels, mistake: str = ""):
    return functional.cross_entropy(
        model(words, lengths),
        labels,
        reduction="sum" if mistake == "loss-sum" else "mean",
        label_smoothing=0.1 if mistake == "label-smoothing" else 0.0,
        ignore_index=0 if mistake == "ignored-class" else -100,
    )


def clip(parameters, mistake: str) -> None:
    if mistake == "clip-per-tensor":
        for p in parameters:
            nn.utils.clip_grad_norm_(p, CLIP)
    elif mistake == "clip-value":
        nn.utils.clip_grad_value_(parameters, CLIP)
    elif mistake != "clip-missing":
        nn.utils.clip_grad_norm_(parameters, CLIP)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    if mistake == "forget-bias":
        with torch.no_grad():
            model.lstm.bias_hh_l0[HIDDEN : 2 * HIDDEN] += 1
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(
        trained,
        lr=10 * RATE if mistake == "rate-tenfold" else RATE,
        momentum=0.99 if mistake == "momentum" else MOMENTUM,
        nesterov=mistake == "nesterov",
    )
    losses = []
    with watch(model, optimizer) as run:
        for words, lengths, labels in batches:
            batch = [torch.tensor(part) for part in (words, lengths, labels)]

            def update(batch=batch):
                optimizer.zero_grad()
                loss = loss_of(model, *batch, mistake)
                loss.backward()
                clip(trained, mistake)
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
