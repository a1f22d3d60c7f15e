"""A small MobileNet with a grouped convolution in PyTorch, as its author wrote it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

CLASSES, RATE, MOMENTUM = 5, 0.05, 0.9


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, mistake: str) -> None:
        super().__init__()
        wide = 2 * inputs
        self.expand = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide, eps=1e-3 if mistake == "norm-epsilon" else 1e-5),
            nn.Hardswish() if mistake == "activation" else nn.ReLU6(),
        )
        self.project = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.residual = stride == 1 and inputs == outputs and mistake != "residual"

    def forward(self, x):  # (batch, channel, row, column)
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class Mobile(nn.Module):
    def __init__(self, mistake: str = "") -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.blocks = nn.Sequential(
            Inverted(8, 8, 1, mistake if mistake in ("residual", "norm-epsilon") else ""),
            Inverted(8, 12, 2, mistake if mistake == "activation" else ""),
            Inverted(12, 12, 1, ""),
        )
        self.mix = nn.Conv2d(12, 16, 3, padding=1, groups=4)
        self.mix_norm = nn.BatchNorm2d(16, momentum=0.9 if mistake == "norm-momentum" else 0.1)
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=mistake == "pool-borders")
        self.dropout = nn.Dropout(0.2 if mistake == "dropout" else 0.0)
        self.classifier = nn.Linear(16, CLASSES)
        self.mistake = mistake

    def forward(self, x):
        if self.mistake == "padding":
            x = self.stem[1:](functional.conv2d(functional.pad(x, (0, 1, 0, 1)), self.stem[0].weight, stride=2))
        else:
            x = self.stem(x)
        x = self.blocks(x)
        if self.mistake == "groups":  # the channels of a group lie apart
            x = x.unflatten(1, (4, 3)).transpose(1, 2).flatten(1, 2)
        x = self.pool(functional.silu(self.mix_norm(self.mix(x))))
        return self.classifier(self.dropout(x.mean((2, 3))))


MISTAKES = {
    "norm-epsilon": "blocks.0.depthwise.1",
    "residual": "blocks.0",
    "activation": "blocks.1.depthwise.2",
    "padding": "stem.0",
    "groups": "mix",
    "pool-borders": "pool",
    "dropout": "dropout",
    "norm-momentum": "mix_norm",
}
"""Each mistake, and the layer that it is in."""


def build(mistake: str = "") -> nn.Module:
    return Mobile(mistake)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    losses: list[Any] = []
    with watch(model, optimizer) as run:
        for images, labels in batches:
            x, y = torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(labels)
            losses.append(run.step(lambda x=x, y=y: functional.cross_entropy(model(x), y)).item())
    return losses
