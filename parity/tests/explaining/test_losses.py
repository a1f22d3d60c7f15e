"""What two losses differ in is read off prediction and gradient, though no targets are recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from parity import watch
from parity.tests.field.port import explained

F = torch.nn.functional
DTYPES = (torch.float64, torch.float32)
CLASSES, ROWS = 4, 12
WEIGHTS = (0.5, 1.0, 2.0, 1.5)


def entropy(weights: Any = None, over: str = "", **settings: Any) -> Any:
    def loss(z: Any, y: Any) -> Any:
        own = None if weights is None else torch.tensor(weights, dtype=z.dtype)
        if over:
            return F.cross_entropy(z, y, own, reduction="sum", **settings) / len(z)
        return F.cross_entropy(z, y, own, **settings)

    return loss


def over_others(share: float) -> Any:
    def loss(z: Any, y: Any) -> Any:
        targets = torch.full_like(z, share / (CLASSES - 1)).scatter(1, y[:, None], 1 - share)
        return F.cross_entropy(z, targets)

    return loss


def by_row(z: Any, y: Any) -> Any:
    """Each row has a weight of its own."""
    weights = torch.linspace(0.5, 2, len(z), dtype=z.dtype)
    return (F.cross_entropy(z, y, reduction="none") * weights).mean()


def errors(function: Any, **settings: Any) -> Any:
    return lambda z, y: function(z, y, **settings)


def binary(weight: float | None = None) -> Any:
    def loss(z: Any, y: Any) -> Any:
        own = None if weight is None else torch.tensor(weight, dtype=z.dtype)
        return F.binary_cross_entropy_with_logits(z, (y > 0).to(z.dtype), pos_weight=own)

    return loss


def focal(z: Any, y: Any) -> Any:
    each = F.cross_entropy(z, y, reduction="none")
    return ((1 - (-each).exp()) ** 2 * each).mean()


def loop(folder: Path, dtype: Any, loss: Any, numbers: bool = False) -> Path:
    """A small network, as it is written in PyTorch."""
    torch.manual_seed(0)
    nn = torch.nn
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(60, 5, generator=draw).to(dtype), torch.randint(0, CLASSES, (60,), generator=draw)
    targets = torch.randn(60, CLASSES, generator=draw).to(dtype)
    y = 1.2 * targets if numbers else y
    with watch(folder, model, optimizer, shadows=0, deep=4) as run:
        for k in range(5):
            rows = torch.arange(ROWS * k, ROWS * (k + 1)) % 60
            run.step(lambda rows=rows: loss(model(x[rows]), y[rows]), rows=rows)
    return folder


LOSSES: dict[str, tuple[tuple[str, ...], Any, Any, bool, tuple[str, ...]]] = {
    "weights over rows": (
        ("class-weights-not-in-the-denominator",),
        entropy(WEIGHTS, over="rows"),
        entropy(WEIGHTS),
        False,
        ("0 weighs 0.5, 1 weighs 1, 2 weighs 2 and", "by 12 (all rows), the second run by"),
    ),
    "weights missing": (
        ("class-weights-missing",),
        entropy(),
        entropy(WEIGHTS, over="rows"),
        False,
        ("in the second run, class 0 weighs 0.5, 1 weighs 1, 2 weighs 2",),
    ),
    "weights missing from a mean": (
        ("class-weights-missing",),
        entropy(),
        entropy(WEIGHTS),
        False,
        ("in the second run, class 0 weighs 1, 1 weighs 2, 2 weighs 4",),
    ),
    "other weights": (
        ("other-class-weights",),
        entropy((1.0, 1.0, 3.0, 1.0), over="rows"),
        entropy(WEIGHTS, over="rows"),
        False,
        ("in the first run, class 0 weighs 1", "in the second run, class 0 weighs 0.5"),
    ),
    "weights of rows": (("row-weights-missing",), by_row, entropy(), False, ("the first run's rows have weights",)),
    "smoothing over others": (
        ("smoothing-over-the-other-classes",),
        over_others(0.1),
        entropy(label_smoothing=0.1),
        False,
        ("0.1 over the other classes alone is of 4",),
    ),
    "another smoothing or over others": (
        ("another-label-smoothing",),
        over_others(0.3),
        entropy(label_smoothing=0.3),
        False,
        ("by 0.4 in the first run, by 0.3 in the second, which may be 0.3 over the other classes alone",),
    ),
    "absolute for squared": (
        ("absolute-for-squared-errors",),
        errors(F.l1_loss),
        errors(F.mse_loss),
        True,
        ("first run's loss is of absolute errors", "second run's loss is of squared errors", "by 48 (all outputs)"),
    ),
    "Huber for squared": (
        ("huber-for-squared-errors",),
        errors(F.huber_loss),
        errors(F.mse_loss),
        True,
        ("Huber's of delta 1",),
    ),
    "delta": (
        ("another-huber-delta",),
        errors(F.huber_loss, delta=0.5),
        errors(F.huber_loss, delta=1.0),
        True,
        ("first run's loss is Huber's of delta 0.5", "second run's loss is Huber's of delta 1"),
    ),
    "smooth L1": (
        ("huber-divided-by-its-delta",),
        errors(F.smooth_l1_loss, beta=0.5),
        errors(F.huber_loss, delta=0.5),
        True,
        ("by 24", "by 48 (all outputs)"),
    ),
    "absolute for Huber": (
        ("absolute-for-huber-errors",),
        errors(F.l1_loss),
        errors(F.huber_loss, delta=1.0),
        True,
        (),
    ),
    "positive weight": (
        ("another-positive-weight",),
        binary(3.0),
        binary(),
        True,
        ("whose positive targets weigh 3",),
    ),
}
"""The names that are due, both losses, whether targets are numbers, and what is said of both."""
QUICK = ("weights over rows", "smoothing over others", "absolute for squared", "delta", "positive weight")


def cases() -> list[Any]:
    return [
        pytest.param(name, dtype, id=f"{name}, {str(dtype)[6:]}", marks=[pytest.mark.slow] * (name not in QUICK))
        for name in LOSSES
        for dtype in DTYPES
    ]


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_what_two_losses_differ_in_is_named(name: str, dtype: Any, tmp_path: Path) -> None:
    due, one, other, numbers, words = LOSSES[name]
    folders = loop(tmp_path / "a", dtype, one, numbers), loop(tmp_path / "b", dtype, other, numbers)
    found = explained(*folders)
    assert tuple(found["named"]) == due, found["sentence"]
    for said in words:
        assert said in found["note"], found["note"]
    back = explained(*folders[::-1])
    assert tuple(back["named"]) == due, back["sentence"]


OTHERS: dict[str, tuple[Any, Any, bool]] = {
    "focal": (focal, entropy(), False),
    "smoothed and weighted": (entropy(WEIGHTS, label_smoothing=0.1), entropy(), False),
    "a log of cosh": (lambda z, y: torch.log(torch.cosh(z - y)).mean(), errors(F.mse_loss), True),
    "a power": (lambda z, y: (z - y).abs().pow(1.5).mean(), errors(F.mse_loss), True),
    "other targets": (lambda z, y: F.l1_loss(z, y + 0.1), errors(F.mse_loss), True),
    "soft targets": (lambda z, y: F.binary_cross_entropy_with_logits(z, y.sigmoid()), binary(), True),
    "a quantile": (lambda z, y: torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean(), errors(F.mse_loss), True),
    "clipped at another place": (lambda z, y: (z - y).square().clamp(max=1).mean(), errors(F.huber_loss), True),
}
"""Losses that are near to those that are known."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OTHERS)
def test_another_loss_gets_no_name(name: str, dtype: Any, tmp_path: Path) -> None:
    one, other, numbers = OTHERS[name]
    found = explained(loop(tmp_path / "a", dtype, one, numbers), loop(tmp_path / "b", dtype, other, numbers))
    assert not found["named"], found["sentence"]
