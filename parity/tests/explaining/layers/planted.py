"""Layers of torch as users write them, right and with a mistake, each in a small model that is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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
        given = torch.randn(8, *plant.shape) * 1.5
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


OTHERS: dict[str, Plant] = {
    "unexplained": Plant(ROWS, _norm("GELU"), _own(lambda t, x: x * t.sigmoid(1.6 * x))),
}
"""Layers that differ by no mistake of the catalogue."""


def recorded(mistake: str, wrong: bool, dtype: str, folder: str) -> str:
    """Called where torch is: train the model of a plant, and give the folder of its run."""
    where = Path(folder, "run")
    trained({**PLANTS, **OTHERS}[mistake], wrong, where, dtype)
    return str(where)
