"""Models of torch that compute functions between their layers, right and with a mistake, each watched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEPS, WIDTH, WORDS, SIDE = 7, 6, 11, 5
UPDATES = 3


@dataclass(frozen=True)
class Between:
    """A function between layers, right and wrong.

    Attributes:
        right: ``(torch, layers, x)`` to what the last layer takes; ``layers`` are three of one width.
        wrong: The same with the mistake.
        said: What must be said of the first run, which is wrong, and of the second.
        names: The mistake that is named in the first run, and what is named of the pair the other way round, if it is
            the first run's there too.
        given: What the model is given: ``steps``, ``words`` or ``images``.
    """

    right: Callable[[Any, Any, Any], Any]
    wrong: Callable[[Any, Any, Any], Any]
    said: tuple[str, str]
    names: tuple[str, ...] = ()
    given: str = "steps"


def _stream(t: Any, f: Any, x: Any) -> tuple[Any, Any]:
    """What a residual connection adds: a stream and a branch."""
    stream = f[0](x)
    return stream, f[1](stream)


def _residual(join: Callable[[Any, Any, Any], Any]) -> Callable[[Any, Any, Any], Any]:
    return lambda t, f, x: join(t, *_stream(t, f, x))


def _last_valid(t: Any, f: Any, x: Any) -> Any:
    states = f[0](x)
    lengths = t.tensor([3, 7, 5, 2, 7, 4, 6, 1])
    return states[t.arange(len(states)), lengths - 1]


def _positions(
    interleaved: bool = True, start: int = 0, times: float = 1.0, base: float = 10000.0, scaled: float = 1.0
) -> Callable[[Any, Any, Any], Any]:
    def function(t: Any, f: Any, x: Any) -> Any:
        angles = (np.arange(STEPS) + start)[:, None] / base ** (np.arange(0, WIDTH, 2) / WIDTH)
        parts = np.sin(angles), np.cos(angles)
        table = np.stack(parts, -1).reshape(STEPS, WIDTH) if interleaved else np.concatenate(parts, -1)
        x = f[0](x)
        return scaled * x + times * t.tensor(table).to(x.dtype)

    return function


def _learned(start: int) -> Callable[[Any, Any, Any], Any]:
    return lambda t, f, x: f[0](x) + f.table[start : start + STEPS]


def _resized(**settings: Any) -> Callable[[Any, Any, Any], Any]:
    settings = {"mode": "bilinear", "size": (9, 9)} | settings
    return lambda t, f, x: t.nn.functional.interpolate(f[0](x), **settings)


BETWEEN: dict[str, Between] = {
    "residual missing": Between(
        _residual(lambda t, x, y: x + y),
        _residual(lambda t, x, y: y),
        ("layers.1", "layers.0 + layers.1"),
        names=("residual-missing",),
    ),
    "residual scaled": Between(
        _residual(lambda t, x, y: x + y),
        _residual(lambda t, x, y: x + 0.5 * y),
        ("layers.0 + 0.5 layers.1", "layers.0 + layers.1"),
        names=("residual-times-a-factor",),
    ),
    "residual before the activation": Between(
        _residual(lambda t, x, y: x + t.relu(y)),
        _residual(lambda t, x, y: t.relu(x + y)),
        ("relu(layers.0 + layers.1)", "layers.0 + relu(layers.1)"),
        names=("activation-after-the-residual", "activation-before-the-residual"),
    ),
    "concatenated the other way": Between(
        _residual(lambda t, x, y: t.cat((x, y), -1)),
        _residual(lambda t, x, y: t.cat((y, x), -1)),
        ("layers.1 before layers.0", "layers.0 before layers.1"),
        names=("concatenated-in-another-order", "concatenated-in-another-order"),
    ),
    "last for last valid": Between(
        _last_valid,
        lambda t, f, x: f[0](x)[:, -1],
        ("the last place", "another place of each example"),
        names=("last-for-last-valid-place",),
    ),
    "mean for first": Between(
        lambda t, f, x: f[0](x)[:, 0],
        lambda t, f, x: f[0](x).mean(1),
        ("the mean over places", "the first place"),
        names=("mean-for-one-place", "one-place-for-the-mean"),
    ),
    "positions in halves": Between(
        _positions(),
        _positions(False),
        ("sines before cosines", "sines and cosines in turn"),
        names=("sines-before-cosines", "sines-and-cosines-in-turn"),
    ),
    "positions of another base": Between(
        _positions(),
        _positions(base=100.0),
        ("base 100", "base 10000"),
    ),
    "positions begin with 1": Between(
        _positions(), _positions(start=1), ("from place 1", "from place 0"), names=("positions-begin-elsewhere",)
    ),
    "positions twice": Between(_positions(), _positions(times=2.0), ("2 times", "sines and cosines in turn")),
    "positions missing": Between(_positions(), _positions(times=0.0), ("layers.0", "sines and cosines in turn")),
    "embedding scaled": Between(
        _positions(scaled=math.sqrt(WIDTH)), _positions(), ("layers.0 +", "2.44949 layers.0 +"), given="words"
    ),
    "learned positions one on": Between(
        _learned(0), _learned(1), ("rows 1 to 7 of layers.table", "rows 0 to 6 of layers.table")
    ),
    "corners": Between(
        _resized(),
        _resized(align_corners=True),
        ("corners aligned", "half-pixel"),
        given="images",
        names=("corners-aligned-in-a-resize", "corners-not-aligned-in-a-resize"),
    ),
    "nearest": Between(
        _resized(), _resized(mode="nearest"), ("nearest", "bilinear"), given="images", names=("nearest-for-bilinear",)
    ),
    "antialias": Between(
        _resized(size=(3, 3)),
        _resized(size=(3, 3), antialias=True),
        ("with antialiasing", "bilinear, half-pixel"),
        given="images",
        names=("another-antialiasing", "another-antialiasing"),
    ),
}
"""What is planted: each named where a name is given, and said in words in any case."""


def _valid_mean(t: Any, f: Any, x: Any) -> Any:
    states, lengths = f[0](x), t.tensor([3, 7, 5, 2, 7, 4, 6, 1])
    seen = (t.arange(STEPS) < lengths[:, None])[..., None].to(states.dtype)
    return (states * seen).sum(1) / seen.sum(1)


def _frequencies(t: Any, f: Any, x: Any) -> Any:
    """Positions whose waves are no powers of one base."""
    angles = np.arange(STEPS)[:, None] / np.array([1.0, 7.0, 19.0])
    return f[0](x) + t.tensor(np.concatenate((np.sin(angles), np.cos(angles)), -1)).to(x.dtype)


OTHERS: dict[str, Between] = {
    "mean of valid places": Between(lambda t, f, x: f[0](x).mean(1), _valid_mean, ("", "")),
    "median for mean": Between(lambda t, f, x: f[0](x).mean(1), lambda t, f, x: f[0](x).median(1)[0], ("", "")),
    "resized by area": Between(_resized(size=(3, 3)), _resized(size=(3, 3), mode="area"), ("", ""), given="images"),
    "a product for a sum": Between(_residual(lambda t, x, y: x + y), _residual(lambda t, x, y: x * y), ("", "")),
    "another gate": Between(
        _residual(lambda t, x, y: x + t.relu(y)), _residual(lambda t, x, y: x + y * t.sigmoid(1.6 * y)), ("", "")
    ),
    "normalized sum": Between(
        _residual(lambda t, x, y: x + y),
        _residual(lambda t, x, y: (x + y) / (x + y).norm(dim=-1, keepdim=True)),
        ("", ""),
    ),
}
"""Functions that are near to those that are known: nothing is named, and nothing is said that was not computed."""


def trained(name: str, wrong: bool, folder: Path, dtype: str) -> None:
    """Train a model with one of these functions for a few updates and record it."""
    import torch

    from parity.watching import watch

    plant = {**BETWEEN, **OTHERS}[name]

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            images, words = plant.given == "images", plant.given == "words"
            first = torch.nn.Conv2d(2, 3, 3, padding=1) if images else torch.nn.Linear(WIDTH, WIDTH)
            first = torch.nn.Embedding(WORDS, WIDTH) if words else first
            self.layers = torch.nn.ModuleList([first, torch.nn.Linear(WIDTH, WIDTH)])
            if name.startswith("learned"):
                self.layers.table = torch.nn.Parameter(torch.randn(STEPS + 2, WIDTH))
            width = 3 if images else 2 * WIDTH if name.startswith("concat") else WIDTH
            self.last = torch.nn.Linear(width, 3)

        def forward(self, x: Any) -> Any:
            given = (plant.wrong if wrong else plant.right)(torch, self.layers, x)
            return self.last(given.movedim(1, -1) if plant.given == "images" else given)

    torch.manual_seed(0)
    model = Model().to(getattr(torch, dtype))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(folder, model, optimizer, deep=2, shadows=2) as run:
        for k in range(UPDATES):
            torch.manual_seed(10 + k)
            shape = (8, 2, SIDE, SIDE) if plant.given == "images" else (8, STEPS, WIDTH)
            x = torch.randn(shape).to(getattr(torch, dtype))
            x = torch.randint(0, WORDS, (8, STEPS)) if plant.given == "words" else x
            run.step(lambda x=x: model(x).square().mean())


def recorded(name: str, wrong: bool, dtype: str, folder: str) -> str:
    """Called where torch is: train a model, and give the folder of its run."""
    where = Path(folder, "run")
    trained(name, wrong, where, dtype)
    return str(where)
