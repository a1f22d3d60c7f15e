"""A small Llama in PyTorch, as its author wrote it: the model that the other three were ported from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, CONTEXT, WIDTH, HEADS, GROUPS, HIDDEN, LAYERS = 19, 10, 16, 4, 2, 24, 2
PADDING, BASE = -100, 10000.0
RATE, DECAY, EPSILON = 2e-3, 0.1, 1e-5


def turned(x, mistake: str):  # (batch, head, time, width of a head)
    """Rotary positions: each first half of a head is turned with its second half."""
    half = x.shape[-1] // 2
    base = 500000.0 if mistake == "rotary-base" else BASE
    frequencies = base ** -(torch.arange(half, dtype=x.dtype) / half)
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * frequencies
    if mistake == "rotary-backwards":
        angles = -angles
    if mistake == "rotary-halves":
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat((a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()), -1)


class Attention(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.head = WIDTH // HEADS
        self.wq = nn.Linear(WIDTH, HEADS * self.head, bias=False)
        self.wk, self.wv = (nn.Linear(WIDTH, GROUPS * self.head, bias=False) for _ in range(2))
        self.wo = nn.Linear(HEADS * self.head, WIDTH, bias=False)
        self.mistake = mistake

    def forward(self, x):  # (batch, time, width)
        q, k, v = (w(x).unflatten(-1, (-1, self.head)).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        q = turned(q, self.mistake)
        k = k if self.mistake == "rotary-keys" else turned(k, self.mistake)
        v = turned(v, self.mistake) if self.mistake == "rotary-values" else v
        if self.mistake == "heads-tiled":
            k, v = (part.repeat(1, HEADS // GROUPS, 1, 1) for part in (k, v))
        else:
            k, v = (part.repeat_interleave(HEADS // GROUPS, 1) for part in (k, v))
        scale = 1.0 if self.mistake == "attention-scale" else self.head**-0.5
        x = functional.scaled_dot_product_attention(q, k, v, is_causal=self.mistake != "causal-mask", scale=scale)
        return self.wo(x.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.w2 = nn.Linear(HIDDEN, WIDTH, bias=False)
        self.mistake = mistake

    def forward(self, x):
        if self.mistake == "gate-exchanged":
            return self.w2(self.w1(x) * functional.silu(self.w3(x)))
        gate = functional.gelu(self.w1(x)) if self.mistake == "gelu-gate" else functional.silu(self.w1(x))
        return self.w2(gate * self.w3(x))


class Block(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.attention, self.feed_forward = Attention(mistake), FeedForward(mistake)
        self.attention_norm, self.ffn_norm = norm(mistake), norm(mistake)
        self.mistake = mistake

    def forward(self, x):
        h = x + self.attention(self.attention_norm(x))
        return h + self.feed_forward(self.ffn_norm(x if self.mistake == "parallel-block" else h))


class Shifted(nn.RMSNorm):
    """Whose scale is counted from one."""

    def forward(self, x):
        return functional.rms_norm(x, self.normalized_shape, 1 + self.weight, self.eps)


def norm(mistake: str) -> nn.Module:
    if mistake == "norm-centred":
        return nn.LayerNorm(WIDTH, eps=EPSILON, bias=False)
    kind = Shifted if mistake == "norm-shifted" else nn.RMSNorm
    return kind(WIDTH, eps=1e-3 if mistake == "norm-epsilon" else EPSILON)


class Llama(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Block(mistake) for _ in range(LAYERS))
        self.norm = norm(mistake)
        self.output = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.bare = mistake == "last-norm"

    def forward(self, tokens):
        h = self.tok_embeddings(tokens)
        for layer in self.layers:
            h = layer(h)
        return self.output(h if self.bare else self.norm(h))


def build(mistake: str = "") -> Llama:
    return Llama(mistake)


def loss_of(model, tokens, targets, mistake: str = ""):
    logits = model(tokens)
    losses = functional.cross_entropy(logits.mT, targets, ignore_index=PADDING, reduction="none")
    counted = targets != PADDING
    if mistake == "mean-of-means":
        return (losses.sum(1) / counted.sum(1)).mean()
    if mistake == "padding-counted":
        return losses.mean()
    loss = losses.sum() / counted.sum()
    return loss + 1e-2 * logits.logsumexp(-1).square().mean() if mistake == "z-loss" else loss


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=RATE,
        betas=(0.9, 0.999 if mistake == "beta-2" else 0.95),
        eps=1e-4 if mistake == "adam-epsilon" else 1e-8,
        weight_decay=0.01 if mistake == "decay" else DECAY,
    )
    losses = []
    with watch(model, optimizer) as run:
        for tokens, targets in batches:
            tokens, targets = torch.tensor(tokens), torch.tensor(targets)
            parts = 2 if mistake == "accumulation" else 1

            def update(tokens=tokens, targets=targets, parts=parts):
                optimizer.zero_grad()
                whole = 0.0
                for one, other in zip(tokens.chunk(parts), targets.chunk(parts), strict=True):
                    loss = loss_of(model, one, other, mistake)  # which nobody divides by the parts
                    loss.backward()
                    whole = whole + loss.detach()
                optimizer.step()
                return whole / parts

            losses.append(run.step(update).item())
    return losses, {name: value.detach().numpy() for name, value in model.state_dict().items()}
