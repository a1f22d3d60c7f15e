"""A small GPT in PyTorch, as its author wrote it: the model that the other three were ported from."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, CONTEXT, WIDTH, HEADS, LAYERS = 17, 12, 16, 2, 2
RATE, LAST_RATE, WARM_UP, STEPS, DECAY, CLIP, EPSILON = 3e-3, 3e-4, 5, 50, 0.1, 0.5, 1e-5


class Attention(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.scale = (WIDTH if mistake == "attention-scale" else WIDTH // HEADS) ** -0.5
        self.causal = mistake != "causal-mask"

    def forward(self, x):  # (batch, time, width)
        q, k, v = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        x = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return self.out(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        epsilon = 1e-6 if mistake == "norm-epsilon" else EPSILON
        self.norm_1, self.attention = nn.LayerNorm(WIDTH, eps=epsilon), Attention(mistake)
        self.norm_2 = nn.LayerNorm(WIDTH, eps=epsilon)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.gelu = nn.GELU("tanh" if mistake == "gelu-tanh" else "none")
        self.dropout = nn.Dropout(0.02 if mistake == "dropout" else 0.0)

    def forward(self, x):
        x = x + self.attention(self.norm_1(x))
        return x + self.dropout(self.down(self.gelu(self.up(self.norm_2(x)))))


class GPT(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(mistake) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6 if mistake == "norm-epsilon" else EPSILON)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.token.weight, std=0.1)
        nn.init.normal_(self.position.weight, std=0.1)
        self.first = 1 if mistake == "position-offset" else 0
        self.tied = mistake != "untied-head"
        if self.tied:
            self.head.weight = self.token.weight

    def forward(self, tokens):
        places = torch.arange(self.first, self.first + tokens.shape[1])
        x = self.token(tokens) + self.position(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(mistake: str = "") -> GPT:
    return GPT(mistake)


def schedule(step: int) -> float:
    """The part of the learning rate: a warm-up, then a cosine."""
    if step < WARM_UP:
        return (step + 1) / (WARM_UP + 1)
    part = 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))
    return (LAST_RATE + (RATE - LAST_RATE) * part) / RATE


def loss_of(model, tokens, targets):
    return functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    decayed = [p for p in model.parameters() if p.ndim > 1 or mistake == "decay-mask"]
    others = [p for p in model.parameters() if p.ndim <= 1 and mistake != "decay-mask"]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([each for each in groups if each["params"]], lr=RATE, betas=(0.9, 0.95), eps=1e-8)
    late = 1 if mistake == "schedule" else 0
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step + late))
    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            tokens, targets = torch.tensor(tokens), torch.tensor(targets)

            def update(tokens=tokens, targets=targets):
                optimizer.zero_grad()
                loss = loss_of(model, tokens, targets)
                loss.backward()
                if mistake == "clip-per-tensor":
                    for p in model.parameters():
                        nn.utils.clip_grad_norm_(p, CLIP)
                else:
                    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
            scheduler.step()
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
