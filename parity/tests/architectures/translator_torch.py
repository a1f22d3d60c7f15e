"""A small translator, encoder and decoder with cross-attention, in PyTorch, as its author wrote it."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

WORDS, WIDTH, HEADS, LENGTH, RATE, MOMENTUM = 13, 16, 4, 7, 0.1, 0.9


class Feed(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)
        self.act = nn.GELU("tanh" if mistake == "activation" else "none")

    def forward(self, x):
        return self.down(self.act(self.up(x)))


class Encoder(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.feed = Feed(mistake if mistake == "activation" else "")

    def forward(self, x, padded):
        y = self.norm1(x)
        x = x + self.attention(y, y, y, key_padding_mask=padded, need_weights=False)[0]
        return x + self.feed(self.norm2(x))


class Decoder(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.itself = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.norm1, self.norm3 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=1e-3 if mistake == "norm-epsilon" else 1e-5)
        self.feed, self.mistake = Feed(), mistake
        self.dropout = nn.Dropout(0.2 if mistake == "dropout" else 0.0)

    def forward(self, x, memory, padded):
        y, time = self.norm1(x), x.shape[1]
        causal = torch.ones(time, time, dtype=torch.bool).triu(1)
        if self.mistake == "mask":
            causal = None
        x = x + self.itself(y, y, y, attn_mask=causal, need_weights=False)[0]
        y = self.norm2(x)
        if self.mistake == "padding-mask":
            padded = None
        if self.mistake == "scale":
            y = self.cross(y / math.sqrt(HEADS), memory, memory, key_padding_mask=padded, need_weights=False)[0]
        else:
            y = self.cross(y, memory, memory, key_padding_mask=padded, need_weights=False)[0]
        x = y if self.mistake == "residual" else x + y
        return x + self.dropout(self.feed(self.norm3(x)))


class Translator(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, WIDTH), nn.Embedding(WORDS, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.encoder, self.decoder = Encoder(mistake), Decoder(mistake)
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)
        self.mistake = mistake

    def forward(self, source, target):
        padded, places = source == 0, self.places(torch.arange(LENGTH))
        embedded = self.source(source) * math.sqrt(WIDTH) + places
        memory = self.encoder(embedded, padded)
        if self.mistake == "memory":  # the decoder looks at what the encoder was given
            memory = embedded
        return self.head(self.norm(self.decoder(self.target(target) * math.sqrt(WIDTH) + places, memory, padded)))


MISTAKES = {
    "activation": "encoder.feed.act",
    "norm-epsilon": "decoder.norm2",
    "mask": "decoder.itself",
    "padding-mask": "decoder.cross",
    "scale": "decoder.cross",
    "residual": "decoder.norm3",
    "memory": "decoder.cross",
    "dropout": "decoder.dropout",
}


def build(mistake: str = "") -> nn.Module:
    return Translator(mistake)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    losses = []
    with watch(model, optimizer) as run:
        for batch in batches:
            source, target, goal = map(torch.tensor, batch)

            def update(source=source, target=target, goal=goal):
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(source, target).transpose(1, 2), goal)
                loss.backward()
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
    return losses
