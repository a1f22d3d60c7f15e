"""A small language model of three equal blocks in PyTorch, its head tied to its embedding, as its author wrote it."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

WORDS, WIDTH, HEADS, DEPTH, LENGTH, RATE, DECAY = 13, 16, 2, 3, 8, 0.01, 0.01


class Block(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH, eps=1e-3 if mistake == "norm-epsilon" else 1e-5)
        self.attn, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc, self.out = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.drop, self.mistake = nn.Dropout(0.2 if mistake == "dropout" else 0.0), mistake

    def attend(self, x):
        b, t, _ = x.shape
        q, k, v = (y.view(b, t, HEADS, -1).transpose(1, 2) for y in self.attn(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH if self.mistake == "scale" else WIDTH // HEADS)
        if self.mistake != "mask":
            scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), -1e9)
        scores = scores.softmax(-2 if self.mistake == "softmax-axis" else -1)
        return self.proj((scores @ v).transpose(1, 2).reshape(b, t, WIDTH))

    def forward(self, x):
        y = self.attend(self.ln_1(x))
        x = y if self.mistake == "residual" else x + y
        y = self.fc(self.ln_2(x))
        y = functional.silu(y) if self.mistake == "activation" else functional.gelu(y)
        return x + self.drop(self.out(y))


class Model(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.h = nn.ModuleList(Block(mistake if k == 1 else "") for k in range(DEPTH))  # in the middle block alone
        self.ln_f, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)
        self.head.weight = self.wte.weight

    def forward(self, words):
        x = self.wte(words) + self.wpe(torch.arange(words.shape[1]))
        for block in self.h:
            x = block(x)
        return self.head(self.ln_f(x))


MISTAKES = {
    "norm-epsilon": "h.1.ln_2",
    "scale": "h.1.proj",
    "mask": "h.1.proj",
    "softmax-axis": "h.1.proj",
    "residual": "h.1.ln_2",
    "activation": "h.1.out",
    "dropout": "h.1.drop",
}


def build(mistake: str = "") -> nn.Module:
    return Model(mistake)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    losses = []
    with watch(model, optimizer) as run:
        for batch in batches:
            x, y = map(torch.tensor, batch)
            losses.append(run.step(lambda x=x, y=y: functional.cross_entropy(model(x).transpose(1, 2), y)).item())
    return losses
