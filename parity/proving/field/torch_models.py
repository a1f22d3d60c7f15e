"""The field's models in PyTorch, as a user writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from parity.proving.field.setup import (
    CHANNELS,
    HEADS,
    HIDDEN,
    INPUTS,
    LENGTH,
    MAPS,
    OUTPUTS,
    SIDE,
    WIDTH,
    WORDS,
    Setup,
    turns,
)
from parity.typing import Params


def activation_of(setup: Setup) -> nn.Module:
    if setup.activation == "leaky":
        return nn.LeakyReLU(setup.slope)
    if setup.activation == "relu":
        return nn.ReLU()
    if setup.activation.startswith("gelu"):
        return nn.GELU(approximate="tanh" if setup.activation == "gelu-tanh" else "none")
    return nn.Tanh()


class Perceptron(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)
        self.activation = activation_of(setup)
        self.softmax = setup.softmax
        self.hidden.requires_grad_(not setup.frozen)

    def forward(self, x: Any) -> Any:  # (batch, inputs)
        logits = self.head(self.activation(self.hidden(x)))  # (batch, outputs)
        return logits.softmax(-1) if self.softmax else logits


class HandNorm(nn.Module):
    """A layer norm as people write it."""

    def __init__(self, correction: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(HIDDEN)), nn.Parameter(torch.zeros(HIDDEN))
        self.correction, self.epsilon = correction, epsilon

    def forward(self, x: Any) -> Any:
        variance = x.var(-1, keepdim=True, correction=self.correction)
        return self.weight * (x - x.mean(-1, keepdim=True)) / torch.sqrt(variance + self.epsilon) + self.bias


class RmsNorm(nn.Module):
    """An RMS norm as people write it, whose scale may be kept less one."""

    def __init__(self, offset: bool, epsilon: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(HIDDEN)), nn.Parameter(torch.zeros(HIDDEN))
        self.offset, self.epsilon = offset, epsilon

    def forward(self, x: Any) -> Any:
        x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        return x * (1 + self.weight if self.offset else self.weight) + self.bias


class Normalized(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(INPUTS, HIDDEN), nn.Linear(HIDDEN, OUTPUTS)
        if setup.norm == "batch":
            self.norm = nn.BatchNorm1d(HIDDEN, eps=setup.norm_epsilon, momentum=setup.norm_momentum)
        elif setup.norm == "group":
            self.norm = nn.GroupNorm(setup.norm_groups, HIDDEN, eps=setup.norm_epsilon)
        elif setup.norm == "rms":
            self.norm = RmsNorm(setup.norm_offset, setup.norm_epsilon)
        elif setup.norm == "hand":
            self.norm = HandNorm(setup.norm_correction, setup.norm_epsilon)
        else:
            self.norm = nn.LayerNorm(HIDDEN, eps=setup.norm_epsilon)

    def forward(self, x: Any) -> Any:
        return self.head(torch.tanh(self.norm(self.hidden(x))))


class Convolutional(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.conv = nn.Conv2d(CHANNELS, MAPS, 3, stride=2, padding=0 if setup.padding == "same" else 1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=setup.counted)
        self.head = nn.Linear(SIDE * SIDE // 4 * MAPS, OUTPUTS)

    def forward(self, x: Any) -> Any:  # (batch, side, side, channels)
        x = x.permute(0, 3, 1, 2)
        x = functional.pad(x, (0, 1, 0, 1)) if self.setup.padding == "same" else x
        x = torch.tanh(self.conv(x))
        if self.setup.pooling == "average":
            x = self.pool(x)
        x = x if self.setup.flatten == "chw" else x.permute(0, 2, 3, 1)
        return self.head(x.flatten(1))


class Bottleneck(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        strides = (2, 1) if setup.strided == "first" else (1, 2)
        self.first = nn.Conv2d(CHANNELS, MAPS, 1, strides[0], bias=False)
        self.second = nn.Conv2d(MAPS, MAPS, 3, strides[1], setup.dilation, setup.dilation, bias=False)
        self.head = nn.Linear(MAPS, OUTPUTS)

    def forward(self, x: Any) -> Any:  # (batch, side, side, channels)
        x = torch.tanh(self.second(torch.tanh(self.first(x.permute(0, 3, 1, 2)))))
        return self.head(x.mean((2, 3)))


class Resized(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(CHANNELS, MAPS, 3), nn.Linear(MAPS, OUTPUTS)
        self.resize = setup.resize

    def forward(self, x: Any) -> Any:
        size = (SIDE + 4, SIDE + 4) if self.resize in ("corners", "centres") else (SIDE - 3, SIDE - 3)
        x = functional.interpolate(
            x.permute(0, 3, 1, 2),
            size,
            mode="bilinear",
            align_corners=self.resize == "corners",
            antialias=self.resize == "antialias",
        )
        return self.head(torch.tanh(self.conv(x)).mean((2, 3)))


def sinusoids(setup: Setup) -> Any:
    """The positions (length, width), sines and cosines one after the other or in halves."""
    parts = tuple(map(torch.tensor, turns(WIDTH)))
    return torch.cat(parts, -1) if setup.positions == "halves" else torch.stack(parts, -1).flatten(1)


def rotated(x: Any, setup: Setup) -> Any:
    """Turn pairs of features of each head (batch, head, length, features) by their position."""
    sine, cosine = (torch.tensor(part).to(x.dtype) for part in turns(x.shape[-1]))
    if setup.positions == "rotary-halves":
        one, other = x.chunk(2, -1)
        return torch.cat((one * cosine - other * sine, other * cosine + one * sine), -1)
    one, other = x[..., ::2], x[..., 1::2]
    return torch.stack((one * cosine - other * sine, other * cosine + one * sine), -1).flatten(-2)


class Attention(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.query, self.key, self.value, self.joined = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))

    def forward(self, x: Any) -> Any:  # (batch, length, width)
        def headed(y: Any) -> Any:  # (batch, head, length, features)
            return y.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)

        q, k, v = headed(self.query(x)), headed(self.key(x)), headed(self.value(x))
        if self.setup.positions.startswith("rotary"):
            q, k = rotated(q, self.setup), rotated(k, self.setup)
        sizes = {"head": WIDTH // HEADS, "width": WIDTH, "none": 1}
        scores = q @ k.transpose(-1, -2) / math.sqrt(sizes[self.setup.scale])
        seen = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
        if self.setup.mask == "inverted":
            seen = ~seen | torch.eye(LENGTH, dtype=torch.bool)
        if self.setup.mask != "missing":
            scores = scores.masked_fill(~seen, -1e9)
        return self.joined((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


class LayerAttention(nn.Module):
    """Attention as PyTorch's own layer, without a mask."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.layer = nn.MultiheadAttention(WIDTH, HEADS, bias=False, batch_first=setup.batch_first)

    def forward(self, x: Any) -> Any:  # (batch, length, width)
        return self.layer(x, x, x, need_weights=False)[0]


