"""Layers of torch as users write them, right and with a mistake, each in a small model that is watched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

UPDATES = 2


@dataclass(frozen=True)
class Plant:
    """A layer and the same with a mistake.

    Attributes:
        shape: What the model takes, one example of it.
        right: The layer.
        wrong: The same with the mistake.
        before: What comes before it: of what a model is given a recording has a sketch alone.
    """

    shape: tuple[int, ...]
    right: Callable[[Any], Any]
    wrong: Callable[[Any], Any]
    before: Callable[[Any], Any] | None = None


def of_function(torch: Any, function: Callable[[Any], Any], **settings: Any) -> Any:
    """A user's own module around a function."""

    class Own(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x, **settings)

    return Own()


ROWS, STEPS, WIDTH = (12,), (5, 12), 12
IMAGE = (6, 9, 9)


def trained(plant: Plant, wrong: bool, folder: Path, dtype: str) -> None:
    """Train the model for a few updates and record it."""
    import torch

    from parity.watching import watch

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    try:
        first = (plant.before or (_linear if len(plant.shape) < 3 else _conv))(torch)
        layer = plant.right(torch)
        words = plant.shape == WORDS
        first = torch.nn.Identity() if words else first
        given = torch.randint(0, 9, (8, *WORDS)) if words else torch.randn(8, *plant.shape) * 1.5
        shape = layer(first(given)).shape if not wrong else None
        torch.manual_seed(1)
        kept = dict(layer.state_dict())
        for name, value in kept.items():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape) + 0.5 if "var" in name else torch.randn(value.shape) * 0.5)
        if wrong:
            right, layer = layer, plant.wrong(torch)
            layer.load_state_dict(right.state_dict(), strict=False)
            shape = layer(first(given)).shape
        assert shape is not None
        torch.manual_seed(2)
        last = torch.nn.Linear(int(np.prod(shape[1:])), 3)
        model = torch.nn.Sequential()
        for name, module in (("first", first), ("layer", layer), ("flat", torch.nn.Flatten()), ("last", last)):
            model.add_module(name, module)
        model.train(layer.training)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with watch(folder, model, optimizer, deep=1, shadows=2) as run:
            for k in range(UPDATES):
                torch.manual_seed(10 + k)
                x, y = torch.randn(8, *plant.shape) * 1.5, torch.randn(8, 3)
                x = torch.randint(0, 9, (8, *WORDS)) if words else x
                run.step(lambda x=x, y=y: (model(x) - y).square().mean())
    finally:
        torch.set_default_dtype(before)


def _norm(kind: str, *arguments: Any, **settings: Any) -> Callable[[Any], Any]:
    return lambda torch: getattr(torch.nn, kind)(*arguments, **settings)


def _act(function: str, **settings: Any) -> Callable[[Any], Any]:
    return lambda torch: of_function(torch, lambda x: getattr(torch.nn.functional, function)(x, **settings))


def _own(make: Callable[[Any, Any], Any]) -> Callable[[Any], Any]:
    return lambda torch: of_function(torch, lambda x: make(torch, x))


def _of_norm(
    kind: str, divide: Callable[[Any, Any, Any], Any], *arguments: Any, **settings: Any
) -> Callable[[Any], Any]:
    """A norm of a user's own, with the parameters of one of torch's: ``divide(torch, module, x)`` normalizes."""

    def make(torch: Any) -> Any:
        class Own(getattr(torch.nn, kind)):  # type: ignore[misc]
            def forward(self, x: Any) -> Any:
                scale, bias = self.weight, getattr(self, "bias", None)
                if x.ndim == 4:
                    scale, bias = scale[:, None, None], bias[:, None, None]
                found = divide(torch, self, x) * scale
                return found if bias is None else found + bias

        return Own(*arguments, **settings)

    return make


def _linear(torch: Any) -> Any:
    return torch.nn.Linear(WIDTH, WIDTH)


def _conv(torch: Any) -> Any:
    return torch.nn.Conv2d(IMAGE[0], IMAGE[0], 3, padding=1)


def _large(torch: Any) -> Any:
    """Values of which some are beyond 6."""
    layer = torch.nn.Linear(WIDTH, WIDTH)
    with torch.no_grad():
        layer.weight.mul_(8)
    return layer


def _small(torch: Any) -> Any:
    """Values so small that an epsilon shows."""
    layer = torch.nn.Linear(WIDTH, WIDTH)
    with torch.no_grad():
        layer.weight.mul_(0.05)
    return layer


