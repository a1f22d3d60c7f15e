"""Loops of frameworks, watched: what an optimizer's object says of itself is what its updates are held to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from parity import watch
from parity.explaining.updates.sides import in_our_words, optimizer_said
from parity.recording.reader import read
from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.tests.field.port import explained

UPDATES, RATE, WARM = 14, 0.01, 6


def loop(folder: Path, make: Any, *, late: int = 0, clip: Any = None, groups: bool = False) -> Path:
    """A classifier with a warm-up, as it is written in PyTorch."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    model = model.double()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    parts: Any = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = make(parts if groups else model.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1 - late) / WARM))
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(64, 5, generator=generator).double(), torch.randint(0, 3, (64,), generator=generator)
    with watch(folder, model, optimizer, shadows=0, deep=12) as run:
        for k in range(UPDATES):
            rows = torch.arange(k, k + 16) % 64

            def update(rows: Any = rows) -> Any:
                loss = torch.nn.functional.cross_entropy(model(x[rows]), y[rows])
                if clip is not None:
                    loss.backward()
                    clip(model.parameters())
                return loss

            run.step(update)
            schedule.step()
    return folder


def adamw(**numbers: Any) -> Any:
    return lambda parameters: torch.optim.AdamW(parameters, lr=RATE, **numbers)


def test_a_watched_schedule_is_read_and_followed(tmp_path: Path) -> None:
    """The learning rate of each update is recorded: a schedule is no departure, and one update late is named."""
    right, late = loop(tmp_path / "right", adamw()), loop(tmp_path / "late", adamw(), late=1)
    assert optimizer_said(read(right)) == AdamW(RATE, weight_decay=0.01)
    found = explained(late, right)
    assert (found["phase"], found["epoch"], found["named"]) == ("update", 1, ["learning-rate-of-another-update"])
    assert "learning rates of 0, 0.001667, 0.003333" in found["note"]
    assert "the first run's are 1 update late" in found["note"]


def test_a_decay_that_leaves_some_tensors_out_is_named_from_what_both_do(tmp_path: Path) -> None:
    wrong, right = loop(tmp_path / "wrong", adamw(weight_decay=0.1)), loop(tmp_path / "right", adamw(), groups=True)
    for found in (explained(wrong, right), explained(right, wrong)):
        assert found["named"] == ["weight-decay-on-some-tensors"], found["sentence"]
        assert "0.1 on all but 4 tensors (every bias and scale)" in found["note"]
        assert "0.1 on all tensors" in found["note"]


def test_what_a_watcher_saw_before_clipping_tells_how_a_run_clips(tmp_path: Path) -> None:
    def each(parameters: Any) -> None:
        for p in parameters:
            torch.nn.utils.clip_grad_norm_([p], 0.05)

    def together(parameters: Any) -> None:
        torch.nn.utils.clip_grad_norm_(list(parameters), 0.05)

    wrong, right = loop(tmp_path / "wrong", adamw(), clip=each), loop(tmp_path / "right", adamw(), clip=together)
    assert "0/unclipped/0.weight" in read(right).steps
    for found in (explained(wrong, right), explained(right, wrong)):
        assert found["named"] == ["clipped-tensor-by-tensor"], found["sentence"]


TORCH = {"lr": 0.1, "weight_decay": 0.0}
BETAS = TORCH | {"betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": False}


@pytest.mark.parametrize(
    ("kind", "groups", "meant"),
    [
        ("torch.optim.sgd.SGD", [TORCH | {"momentum": 0.9, "nesterov": False}], Sgd(0.1, 0.9)),
        ("torch.optim.sgd.SGD", [TORCH | {"momentum": 0.9, "nesterov": True}], None),
        ("torch.optim.adam.Adam", [BETAS], Adam(0.1, 0.9, 0.99, 1e-8)),
        ("torch.optim.adam.Adam", [BETAS | {"weight_decay": 0.1}], None),
        ("torch.optim.adamw.AdamW", [BETAS | {"weight_decay": 0.1}, BETAS], AdamW(0.1, 0.9, 0.99, 1e-8, 0.1)),
        ("torch.optim.adamw.AdamW", [BETAS | {"amsgrad": True}], None),
        ("torch.optim.rmsprop.RMSprop", [TORCH | {"alpha": 0.99, "eps": 1e-8}], None),
        ("keras.src.optimizers.sgd.SGD", [{"learning_rate": 0.1, "momentum": 0.9, "nesterov": False}], Sgd(0.1, 0.9)),
        ("keras.src.optimizers.adam.Adam", [{"learning_rate": 0.1, "beta_1": 0.9, "beta_2": 0.99}], None),
        ("torch.optim.sgd.SGD", [], None),
        ("torch.optim.sgd.SGD", ["lr"], None),
        ("torch.optim.adam.Adam", [TORCH | {"betas": 0.9}], None),
    ],
)
def test_a_framework_s_optimizer_in_the_words_of_the_spec(kind: str, groups: Any, meant: Optimizer | None) -> None:
    assert in_our_words({"class": kind, "groups": groups}) == meant


@pytest.mark.parametrize("said", [None, "SGD", {}, {"class": 3}, {"groups": {"lr": 0.1}}])
def test_what_is_no_optimizer_is_none(said: Any) -> None:
    assert in_our_words(said) is None
