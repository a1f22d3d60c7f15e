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
        self.causal, self.mistake = mistake != "causal-mask", mistake

    def split(self, x):  # (batch, time, width) to (batch, head, time, width of a head)
        if self.mistake == "head-order":
            return x.unflatten(-1, (-1, HEADS)).permute(0, 3, 1, 2)
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)

    def forward(self, x):  # (batch, time, width)
        q, k, v = (self.split(part) for part in self.qkv(x).chunk(3, -1))
        if self.mistake == "softmax-axis":
            scores = (q @ k.mT * self.scale).masked_fill(torch.ones(CONTEXT, CONTEXT).triu(1) > 0, -1e30)
            x = scores.softmax(-2) @ v
        else:
            x = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal, scale=self.scale)
        return self.out(x.transpose(1, 2).flatten(2))


class Quick(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, mistake: str, last: bool) -> None:
        super().__init__()
        self.after, self.bare = mistake == "norm-after", mistake == "residual-missing" and last
        epsilon = 1e-6 if mistake == "norm-epsilon" else EPSILON
        self.norm_1, self.attention = nn.LayerNorm(WIDTH, eps=epsilon), Attention(mistake)
        self.norm_2 = nn.LayerNorm(WIDTH, eps=epsilon)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.gelu = Quick() if mistake == "gelu-sigmoid" else nn.GELU("tanh" if mistake == "gelu-tanh" else "none")
        self.dropout = nn.Dropout(0.02 if mistake == "dropout" else 0.0)

    def forward(self, x):
        if self.after:
            x = self.norm_1(x + self.attention(x))
            return self.norm_2(x + self.dropout(self.down(self.gelu(self.up(x)))))
        x = self.attention(self.norm_1(x)) + (0 if self.bare else x)
        return x + self.dropout(self.down(self.gelu(self.up(self.norm_2(x)))))


class GPT(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT + 1, WIDTH)
        self.blocks = nn.ModuleList(Block(mistake, k == LAYERS - 1) for k in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6 if mistake == "norm-epsilon" else EPSILON)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.token.weight, std=0.1)
        nn.init.normal_(self.position.weight, std=0.1)
        self.position.weight.requires_grad_(mistake != "frozen-positions")
        self.scale = WIDTH**0.5 if mistake == "embedding-scaled" else 1
        self.first = 1 if mistake == "position-offset" else 0
        self.tied = mistake != "untied-head"
        if self.tied:
            self.head.weight = self.token.weight

    def forward(self, tokens):
        places = torch.arange(self.first, self.first + tokens.shape[1])
        x = self.token(tokens) * self.scale + self.position(places)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build(mistake: str = "") -> GPT:
    return GPT(mistake)


def schedule(step: int, mistake: str = "") -> float:
    """The part of the learning rate: a warm-up, then a cosine."""
    step += 1 if mistake == "schedule" else 0
    if step < WARM_UP and mistake != "warm-up":
        return (step + 1) / (WARM_UP + 1)
    step = max(step, WARM_UP)
    part = 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / (STEPS - WARM_UP)))
    return (LAST_RATE + (RATE - LAST_RATE) * part) / RATE


def loss_of(model, tokens, targets, mistake: str = ""):
    loss = functional.cross_entropy(
        model(tokens).flatten(0, 1),
        (tokens if mistake == "target-shift" else targets).flatten(),
        reduction="sum" if mistake == "loss-sum" else "mean",
        label_smoothing=0.1 if mistake == "label-smoothing" else 0.0,
        ignore_index=0 if mistake == "ignored-token" else -100,
    )
    return loss / math.log(2) if mistake == "log-base" else loss


def clip(parameters, mistake: str) -> None:
    if mistake == "clip-per-tensor":
        for p in parameters:
            nn.utils.clip_grad_norm_(p, CLIP)
    elif mistake != "clip-missing":
        nn.utils.clip_grad_norm_(parameters, CLIP)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    decayed = [p for p in model.parameters() if p.ndim > 1 or mistake == "decay-mask"]
    others = [p for p in model.parameters() if p.ndim <= 1 and mistake != "decay-mask"]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = (torch.optim.Adam if mistake == "decay-coupled" else torch.optim.AdamW)(
        [each for each in groups if each["params"]],
        lr=10 * RATE if mistake == "rate-tenfold" else RATE,
        betas=(0.9, 0.999 if mistake == "beta-2" else 0.95),
        eps=1e-8,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, mistake))
    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            tokens, targets = torch.tensor(tokens), torch.tensor(targets)

            def update(tokens=tokens, targets=targets):
                optimizer.zero_grad()
                loss = loss_of(model, tokens, targets, mistake)
                loss.backward()
                clip(list(model.parameters()), mistake)
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
            scheduler.step()
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
