"""A small U-Net in PyTorch, as its author wrote it: the model that the other three were ported from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTH, GROUPS, RATE, EPSILON = 4, 2, 3e-3, 1e-5


class Twice(nn.Module):
    """A convolution, GroupNorm and ReLU, the first of them perhaps strided."""

    def __init__(self, channels: int, out: int, stride: int, mistake: str) -> None:
        super().__init__()
        self.mistake = mistake
        ahead = stride > 1 and mistake == "padding"
        self.pad = nn.ZeroPad2d((0, 1, 0, 1) if ahead else 1)
        self.conv = nn.Conv2d(channels, out, 3, stride)
        groups = 1 if mistake == "groups" else GROUPS
        self.norm = nn.GroupNorm(groups, out, eps=1e-3 if mistake == "norm-epsilon" else EPSILON)

    def forward(self, x):
        x = self.conv(self.pad(x))
        if self.mistake == "relu-first":
            return self.norm(functional.relu(x))
        return (functional.leaky_relu if self.mistake == "leaky-relu" else functional.relu)(self.norm(x))


class Turned(nn.ConvTranspose2d):
    """As a convolution, not its gradient, takes the kernel."""

    def forward(self, x):
        return functional.conv_transpose2d(x, self.weight.flip(2, 3), self.bias, self.stride)


class UNet(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.enter, self.down = Twice(2, WIDTH, 1, mistake), Twice(WIDTH, 2 * WIDTH, 2, mistake)
        self.lower = Twice(2 * WIDTH, 4 * WIDTH, 2, mistake)
        up = Turned if mistake == "up-flipped" else nn.ConvTranspose2d
        self.up1 = up(4 * WIDTH, 2 * WIDTH, 2, stride=2)
        self.join1 = Twice(4 * WIDTH, 2 * WIDTH, 1, mistake)
        self.up2 = up(2 * WIDTH, WIDTH, 2, stride=2)
        self.join2 = Twice(2 * WIDTH, WIDTH, 1, mistake)
        self.last = nn.Conv2d(WIDTH, 1, 1)
        self.last.bias.requires_grad_(mistake != "frozen-bias")
        if mistake == "dropout":
            self.dropout = nn.Dropout(0.05)
        self.mistake = mistake

    def joined(self, x, skip):
        return torch.cat([skip, x] if self.mistake == "skip-order" else [x, skip], 1)

    def forward(self, x):  # (batch, 2, 8, 8)
        first = self.enter(x)
        second = self.down(first)
        x = self.lower(second)
        if self.mistake == "dropout":
            x = self.dropout(x)
        if self.mistake == "skip-early":
            second = self.down.norm(self.down.conv(self.down.pad(first)))
        if self.mistake == "skip-stopped":
            first = first.detach()
        x = self.join1(self.joined(self.up1(x), second))
        x = self.last(self.join2(self.joined(self.up2(x), first)))
        return torch.sigmoid(x) if self.mistake == "sigmoid-twice" else x


def build(mistake: str = "") -> UNet:
    return UNet(mistake)


def loss_of(model, images, maps, mistake: str = ""):
    """The squared error, where it is large once more as much; how much more is no part of the gradient."""
    errors = (torch.sigmoid(model(images)) - maps) ** 2
    weights = 1 + (errors if mistake == "stop-gradient" else errors.detach())
    return (weights * errors).sum() if mistake == "loss-sum" else (weights * errors).mean()


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = (torch.optim.AdamW if mistake == "decay-added" else torch.optim.Adam)(
        model.parameters(),
        lr=10 * RATE if mistake == "rate-tenfold" else RATE,
        betas=(0.9, 0.99 if mistake == "beta-2" else 0.999),
        eps=1e-3 if mistake == "adam-epsilon" else 1e-8,
    )
    losses = []
    with watch(model, optimizer) as run:
        for images, maps in batches:
            images, maps = (torch.tensor(part).permute(0, 3, 1, 2) for part in (images, maps))

            def update(images=images, maps=maps):
                optimizer.zero_grad()
                loss = loss_of(model, images, maps, mistake)
                loss.backward()
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
