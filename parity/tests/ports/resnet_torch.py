"""A small ResNet in PyTorch, as its author wrote it: the model that the other three were ported from."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTHS, STRIDES, CLASSES = (4, 8, 8), (1, 2, 2), 10
RATE, MOMENTUM, DECAY, EPSILON = 0.05, 0.9, 5e-3, 1e-5


class UnbiasedNorm(nn.BatchNorm2d):
    """By hand; ``var`` divides by one less than the number of values."""

    def forward(self, x):
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True)
        self.running_mean.lerp_(mean.detach().flatten(), self.momentum)
        x = (x - mean) / torch.sqrt(variance + self.eps)
        return x * self.weight.view(-1, 1, 1) + self.bias.view(-1, 1, 1)


def norm(channels: int, mistake: str) -> nn.Module:
    kind = UnbiasedNorm if mistake == "norm-variance" else nn.BatchNorm2d
    return kind(
        channels,
        eps=1e-3 if mistake == "norm-epsilon" else EPSILON,
        momentum=0.9 if mistake == "norm-momentum" else 0.1,
    )


def conv(channels: int, out: int, stride: int, mistake: str) -> nn.Module:
    if stride == 2 and mistake == "padding":
        return nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, out, 3, stride, bias=False))
    return nn.Sequential(nn.Identity(), nn.Conv2d(channels, out, 3, stride, padding=1, bias=False))


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int, mistake: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, out, stride, mistake), norm(out, mistake)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), norm(out, mistake)
        self.shortcut, self.mistake = nn.Sequential(), mistake if stride == 1 else ""
        if stride > 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), norm(out, mistake))

    def forward(self, x):
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.mistake == "residual-missing":
            return functional.relu(out)
        if self.mistake == "relu-early":
            return functional.relu(out) + self.shortcut(x)
        return functional.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, mistake: str) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False), norm(WIDTHS[0], mistake)
        before = (WIDTHS[0], *WIDTHS)
        shapes = zip(before, WIDTHS, STRIDES, strict=False)
        self.blocks = nn.ModuleList(Block(*shape, mistake) for shape in shapes)
        self.head, self.mistake = nn.Linear(WIDTHS[-1] * 4, CLASSES), mistake
        self.head.bias.requires_grad_(mistake != "frozen-head-bias")

    def forward(self, x):  # (batch, 3, 16, 16)
        x = self.stem(x.flip(1) if self.mistake == "channel-order" else x)
        if self.mistake == "relu-first":
            x = self.norm(functional.relu(x))
        else:
            x = (functional.leaky_relu if self.mistake == "leaky-relu" else functional.relu)(self.norm(x))
        for block in self.blocks:
            x = block(x)
        x = functional.max_pool2d(x, 2) if self.mistake == "max-pool" else functional.avg_pool2d(x, 2)
        logits = self.head((x.permute(0, 2, 3, 1) if self.mistake == "flatten-order" else x).flatten(1))
        return logits.softmax(-1) if self.mistake == "softmax-twice" else logits


def build(mistake: str = "") -> ResNet:
    return ResNet(mistake)


def loss_of(model, images, labels, mistake: str = ""):
    return functional.cross_entropy(
        model(images),
        labels,
        reduction="sum" if mistake == "loss-sum" else "mean",
        label_smoothing=0.1 if mistake == "label-smoothing" else 0.0,
    )


def train(watch, weights, batches, dtype: str, mistake: str = "") -> tuple[list[float], dict[str, Any]]:
    model = build(mistake).to(getattr(torch, dtype))
    model.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    if mistake == "running-statistics":
        model.eval()
    kernels = [p for p in model.parameters() if p.ndim > 1 or mistake == "decay-mask"]
    others = [p for p in model.parameters() if p.ndim <= 1 and mistake != "decay-mask"]
    decay = 0.0 if mistake == "decay-decoupled" else DECAY
    groups = [{"params": kernels, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    rate = 10 * RATE if mistake == "rate-tenfold" else RATE
    trained = [each for each in groups if each["params"]]
    optimizer = torch.optim.SGD(trained, lr=rate, momentum=MOMENTUM, nesterov=mistake == "nesterov")
    losses = []
    with watch(model, optimizer) as run:
        for images, labels in batches:
            images, labels = torch.tensor(images).permute(0, 3, 1, 2), torch.tensor(labels)

            def update(images=images, labels=labels):
                if mistake != "gradients-added":
                    optimizer.zero_grad()
                loss = loss_of(model, images, labels, mistake)
                loss.backward()
                if mistake == "decay-decoupled":
                    torch._foreach_mul_([p.data for p in kernels], 1 - RATE * DECAY)
                optimizer.step()
                return loss

            losses.append(run.step(update).item())
    return losses, {name: value.numpy() for name, value in model.state_dict().items()}