def _evaluated(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda torch: make(torch).eval()


def _std(torch: Any, x: Any, dims: Any, corrected: bool) -> Any:
    return x.std(dims, keepdim=True, correction=int(corrected))


def _centre(x: Any, dims: Any) -> Any:
    return x - x.mean(dims, keepdim=True)


EVEN = (6, 8, 8)
WORDS = (5,)
"""Of these shapes a model takes the rows of a table."""


def _below_zero(torch: Any) -> Any:
    layer = _conv(torch)
    with torch.no_grad():
        layer.bias.fill_(-3)
    return layer


def _changed(make: Callable[[Any], Any], forward: Callable[[Any, Any, Any], Any]) -> Callable[[Any], Any]:
    """One of torch's layers that computes otherwise: ``forward(torch, module, x)``."""

    def made(torch: Any) -> Any:
        module = make(torch)
        module.forward = lambda x: forward(torch, module, x)
        return module

    return made


def _with_kernel(make: Callable[[Any], Any], lies: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A convolution whose kernel lies otherwise."""
    return _changed(make, lambda t, m, x: t.nn.functional.conv2d(x, lies(m.weight), m.bias))


def _last_flattened(torch: Any) -> Any:
    """Flattened (height, width, channels)."""
    return of_function(torch, lambda x: x.permute(0, 2, 3, 1).flatten(1))


def _table(torch: Any) -> Any:
    return torch.nn.Embedding(9, WIDTH)


def _behind(torch: Any, function: Callable[[Any], Any]) -> Any:
    """A layer behind a function that is no layer."""

    class Behind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _linear(torch)

        def forward(self, x: Any) -> Any:
            return self.inner(function(x))

    return Behind()


def _recurrent(kind: str) -> Callable[[Any], Any]:
    def make(torch: Any) -> Any:
        class States(getattr(torch.nn, kind)):  # type: ignore[misc]
            """Gives the states of all steps alone."""

            def forward(self, x: Any) -> Any:
                return super().forward(x)[0]

        return States(WIDTH, 5, batch_first=True)

    return make


def _with_weights(kind: str, change: Callable[[Any, str, Any], Any]) -> Callable[[Any], Any]:
    """A recurrent layer that runs with other weights than it has."""

    def make(torch: Any) -> Any:
        layer = _recurrent(kind)(torch)
        forward = type(layer).forward

        def changed(x: Any) -> Any:
            own = dict(layer.named_parameters())
            return torch.func.functional_call(
                plain, {name: change(torch, name, value) for name, value in own.items()}, (x,)
            )

        plain = _recurrent(kind)(torch)
        layer.__dict__["plain"] = [plain, forward]
        layer.forward = changed
        return layer

    return make


def _last_step(torch: Any, state: int) -> Any:
    """An LSTM's last output, or what lies there in its states: 0 for the hidden one, 1 for the cell's."""

    class Last(torch.nn.LSTM):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Any:
            return super().forward(x)[1][state][0]

    return Last(WIDTH, 5, batch_first=True)


def _batch_second(torch: Any) -> Any:
    layer = _recurrent("GRU")(torch)
    layer.batch_first = False
    return layer


def _hard_gates(steepness: float) -> Callable[[Any], Any]:
    """An LSTM by hand, with a hard sigmoid, Keras's old one at 0.2."""

    def forward(t: Any, m: Any, x: Any) -> Any:
        h, c, found = x.new_zeros(len(x), 5), x.new_zeros(len(x), 5), []
        for k in range(x.shape[1]):
            sums = x[:, k] @ m.weight_ih_l0.T + m.bias_ih_l0 + h @ m.weight_hh_l0.T + m.bias_hh_l0
            i, f, g, o = sums.chunk(4, 1)
            i, f, o = ((steepness * one + 0.5).clamp(0, 1) for one in (i, f, o))
            c = f * c + i * g.tanh()
            h = o * c.tanh()
            found.append(h)
        return t.stack(found, 1)

    return _changed(_recurrent("LSTM"), forward)


def _resized(**said: Any) -> Callable[[Any], Any]:
    """A resize by a function."""
    return lambda torch: of_function(torch, lambda x: torch.nn.functional.interpolate(x, **said))


def _resized_by_hand(x: Any, torch: Any, **said: Any) -> Any:
    """As another framework resizes, of which torch has no function: by the matrices of both axes."""
    from parity.nn.resizing import resize

    def matrix(size: int, wanted: int) -> Any:
        eye = np.eye(size)[..., None]  # (batch, size, channels)
        return torch.tensor(resize(eye, output_size=(wanted,), **said)[..., 0].T, dtype=x.dtype)

    return torch.einsum("ph,nchw,qw->ncpq", matrix(x.shape[2], 2 * x.shape[2]), x, matrix(x.shape[3], 2 * x.shape[3]))


def _by_hand(**said: Any) -> Callable[[Any], Any]:
    return _own(lambda t, x: _resized_by_hand(x, t, **said))


def _with_positions(interleaved: bool, base: float = 10000.0) -> Callable[[Any], Any]:
    """Sines and cosines added before a layer."""

    def make(torch: Any) -> Any:
        angles = torch.arange(STEPS[0])[:, None] / base ** (torch.arange(0, WIDTH, 2) / WIDTH)
        waves = angles.sin(), angles.cos()
        added = torch.stack(waves, -1).flatten(1) if interleaved else torch.cat(waves, -1)
        return _behind(torch, lambda x: x + added.to(x.dtype))

    return make


def _grouped_by_memory(torch: Any, module: Any, x: Any) -> Any:
    """A group norm where channels are last, whose groups are cut by a reshape."""
    last = x.permute(0, 2, 3, 1)
    cut = last.reshape(len(x), 2, -1)
    normal = (_centre(cut, 2) / (cut.var(2, False, keepdim=True) + module.eps).sqrt()).reshape(last.shape)
    return (normal * module.weight + module.bias).permute(0, 3, 1, 2)


def _then_mean(torch: Any, module: Any) -> Any:
    """A layer before a mean of all places, for which the size does not matter."""
    return torch.nn.Sequential(module, torch.nn.AdaptiveAvgPool2d(1))


def _sequence(torch: Any) -> Any:
    return torch.nn.Conv1d(STEPS[0], STEPS[0], 1)


def _with_gates(kind: str, order: Sequence[int]) -> Callable[[Any], Any]:
    return _with_weights(kind, lambda t, name, value: t.cat([value.chunk(len(order))[gate] for gate in order]))


def _with_forget_bias(torch: Any) -> Any:
    def change(t: Any, name: str, value: Any) -> Any:
        return t.cat([value[:5], value[5:10] + 1, value[10:]]) if name == "bias_ih_l0" else value

    return _with_weights("LSTM", change)(torch)


def _without_hidden_bias(torch: Any) -> Any:
    return _with_weights("GRU", lambda t, name, value: value * 0 if name == "bias_hh_l0" else value)(torch)


def _backwards(torch: Any) -> Any:
    layer = _recurrent("LSTM")(torch)
    plain = type(layer).forward
    layer.forward = lambda x: plain(layer, x.flip(1)).flip(1)
    return layer


def _gru_by_hand(torch: Any) -> Any:
    """A GRU that resets the state before the recurrent kernel takes it."""

    def forward(t: Any, m: Any, x: Any) -> Any:
        h, found = x.new_zeros(len(x), 5), []
        for k in range(x.shape[1]):
            given = x[:, k] @ m.weight_ih_l0.T + m.bias_ih_l0
            kept = h @ m.weight_hh_l0.T + m.bias_hh_l0
            r, z = ((given + kept)[:, :10]).sigmoid().chunk(2, 1)
            n = t.tanh(given[:, 10:] + (r * h) @ m.weight_hh_l0[10:].T + m.bias_hh_l0[10:])
            h = (1 - z) * n + z * h
            found.append(h)
        return t.stack(found, 1)

    return _changed(_recurrent("GRU"), forward)(torch)


def _attention(
    torch: Any,
    causal: bool = True,
    scale: float | None = None,
    offset: int = 0,
    inverted: bool = False,
    axis: int = -1,
    cut: bool = True,
    joined: bool = True,
    rotary: str = "",
    base: float = 10000.0,
    groups: int = 3,
    tiled: bool = False,
    turns: str = "query key",
    sign: float = 1.0,
    mixed: bool = False,
    order: Sequence[int] = (0, 1, 2),
    by_heads: bool = False,
    window: int = 0,
    slope: float = 0.0,
    over_batch: bool = False,
) -> Any:
    """Attention as people write it, between a projection and another."""
    heads = 3 if groups == 3 else 6
    sizes = [WIDTH, *2 * [WIDTH * groups // heads]]

    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = torch.nn.Linear(WIDTH, sum(sizes)), torch.nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            batch, steps, _ = x.shape
            whole = self.qkv(x)
            parts = whole.split(sizes, -1)
            if by_heads:
                parts = [one.flatten(2) for one in whole.reshape(batch, steps, heads, 3, -1).unbind(3)]
            query, key, value = (parts[place] for place in order)
            if cut:
                query, key, value = (
                    one.reshape(batch, steps, -1, WIDTH // heads).transpose(1, 2) for one in (query, key, value)
                )
            else:
                query, key, value = (one.reshape(batch, heads, steps, -1) for one in (query, key, value))
            if rotary == "part":
                query, key = (torch.cat([turned(one[..., :2]), one[..., 2:]], -1) for one in (query, key))
            elif rotary:
                query = turned(query) if "query" in turns else query
                key = turned(key) if "key" in turns else key
                value = turned(value) if "value" in turns else value
            times = query.shape[1] // key.shape[1]
            key, value = (
                one.repeat(1, times, 1, 1) if tiled else one.repeat_interleave(times, 1) for one in (key, value)
            )
            if over_batch:
                query, key, value = (one.transpose(0, 2) for one in (query, key, value))
            scores = query @ key.transpose(2, 3) * (scale or query.shape[-1] ** -0.5)
            if slope:
                scores = scores - slope * torch.arange(steps).to(x.dtype).flip(0)
            if causal:
                seen = torch.tril(torch.ones(steps, steps, dtype=torch.bool), offset)
                seen = seen & ~torch.tril(seen, -window) if window else seen
                hidden = torch.tensor(torch.finfo(scores.dtype).min)
                scores = torch.where(seen != inverted, scores, hidden)
            found = torch.softmax(scores, axis) @ value
            found = found.transpose(0, 2) if over_batch else found
            return self.out((found.transpose(1, 2) if joined else found).reshape(x.shape))

    def turned(x: Any) -> Any:
        half = x.shape[-1] // 2
        angles = sign * torch.arange(x.shape[2])[:, None] / base ** (torch.arange(half) / half)
        if mixed:
            angles = angles.repeat_interleave(2, 1)
            return x * angles.cos() + torch.cat((-x[..., half:], x[..., :half]), -1) * angles.sin()
        cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        first, second = (x[..., ::2], x[..., 1::2]) if rotary == "interleaved" else x.chunk(2, -1)
        both = first * cosine - second * sine, first * sine + second * cosine
        return torch.stack(both, -1).flatten(-2) if rotary == "interleaved" else torch.cat(both, -1)

    return Attention()


ATTENTION: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "attention-not-scaled": ({}, {"scale": 1.0}),
    "attention-scaled-by-the-whole-width": ({}, {"scale": WIDTH**-0.5}),
    "attention-scaled-without-the-root": ({}, {"scale": 1 / 4}),
    "causal-mask-missing": ({}, {"causal": False}),
    "causal-mask-off-by-one": ({}, {"offset": 1}),
    "causal-mask-inverted": ({}, {"inverted": True}),
    "attention-softmax-over-queries": ({}, {"axis": -2}),
    "attention-over-the-batch": ({"causal": False}, {"over_batch": True}),
    "heads-cut-without-a-transpose": ({"causal": False}, {"cut": False, "joined": False}),
    "heads-joined-without-a-transpose": ({}, {"joined": False}),
    "rotary-interleaved-for-halves": ({"rotary": "halves"}, {"rotary": "interleaved"}),
    "rotary-halves-for-interleaved": ({"rotary": "interleaved"}, {"rotary": "halves"}),
    "another-rotary-base": ({"rotary": "halves"}, {"base": 500000.0}),
    "query-key-and-value-in-another-order": ({}, {"order": (1, 0, 2)}),
    "projection-cut-by-heads-first": ({}, {"by_heads": True}),
    "causal-mask-added": ({"causal": False}, {"causal": True}),
    "attention-within-a-window": ({}, {"window": 3}),
    "rotary-positions-missing": ({"rotary": "interleaved"}, {"rotary": ""}),
    "rotary-positions-on-one-side": ({"rotary": "halves", "groups": 2}, {"turns": "query"}),
    "rotary-positions-on-values": ({"rotary": "halves"}, {"turns": "query key value"}),
    "rotary-positions-backwards": ({"rotary": "halves", "causal": False}, {"sign": -1.0}),
    "rotary-frequencies-of-other-pairs": ({"rotary": "halves"}, {"mixed": True}),
    "groups-of-heads-tiled": ({"groups": 2}, {"tiled": True}),
}
"""How attention is written that is right, and what the mistake makes of it."""


def _gated(torch: Any, activation: str = "silu", gate: int = 0) -> Any:
    """A gated feed-forward network as people write it."""

    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.gate = torch.nn.Linear(WIDTH, 8), torch.nn.Linear(WIDTH, 8)
            self.down = torch.nn.Linear(8, WIDTH)

        def forward(self, x: Any) -> Any:
            halves = self.gate(x), self.up(x)
            return self.down(getattr(torch.nn.functional, activation)(halves[gate]) * halves[1 - gate])

    return Gated()


PLANTS: dict[str, Plant] = {
    "gelu-by-tanh": Plant(ROWS, _norm("GELU"), _norm("GELU", approximate="tanh")),
    "gelu-exact": Plant(ROWS, _norm("GELU", approximate="tanh"), _norm("GELU")),
    "gelu-by-sigmoid": Plant(ROWS, _norm("GELU"), _own(lambda t, x: x * t.sigmoid(1.702 * x))),
    "gelu-for-gelu-by-sigmoid": Plant(ROWS, _own(lambda t, x: x * t.sigmoid(1.702 * x)), _act("gelu")),
    "silu-for-gelu": Plant(ROWS, _norm("GELU"), _norm("SiLU")),
    "gelu-for-silu": Plant(ROWS, _norm("SiLU"), _act("gelu")),
    "relu-for-gelu": Plant(ROWS, _norm("GELU"), _norm("ReLU")),
    "another-negative-slope": Plant(ROWS, _norm("LeakyReLU", 0.2), _norm("LeakyReLU")),
    "leaky-relu-for-relu": Plant(ROWS, _norm("ReLU"), _act("leaky_relu", negative_slope=0.1)),
    "relu-for-leaky-relu": Plant(ROWS, _norm("LeakyReLU", 0.2), _act("relu")),
    "relu6-for-relu": Plant(ROWS, _norm("ReLU"), _norm("ReLU6"), _large),
    "relu-for-relu6": Plant(ROWS, _norm("ReLU6"), _norm("ReLU"), _large),
    "another-elu-alpha": Plant(ROWS, _norm("ELU"), _norm("ELU", 0.5)),
    "old-hard-sigmoid": Plant(ROWS, _norm("Hardsigmoid"), _own(lambda t, x: (0.2 * x + 0.5).clamp(0, 1))),
    "hard-sigmoid-for-sigmoid": Plant(ROWS, _norm("Sigmoid"), _norm("Hardsigmoid")),
    "tanh-in-place-of-sigmoid": Plant(ROWS, _norm("Sigmoid"), _norm("Tanh")),
    "tanh-for-relu": Plant(ROWS, _norm("ReLU"), _norm("Tanh")),
    "silu-for-hard-silu": Plant(ROWS, _norm("Hardswish"), _norm("SiLU")),
    "another-softplus-beta": Plant(ROWS, _norm("Softplus"), _norm("Softplus", 2.0)),
    "softmax-over-another-axis": Plant(STEPS, _norm("Softmax", -1), _norm("Softmax", 1)),
    "log-softmax-for-softmax": Plant(ROWS, _norm("Softmax", -1), _norm("LogSoftmax", -1)),
    "softmax-for-log-softmax": Plant(ROWS, _norm("LogSoftmax", -1), _norm("Softmax", -1)),
    "another-temperature": Plant(ROWS, _norm("Softmax", -1), _own(lambda t, x: t.softmax(x / 2.5, -1))),
    "activation-missing": Plant(ROWS, _norm("GELU"), _norm("Identity")),
    "another-norm-epsilon": Plant(ROWS, _norm("LayerNorm", WIDTH), _norm("LayerNorm", WIDTH, eps=1e-3), _small),
    "norm-epsilon-outside-the-root": Plant(
        ROWS,
        _norm("LayerNorm", WIDTH, eps=1e-3),
        _of_norm("LayerNorm", lambda t, m, x: _centre(x, -1) / (_std(t, x, -1, False) + m.eps), WIDTH, eps=1e-3),
        _small,
    ),
    "norm-variance-unbiased": Plant(
        ROWS,
        _norm("LayerNorm", WIDTH),
        _of_norm("LayerNorm", lambda t, m, x: _centre(x, -1) / (x.var(-1, keepdim=True) + m.eps).sqrt(), WIDTH),
        _small,
    ),
    "norm-deviation-unbiased-plus-epsilon": Plant(
        ROWS,
        _norm("LayerNorm", WIDTH, eps=1e-3),
        _of_norm("LayerNorm", lambda t, m, x: _centre(x, -1) / (_std(t, x, -1, True) + m.eps), WIDTH, eps=1e-3),
        _small,
    ),
    "norm-over-all-axes": Plant(
        STEPS,
        _norm("LayerNorm", WIDTH),
        _of_norm(
            "LayerNorm", lambda t, m, x: _centre(x, (1, 2)) / (x.var((1, 2), False, keepdim=True) + m.eps).sqrt(), WIDTH
        ),
        _linear,
    ),
    "norm-over-the-last-axis": Plant(
        STEPS,
        _norm("LayerNorm", STEPS),
        _of_norm("LayerNorm", lambda t, m, x: _centre(x, -1) / (x.var(-1, False, keepdim=True) + m.eps).sqrt(), STEPS),
        _linear,
    ),
    "layer-norm-over-the-batch": Plant(
        STEPS,
        _norm("LayerNorm", WIDTH),
        _of_norm("LayerNorm", lambda t, m, x: _centre(x, 1) / (x.var(1, False, keepdim=True) + m.eps).sqrt(), WIDTH),
        _linear,
    ),
    "batch-norm-over-channels": Plant(
        IMAGE,
        _norm("BatchNorm2d", 6),
        _of_norm("BatchNorm2d", lambda t, m, x: _centre(x, 1) / (x.var(1, False, keepdim=True) + m.eps).sqrt(), 6),
    ),
    "instance-norm-for-batch-norm": Plant(IMAGE, _norm("BatchNorm2d", 6), _norm("InstanceNorm2d", 6, affine=True)),
    "running-statistics-in-training": Plant(IMAGE, _norm("BatchNorm2d", 6), _evaluated(_norm("BatchNorm2d", 6))),
    "batch-statistics-in-evaluation": Plant(IMAGE, _evaluated(_norm("BatchNorm2d", 6)), _norm("BatchNorm2d", 6)),
    "norm-scale-plus-one": Plant(
        ROWS,
        _norm("RMSNorm", WIDTH, eps=1e-6),
        _of_norm(
            "RMSNorm",
            lambda t, m, x: x / (x.square().mean(-1, keepdim=True) + m.eps).sqrt() * (1 + m.weight) / m.weight,
            WIDTH,
            eps=1e-6,
        ),
        _linear,
    ),
    "norm-scale-missing": Plant(
        IMAGE,
        _norm("GroupNorm", 2, 6),
        lambda t: _part(t, t.nn.GroupNorm(2, 6), lambda m, x: t.nn.functional.group_norm(x, 2) + m.bias[:, None, None]),
    ),
    "norm-bias-missing": Plant(
        IMAGE,
        _norm("GroupNorm", 2, 6),
        lambda t: _part(t, t.nn.GroupNorm(2, 6), lambda m, x: t.nn.functional.group_norm(x, 2, m.weight)),
    ),
    "norm-mean-not-taken-off": Plant(
        ROWS,
        _norm("LayerNorm", WIDTH),
        _of_norm("LayerNorm", lambda t, m, x: x / (x.square().mean(-1, keepdim=True) + m.eps).sqrt(), WIDTH),
        _linear,
    ),
    "norm-mean-taken-off": Plant(
        ROWS,
        _norm("RMSNorm", WIDTH, eps=1e-6),
        _of_norm(
            "RMSNorm", lambda t, m, x: _centre(x, -1) / (x.var(-1, False, keepdim=True) + m.eps).sqrt(), WIDTH, eps=1e-6
        ),
        _linear,
    ),
    "another-number-of-groups": Plant(IMAGE, _norm("GroupNorm", 2, 6), _norm("GroupNorm", 3, 6)),
    "normalization-missing": Plant(IMAGE, _norm("BatchNorm2d", 6), _norm("Identity")),
}
"""For each mistake a layer, and the same as somebody writes who makes it."""


def _part(torch: Any, module: Any, forward: Callable[[Any, Any], Any]) -> Any:
    """A module that calls its own parameters otherwise."""
    module.forward = lambda x: forward(module, x)
    return module


PLANTS |= {
    "square-kernel-transposed": Plant(ROWS, _linear, _changed(_linear, lambda t, m, x: x @ m.weight + m.bias)),
    "layer-bias-missing": Plant(ROWS, _linear, _changed(_linear, lambda t, m, x: x @ m.weight.T)),
    "flattened-in-another-order": Plant(
        IMAGE,
        lambda t: t.nn.Sequential(t.nn.Flatten(), t.nn.Linear(96, 7)),
        lambda t: t.nn.Sequential(_last_flattened(t), t.nn.Linear(96, 7)),
        lambda t: t.nn.Conv2d(IMAGE[0], IMAGE[0], 3, stride=2),
    ),
    "same-for-symmetric-padding": Plant(
        EVEN,
        _norm("Conv2d", 6, 4, 3, stride=2, padding=1),
        _changed(
            _norm("Conv2d", 6, 4, 3, stride=2, padding=1),
            lambda t, m, x: t.nn.functional.conv2d(t.nn.functional.pad(x, (0, 1, 0, 1)), m.weight, m.bias, 2),
        ),
    ),
    "padding-of-other-values": Plant(
        IMAGE,
        _norm("Conv2d", 6, 4, 3, padding=1),
        _norm("Conv2d", 6, 4, 3, padding=1, padding_mode="reflect"),
    ),
    "kernel-flipped": Plant(
        IMAGE, _norm("Conv2d", 6, 4, 3), _with_kernel(_norm("Conv2d", 6, 4, 3), lambda w: w.flip(2, 3))
    ),
    "kernel-height-and-width-swapped": Plant(
        IMAGE, _norm("Conv2d", 6, 4, 3), _with_kernel(_norm("Conv2d", 6, 4, 3), lambda w: w.transpose(2, 3))
    ),
    "kernel-channels-swapped": Plant(
        IMAGE, _norm("Conv2d", 6, 6, 3), _with_kernel(_norm("Conv2d", 6, 6, 3), lambda w: w.transpose(0, 1))
    ),
    "another-dilation": Plant(
        IMAGE, _norm("Conv2d", 6, 4, 3, padding=2, dilation=2), _norm("Conv2d", 6, 4, 3, padding=1)
    ),
    "groups-of-strided-channels": Plant(
        IMAGE,
        _norm("Conv2d", 6, 4, 3, groups=2),
        _changed(
            _norm("Conv2d", 6, 4, 3, groups=2),
            lambda t, m, x: t.nn.functional.conv2d(x[:, [0, 2, 4, 1, 3, 5]], m.weight, m.bias, groups=2),
        ),
    ),
    "transposed-convolution-shifted": Plant(
        IMAGE,
        _norm("ConvTranspose2d", 6, 4, 3, stride=2, padding=1, output_padding=1),
        _changed(
            _norm("ConvTranspose2d", 6, 4, 3, stride=2, padding=1, output_padding=1),
            lambda t, m, x: t.nn.functional.conv_transpose2d(x, m.weight, m.bias, 2)[:, :, :-1, :-1],
        ),
    ),
    "padding-counted-in-the-mean": Plant(
        IMAGE, _norm("AvgPool2d", 3, 2, padding=1, count_include_pad=False), _norm("AvgPool2d", 3, 2, padding=1)
    ),
    "padding-not-counted-in-the-mean": Plant(
        IMAGE, _norm("AvgPool2d", 3, 2, padding=1), _norm("AvgPool2d", 3, 2, padding=1, count_include_pad=False)
    ),
    "max-for-average-pooling": Plant(IMAGE, _norm("AvgPool2d", 2), _norm("MaxPool2d", 2)),
    "max-pooling-padded-with-zeros": Plant(
        IMAGE,
        _norm("MaxPool2d", 3, 2, padding=1),
        _own(lambda t, x: t.nn.functional.max_pool2d(t.nn.functional.pad(x, (1, 1, 1, 1)), 3, 2)),
        _below_zero,
    ),
    "max-for-global-average-pooling": Plant(
        IMAGE, _norm("AdaptiveAvgPool2d", 1), _own(lambda t, x: x.amax((2, 3), keepdim=True))
    ),
    "embedding-times-a-factor": Plant(WORDS, _table, _changed(_table, lambda t, m, x: m.weight[x] * WIDTH**0.5)),
    "values-times-a-factor": Plant(
        ROWS, lambda t: _behind(t, lambda x: x), lambda t: _behind(t, lambda x: x * WIDTH**0.5)
    ),
    "embedding-rows-shifted": Plant(WORDS, _table, _changed(_table, lambda t, m, x: m.weight[(x + 1) % 9])),
    "padding-row-zeroed": Plant(
        WORDS, _table, _changed(_table, lambda t, m, x: m.weight[x] * (x != 0)[..., None].to(m.weight.dtype))
    ),
    "dropout-left-on": Plant(ROWS, _norm("Identity"), _norm("Dropout", 0.3)),
    "dropout-not-rescaled": Plant(ROWS, _norm("Identity"), _own(lambda t, x: x * (t.rand(x.shape) > 0.3).to(x.dtype))),
    "keep-probability-for-dropout-rate": Plant(ROWS, _norm("Dropout", 0.2), _norm("Dropout", 0.8)),
    "gates-in-another-order": Plant(STEPS, _recurrent("LSTM"), _with_gates("LSTM", (0, 2, 1, 3))),
    "reset-on-the-other-side-of-the-product": Plant(STEPS, _recurrent("GRU"), _gru_by_hand),
    "forget-bias-of-one": Plant(STEPS, _recurrent("LSTM"), _with_forget_bias),
    "one-of-two-biases-missing": Plant(STEPS, _recurrent("GRU"), _without_hidden_bias),
    "sequence-reversed": Plant(STEPS, _recurrent("LSTM"), _backwards),
    "corners-aligned-in-a-resize": Plant(
        IMAGE,
        _norm("Upsample", scale_factor=2, mode="bilinear"),
        _resized(scale_factor=2, mode="bilinear", align_corners=True),
    ),
    "corners-not-aligned-in-a-resize": Plant(
        IMAGE,
        _norm("Upsample", scale_factor=2, mode="bilinear", align_corners=True),
        _resized(scale_factor=2, mode="bilinear"),
    ),
    "half-pixels-left-out-of-a-resize": Plant(
        IMAGE, _norm("Upsample", scale_factor=2, mode="bilinear"), _by_hand(method="linear", places="corner")
    ),
    "nearest-for-bilinear": Plant(
        IMAGE, _norm("Upsample", scale_factor=2, mode="bilinear"), _norm("Upsample", scale_factor=2, mode="nearest")
    ),
    "another-antialiasing": Plant(
        IMAGE, _norm("Upsample", size=(4, 5), mode="bilinear"), _resized(size=(4, 5), mode="bilinear", antialias=True)
    ),
    "another-cubic": Plant(IMAGE, _norm("Upsample", scale_factor=2, mode="bicubic"), _by_hand(method="cubic")),
    "sines-before-cosines": Plant(STEPS, _with_positions(True), _with_positions(False)),
    "sines-and-cosines-in-turn": Plant(STEPS, _with_positions(False), _with_positions(True)),
    "sigmoid-for-softmax": Plant(ROWS, _norm("Softmax", -1), _norm("Sigmoid")),
    "softmax-for-sigmoid": Plant(ROWS, _norm("Sigmoid"), _norm("Softmax", -1)),
    "gate-and-value-swapped": Plant(
        ROWS, _norm("GLU"), _own(lambda t, x: x.chunk(2, -1)[0].sigmoid() * x.chunk(2, -1)[1])
    ),
    "groups-cut-without-a-transpose": Plant(
        EVEN, _norm("GroupNorm", 2, 6), _changed(_norm("GroupNorm", 2, 6), _grouped_by_memory)
    ),
    "norm-multiplied-by-the-root": Plant(
        ROWS,
        _norm("RMSNorm", WIDTH, eps=1e-6),
        _of_norm("RMSNorm", lambda t, m, x: x * (x.square().mean(-1, keepdim=True) + m.eps).sqrt(), WIDTH, eps=1e-6),
        _linear,
    ),
    "norm-by-the-length": Plant(
        ROWS,
        _norm("RMSNorm", WIDTH, eps=1e-6),
        _of_norm("RMSNorm", lambda t, m, x: t.nn.functional.normalize(x, dim=-1), WIDTH, eps=1e-6),
        _linear,
    ),
    "response-norm-alpha-not-divided": Plant(
        IMAGE, _norm("LocalResponseNorm", 5, 0.1), _norm("LocalResponseNorm", 5, 0.5)
    ),
    "layer-bias-repeated": Plant(ROWS, _linear, _changed(_linear, lambda t, m, x: x @ m.weight.T + 4 * m.bias)),
    "product-times-a-factor": Plant(
        ROWS, _linear, _changed(_linear, lambda t, m, x: x @ m.weight.T * WIDTH**-0.5 + m.bias)
    ),
    "outputs-of-groups-in-turn": Plant(
        IMAGE,
        _norm("Conv2d", 6, 6, 3, groups=2),
        _changed(
            _norm("Conv2d", 6, 6, 3, groups=2),
            lambda t, m, x: t.nn.functional.conv2d(x, m.weight, m.bias, groups=2)[:, [0, 3, 1, 4, 2, 5]],
        ),
    ),
    "channels-reversed": Plant(
        IMAGE,
        _norm("Conv2d", 6, 4, 3),
        _changed(_norm("Conv2d", 6, 4, 3), lambda t, m, x: t.nn.functional.conv2d(x.flip(1), m.weight, m.bias)),
    ),
    "causal-for-same-padding": Plant(
        STEPS,
        _norm("Conv1d", 5, 4, 3, padding=1),
        _changed(
            _norm("Conv1d", 5, 4, 3, padding=1),
            lambda t, m, x: t.nn.functional.conv1d(t.nn.functional.pad(x, (2, 0)), m.weight, m.bias),
        ),
        _sequence,
    ),
    "same-for-causal-padding": Plant(
        STEPS,
        lambda t: t.nn.Sequential(t.nn.ZeroPad1d((2, 0)), t.nn.Conv1d(5, 4, 3)),
        lambda t: t.nn.Sequential(t.nn.ZeroPad1d((1, 1)), t.nn.Conv1d(5, 4, 3)),
        _sequence,
    ),
    "average-for-max-pooling": Plant(IMAGE, _norm("MaxPool2d", 2), _norm("AvgPool2d", 2)),
    "another-ceil-mode": Plant(
        EVEN,
        lambda t: _then_mean(t, t.nn.MaxPool2d(3, 2, ceil_mode=True)),
        lambda t: _then_mean(t, t.nn.MaxPool2d(3, 2)),
    ),
    "dropout-left-off": Plant(ROWS, _norm("Dropout", 0.3), _norm("Identity")),
    "batch-taken-for-steps": Plant(STEPS, _recurrent("GRU"), _batch_second),
    "cell-for-hidden-state": Plant(STEPS, partial(_last_step, state=0), partial(_last_step, state=1)),
    "hard-sigmoid-in-the-gates": Plant(STEPS, _recurrent("LSTM"), _hard_gates(0.2)),
    "other-half-is-the-gate": Plant(ROWS, _gated, partial(_gated, gate=1)),
    "another-activation-in-a-gate": Plant(ROWS, _gated, partial(_gated, activation="gelu")),
} | {
    name: Plant(STEPS, partial(_attention, **right), partial(_attention, **right | wrong))
    for name, (right, wrong) in ATTENTION.items()
}

OTHERS: dict[str, Plant] = {
    "unexplained": Plant(ROWS, _norm("GELU"), _own(lambda t, x: x * t.sigmoid(1.6 * x))),
    "resized-by-area": Plant(
        IMAGE, _norm("Upsample", size=(4, 5), mode="bilinear"), _resized(size=(4, 5), mode="area")
    ),
    "pooled-by-a-power": Plant(IMAGE, _norm("MaxPool2d", 2), _norm("LPPool2d", 3, 2)),
    "attention-with-a-bias": Plant(STEPS, _attention, partial(_attention, slope=0.3)),
    "rotary-of-a-part": Plant(STEPS, partial(_attention, rotary="halves"), partial(_attention, rotary="part")),
    "positions-of-another-base": Plant(STEPS, _with_positions(True), _with_positions(True, base=1000.0)),
    "bias-in-another-order": Plant(ROWS, _linear, _changed(_linear, lambda t, m, x: x @ m.weight.T + m.bias.flip(0))),
    "kernel-of-unit-length": Plant(
        ROWS, _linear, _changed(_linear, lambda t, m, x: x @ t.nn.functional.normalize(m.weight, dim=1).T + m.bias)
    ),
    "channels-in-a-circle": Plant(
        IMAGE,
        _norm("Conv2d", 6, 4, 3),
        _changed(_norm("Conv2d", 6, 4, 3), lambda t, m, x: t.nn.functional.conv2d(x.roll(1, 1), m.weight, m.bias)),
    ),
    "norm-of-another-power": Plant(
        ROWS,
        _norm("RMSNorm", WIDTH, eps=1e-6),
        _of_norm("RMSNorm", lambda t, m, x: x / x.abs().mean(-1, keepdim=True), WIDTH, eps=1e-6),
        _linear,
    ),
    "gates-of-another-steepness": Plant(STEPS, _recurrent("LSTM"), _hard_gates(0.25)),
}
"""Layers that differ by no mistake of the catalogue, each near to one that is in it."""


def recorded(mistake: str, wrong: bool, dtype: str, folder: str) -> str:
    """Called where torch is: train the model of a plant, and give the folder of its run."""
    where = Path(folder, "run")
    trained({**PLANTS, **OTHERS}[mistake], wrong, where, dtype)
    return str(where)


def recorded_in_keras(wrong: bool, dtype: str, folder: str) -> str:
    """Called where Keras is: a convolution at a stride with SAME, or with one zero on each side before it."""
    import keras
    from keras import layers

    from parity.watching import watch

    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    try:
        keras.utils.set_random_seed(0)
        image = x = keras.Input((8, 8, 3), dtype=dtype)
        x = layers.Conv2D(6, 3, padding="same", name="first")(x)
        if wrong:
            x = layers.ZeroPadding2D(1, name="border")(x)
        x = layers.Conv2D(4, 3, strides=2, padding="valid" if wrong else "same", name="layer")(x)
        model = keras.Model(image, layers.Dense(3, name="last")(layers.Flatten(name="flat")(x)))
        model.compile(keras.optimizers.SGD(0.01), "mse")
        draw = np.random.default_rng(0)
        where = Path(folder, "run")
        with watch(where, model, deep=1, shadows=2) as run:
            for _ in range(UPDATES):
                x, y = draw.normal(size=(4, 8, 8, 3)), draw.normal(size=(4, 3))
                run.step(model.train_on_batch, x.astype(dtype), y.astype(dtype))
    finally:
        keras.config.set_floatx(before)
    return str(where)
