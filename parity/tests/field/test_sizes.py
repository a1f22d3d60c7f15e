"""Sizes of mistakes in loops of frameworks, watched: which number differs, and what it is in both runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from parity import watch
from parity.explaining.losses.crossentropy import entropy_of
from parity.explaining.pairs import largest_parting
from parity.explaining.recordings import explain_steps
from parity.recording.reader import read
from parity.recording.steps import Phase, steps_of
from parity.tests.field.port import explained

F = torch.nn.functional
CLASSES, ROWS, DTYPES = 12, 16, (torch.float64, torch.float32)
IGNORED = -100


def sgd(**numbers: Any) -> Any:
    return lambda parameters: torch.optim.SGD(parameters, **({"lr": 0.1} | numbers))


def adamw(**numbers: Any) -> Any:
    return lambda parameters: torch.optim.AdamW(parameters, **({"lr": 0.01} | numbers))


def of_norm(bound: float) -> Any:
    return lambda parameters: torch.nn.utils.clip_grad_norm_(parameters, bound)


def of_values(bound: float) -> Any:
    return lambda parameters: torch.nn.utils.clip_grad_value_(parameters, bound)


def cosine(late: int = 0) -> Any:
    return lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, max(0, step - late) / 20)))


def entropy(temperature: float = 1.0, divided: str = "", times: float = 1.0, **settings: Any) -> Any:
    def loss(logits: Any, y: Any) -> Any:
        if divided == "rows":
            return F.cross_entropy(logits / temperature, y, reduction="sum", **settings) / len(y)
        return times * F.cross_entropy(logits / temperature, y, **settings)

    return loss


def loop(
    folder: Path,
    dtype: Any,
    *,
    make: Any = None,
    groups: tuple[float, float] | None = None,
    schedule: Any = None,
    clip: Any = None,
    loss: Any = None,
    drop: float = 0.0,
    ignored: bool = False,
    added: float = 0.0,
) -> Path:
    """A classifier, as it is written in PyTorch."""
    torch.manual_seed(0)
    loss, nn = loss or entropy(), torch.nn
    model = nn.Sequential(
        nn.Linear(5, 8), nn.LayerNorm(8), nn.Tanh(), nn.Dropout(drop), nn.Linear(8, CLASSES)
    ).to(dtype)  # fmt: skip
    matrices, vectors = ([p for p in model.parameters() if (p.ndim > 1) == whole] for whole in (True, False))
    parts: Any = [
        {"params": of, "weight_decay": decay} for of, decay in zip((matrices, vectors), groups or (), strict=False)
    ]
    optimizer = (make or sgd(momentum=0.9))(parts or model.parameters())
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule) if schedule else None
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 5, generator=draw).to(dtype), torch.randint(0, CLASSES, (64,), generator=draw)
    if ignored:
        y[::5] = IGNORED
    with watch(folder, model, optimizer, shadows=0, deep=9) as run:
        for k in range(10):
            rows = torch.arange(5 * k, 5 * k + ROWS) % 64

            def update(rows: Any = rows) -> Any:
                parts = rows.split(4) if added else [rows]
                total = sum(loss(model(x[part]), y[part]) for part in parts) / (added or 1)
                if clip is not None:
                    total.backward()
                    clip(list(model.parameters()))
                return total

            run.step(update)
            if rates:
                rates.step()
    return folder


SIZES: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], str]] = {
    "momentum": (
        ["another-momentum"], {"make": sgd(momentum=0.89)}, {"make": sgd(momentum=0.9)},
        "the first run's momentum is 0.89, the second's 0.9",
    ),
    "momentum under a schedule": (
        ["another-momentum"], {"make": sgd(momentum=0.89), "schedule": cosine()},
        {"make": sgd(momentum=0.9), "schedule": cosine()}, "the first run's momentum is 0.89, the second's 0.9",
    ),
    "Nesterov": (["nesterov-momentum"], {"make": sgd(momentum=0.9, nesterov=True)}, {}, "the first run"),
    "rate of Nesterov's": (
        ["another-learning-rate"], {"make": sgd(momentum=0.9, nesterov=True, lr=0.11)},
        {"make": sgd(momentum=0.9, nesterov=True)}, "the first run's learning rate is 0.11, the second's 0.1",
    ),
    "beta1": (
        ["another-beta1"], {"make": adamw(betas=(0.85, 0.999))}, {"make": adamw()},
        "beta1 is 0.85, the second's 0.9",
    ),
    "beta2": (
        ["another-beta2"], {"make": adamw(betas=(0.9, 0.98))}, {"make": adamw()},
        "beta2 is 0.98, the second's 0.999",
    ),
    "epsilon": (
        ["another-epsilon"], {"make": adamw(eps=1e-3)}, {"make": adamw()},
        "epsilon is 0.001, the second's 1e-08",
    ),
    "decay": (
        ["another-weight-decay"], {"make": adamw(weight_decay=1e-3)}, {"make": adamw(weight_decay=0.1)},
        "weight decay is 0.001, the second's 0.1",
    ),
    "decay and what it leaves out": (
        ["another-weight-decay", "weight-decay-on-some-tensors"], {"make": adamw(), "groups": (0.05, 0.0)},
        {"make": adamw(weight_decay=0.1)},
        "weight decay is 0.05 on all but 4 tensors (every bias and scale), the second's 0.1 on all tensors",
    ),
    "clipping by norm": (
        ["another-clipping-threshold"], {"clip": of_norm(0.06)}, {"clip": of_norm(0.05)},
        "the first run clips to a norm of 0.06, the second to 0.05",
    ),
    "clipping by value": (
        ["another-clipping-threshold"], {"clip": of_values(0.012)}, {"clip": of_values(0.01)},
        "the first run clips to values of 0.012, the second to 0.01",
    ),
    "smoothing": (
        ["label-smoothing"], {"loss": entropy(label_smoothing=0.1)}, {},
        "labels are smoothed by 0.1 in the first run, by 0 in the second",
    ),
    "another smoothing": (
        ["another-label-smoothing"], {"loss": entropy(label_smoothing=0.1)}, {"loss": entropy(label_smoothing=0.2)},
        "labels are smoothed by 0.1 in the first run, by 0.2 in the second",
    ),
    "temperature": (
        ["another-temperature"], {"loss": entropy(1.7)}, {"loss": entropy(0.8)},
        "the first run divides its logits by 1.7, the second by 0.8",
    ),
    "two at once": (
        ["another-temperature", "label-smoothing"], {"loss": entropy(2.0, label_smoothing=0.1)}, {},
        "the first run divides its logits by 2, the second by 1; labels are smoothed by 0.1",
    ),
    "rows that are ignored": (
        ["ignored-rows-counted"], {"loss": entropy(divided="rows"), "ignored": True}, {"ignored": True},
        "by 16 (all rows), the second run divides the sum of its rows' losses by 12 (the rows that count)",
    ),
    "workers": (
        ["another-loss-denominator"], {"loss": entropy(times=0.25)}, {},
        "by 64 (4 times all rows), the second run divides the sum of its rows' losses by 16 (all rows)",
    ),
    "micro-batches": (
        ["micro-batches-added-up"], {"added": 1.0}, {"added": 4.0},
        "the first run adds up the means of its micro-batches, the other divides each by 4",
    ),
    "a schedule an update off": (
        ["learning-rate-of-another-update"], {"make": adamw(), "schedule": cosine(1)},
        {"make": adamw(), "schedule": cosine()}, "1 update late",
    ),
    "a warm-up's first step": (
        ["learning-rate-of-another-update"], {"make": adamw(), "schedule": lambda step: min(1.0, step / 6)},
        {"make": adamw(), "schedule": lambda step: min(1.0, (step + 1) / 6)}, "the first run's are 1 update late",
    ),
    "a warm-up's length": (
        ["another-schedule"], {"make": adamw(), "schedule": lambda step: min(1.0, (step + 1) / 5)},
        {"make": adamw(), "schedule": lambda step: min(1.0, (step + 1) / 6)},
        "learning rates of 0.002, 0.004, 0.006, 0.008, … against the second's 0.001667, 0.003333",
    ),
    "RMSprop's mean square": (
        ["another-beta2"], {"make": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9)},
        {"make": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.99)}, "beta2 is 0.9, the second's 0.99",
    ),
}  # fmt: skip
"""What differs: the names that are due, how the first run is made, how the second, and what is said of both."""
QUICK = ("momentum under a schedule", "decay and what it leaves out", "another smoothing", "temperature", "workers")


def sizes() -> list[Any]:
    return [
        pytest.param(name, dtype, id=f"{name}, {str(dtype)[6:]}", marks=[pytest.mark.slow] * (name not in QUICK))
        for name in SIZES
        for dtype in DTYPES
    ]


@pytest.mark.parametrize(("name", "dtype"), sizes())
def test_what_differs_is_named_with_its_size(name: str, dtype: Any, tmp_path: Path) -> None:
    due, one, other, words = SIZES[name]
    found = explained(loop(tmp_path / "a", dtype, **one), loop(tmp_path / "b", dtype, **other))
    assert found["named"] == due, found["sentence"]
    assert words in found["note"], found["note"]


def test_another_rate_of_dropout_is_said_with_both(tmp_path: Path) -> None:
    one, other = (loop(tmp_path / name, torch.float64, drop=rate) for name, rate in (("a", 0.1), ("b", 0.2)))
    assert "rate 0.1 against 0.2" in explained(one, other)["why"]


RIGHT = [name for name in SIZES if SIZES[name][2]]


@pytest.mark.parametrize(
    "name", ["temperature", *(pytest.param(name, marks=pytest.mark.slow) for name in RIGHT if name != "temperature")]
)
def test_a_right_pair_that_rounds_otherwise_gets_no_name(name: str, tmp_path: Path) -> None:
    """The same loop in both, one of which is recorded a rounding off."""
    _, _, made, _ = SIZES[name]
    folders = [loop(tmp_path / which, torch.float64, **made) for which in "ab"]
    runs = [read(folder) for folder in folders]
    moved = {key: value * (1 + 1e-15) if "/params/" in key else value for key, value in runs[1].steps.items()}
    runs[1] = replace(runs[1], steps=moved)
    place = largest_parting(*runs)
    assert place is not None
    for phase in (Phase.LOSS, Phase.GRADIENT, Phase.UPDATE):
        found = explain_steps(*runs, replace(place, phase=phase))
        assert found is None or not found.explanations, found.explanations


@pytest.mark.parametrize("channels_first", [False, True])
def test_numbers_of_a_cross_entropy_are_read_off_sequences(channels_first: bool, tmp_path: Path) -> None:
    """Logits of torch's sequences have their classes before the time."""
    model = torch.nn.Conv1d(3, 7, 1) if channels_first else torch.nn.Linear(3, 7)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    draw = np.random.default_rng(0)
    x = torch.tensor(draw.normal(size=(4, 3, 5) if channels_first else (4, 5, 3)).astype("float32"))
    y = torch.tensor(draw.integers(0, 7, (4, 5)))
    y[:, 4] = IGNORED
    with watch(tmp_path, model, optimizer, shadows=0, deep=2) as run:
        for _ in range(3):
            given = model if channels_first else (lambda x: model(x).movedim(-1, 1))
            run.step(lambda given=given: F.cross_entropy(given(x), y, label_smoothing=0.3))
    found = entropy_of(steps_of(read(tmp_path))[0], "float32")
    assert found is not None
    assert (found.temperature, found.smoothing, found.counted, found.divides_by()[0]) == (
        1.0,
        0.3,
        16,
        "the rows that count",
    )


def test_no_number_is_read_off_another_loss(tmp_path: Path) -> None:
    """A squared error of logits, a focal loss, and a cross-entropy of logits that tell nothing."""
    model = torch.nn.Linear(3, 7)
    losses = {
        "squared": lambda z, y: (z - F.one_hot(y, 7)).square().mean(),
        "focal": lambda z, y: ((1 - z.softmax(-1).amax(-1)) ** 2 * F.cross_entropy(z, y, reduction="none")).mean(),
        "flat": lambda z, y: F.cross_entropy(0 * z, y),
    }  # fmt: skip
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(8, 3, generator=draw), torch.randint(0, 7, (8,), generator=draw)
    for name, loss in losses.items():
        with watch(tmp_path / name, model, torch.optim.SGD(model.parameters(), 0.1), shadows=0, deep=2) as run:
            for _ in range(3):
                run.step(lambda loss=loss: loss(model(x), y))
        assert entropy_of(steps_of(read(tmp_path / name))[0], "float32") is None, name