class Transformer(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup
        self.embedding = nn.Embedding(WORDS, WIDTH, padding_idx=None if setup.padding_trained else 0)
        self.attention = (Attention if setup.attention == "hand" else LayerAttention)(setup)
        self.norm = nn.LayerNorm(WIDTH, eps=setup.norm_epsilon)
        self.hidden, self.activation = nn.Linear(WIDTH, WIDTH), activation_of(setup)
        self.head = nn.Linear(WIDTH, WORDS, bias=False)
        if setup.tied:
            self.head.weight = self.embedding.weight
        self.register_buffer("places", sinusoids(setup), persistent=False)

    def forward(self, words: Any) -> Any:  # (batch, length)
        x = self.embedding(words) * (math.sqrt(WIDTH) if self.setup.embedding_scaled else 1)
        if self.setup.positions in ("interleaved", "halves"):
            x = x + self.places.to(x.dtype)
        first = self.setup.norm_order == "before"
        x = x + self.attention(self.norm(x)) if first else self.norm(x + self.attention(x))
        x = x + self.activation(self.hidden(x))
        return self.head(x)  # (batch, length, words)


class Recurrent(nn.Module):
    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.taken = setup.taken
        self.cell = (nn.LSTM if setup.cell == "lstm" else nn.GRU)(INPUTS, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, OUTPUTS)
        if setup.cell == "lstm":
            self.cell.bias_hh_l0.requires_grad_(setup.two_biases)

    def forward(self, x: Any) -> Any:  # (batch, length, inputs)
        states = self.cell(x)[0]
        return self.head(states[:, -1] if self.taken == "last" else states.mean(1))


MODELS = {
    "perceptron": Perceptron,
    "normalized": Normalized,
    "convolutional": Convolutional,
    "bottleneck": Bottleneck,
    "resized": Resized,
    "transformer": Transformer,
    "recurrent": Recurrent,
}


def build(setup: Setup, weights: Params, dtype: str) -> nn.Module:
    """Make the model that a run trains, with its initial weights.

    Args:
        setup: The run's options.
        weights: Canonical tensors by name.
        dtype: The run's.
    """
    model: nn.Module = MODELS[setup.model](setup)
    model = model.to(getattr(torch, dtype))
    own = dict(model.named_parameters())
    places = {"kernel": "weight", "scale": "weight", "table": "weight", "bias": "bias", "input": "weight_ih_l0"}
    places |= {"recurrent": "weight_hh_l0", "recurrent_bias": "bias_hh_l0"}
    if setup.attention == "layer":
        names = [f"{name}/kernel" for name in ("query", "key", "value")]
        whole = {"in_proj_weight": np.concatenate([weights[name].T for name in names])}
        whole["out_proj.weight"] = weights["joined/kernel"].T
        with torch.no_grad():
            for place, value in whole.items():
                own[f"attention.layer.{place}"].copy_(torch.tensor(value))
        weights = {name: value for name, value in weights.items() if name not in (*names, "joined/kernel")}
    with torch.no_grad():
        for name, value in weights.items():
            layer, role = name.split("/")
            place = "bias_ih_l0" if name == "cell/bias" else places[role]
            layer = f"attention.{layer}" if layer in ("query", "key", "value", "joined") else layer
            axes = {2: (1, 0), 4: (3, 2, 0, 1)}.get(value.ndim) if role != "table" else None
            own[f"{layer}.{place}"].copy_(torch.tensor(value if axes is None else value.transpose(axes).copy()))
        if setup.model == "transformer" and not setup.tied:
            own["head.weight"].copy_(own["embedding.weight"])
        if setup.model == "recurrent" and setup.cell == "lstm":
            own["cell.bias_hh_l0"].zero_()
    return model
