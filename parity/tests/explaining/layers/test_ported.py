"""What is said of models as people port them: layers in another order, and what is taken of an axis."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from parity import watch
from parity.explaining.layers.calls import _with_every_axis
from parity.explaining.layers.find import Layers, find_layers
from parity.explaining.layers.reductions import reduction_of
from parity.explaining.layers.states import steps_of_states
from parity.recording.reader import read

WIDTH = 12


def recorded(folder: Path, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> Path:
    """Train a model for two updates."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        model = make()
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape) / max(1, p.ndim) ** 2 + (p.ndim == 1))
        torch.manual_seed(1)
        x = torch.randn(8, *shape)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with watch(folder, model, optimizer, deep=1, shadows=1) as run:
            for _ in range(2):
                run.step(lambda: model(x).square().mean())
    finally:
        torch.set_default_dtype(torch.float32)
    return folder


def found(one: Path, other: Path) -> Layers:
    layers = find_layers(read(one), read(other))
    assert layers is not None
    assert layers.partings
    return layers


class Block(nn.Module):
    def __init__(self, first: bool) -> None:
        super().__init__()
        self.norm, self.inner, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2)
        self.first = first

    def forward(self, x: Any) -> Any:
        x = x + self.inner(self.norm(x)) if self.first else self.norm(x + self.inner(x))
        return self.head(x)


def test_layers_in_another_order_are_said(tmp_path: Path) -> None:
    one, other = (recorded(tmp_path / str(first), lambda first=first: Block(first), (5, WIDTH)) for first in (1, 0))
    for pair, words in (
        ((one, other), "norm comes before inner in the first run, and norm after inner in the second"),
        ((other, one), "inner comes before norm in the first run, and inner after norm in the second"),
    ):
        said = found(*pair).partings[0].note
        assert f"{words}: the same layers in another order, as normalization before and after a layer" in said


def test_layers_in_one_order_are_not_said_to_be_in_another(tmp_path: Path) -> None:
    class Other(Block):
        def forward(self, x: Any) -> Any:
            return self.head(x + 2 * self.inner(self.norm(x)))

    one = recorded(tmp_path / "one", lambda: Block(True), (5, WIDTH))
    other = recorded(tmp_path / "other", lambda: Other(True), (5, WIDTH))
    assert "another order" not in " ".join(parting.sentence for parting in found(one, other).partings)


class Taken(nn.Module):
    def __init__(self, how: str, bidirectional: bool = False) -> None:
        super().__init__()
        self.cell = nn.LSTM(WIDTH, 4, batch_first=True, bidirectional=bidirectional)
        self.head, self.how = nn.Linear(8 if bidirectional else 4, 2), how

    def forward(self, x: Any) -> Any:
        states = self.cell(x)[0]
        if self.how == "valid":
            states = states[torch.arange(len(x)), torch.arange(len(x)) % 4 + 1]
        elif self.how == "both":
            states = torch.cat([states[:, -1, :4], states[:, 0, 4:]], -1)
        else:
            states = states[:, -1] if self.how == "last" else states.mean(1)
        return self.head(states)


@pytest.mark.parametrize(
    ("right", "wrong", "bidirectional", "words"),
    [
        ("last", "mean", False, "the second the mean over places of cell"),
        (
            "both",
            "last",
            True,
            "takes that after the last step forward with that after the first step backward",
        ),
        ("valid", "last", False, "as where padding is masked, or sequences are packed, in one run alone"),
    ],
)
def test_what_is_taken_of_states_is_said(
    right: str, wrong: str, bidirectional: bool, words: str, tmp_path: Path
) -> None:
    one, other = (
        recorded(tmp_path / how, lambda how=how: Taken(how, bidirectional), (6, WIDTH)) for how in (right, wrong)
    )
    parting = found(one, other).partings[0]
    assert words in parting.sentence


def strided(first: int, second: int) -> nn.Module:
    layers = nn.Conv2d(3, 4, 1, first), nn.Tanh(), nn.Conv2d(4, 4, 3, second, 1), nn.Flatten(), nn.Linear(64, 2)
    return nn.Sequential(*layers)


def test_a_setting_that_another_layer_has_is_said(tmp_path: Path) -> None:
    one = recorded(tmp_path / "one", lambda: strided(1, 2), (3, 8, 8))
    other = recorded(tmp_path / "other", lambda: strided(2, 1), (3, 8, 8))
    layers = found(one, other)
    parting = layers.partings[0]
    assert parting.certain
    assert parting.differences == ("stride (1, 1) against (2, 2)",)
    assert "they give 2,048 and 512 values" in parting.note
    assert layers.behind == ("2 (Conv2d) ↔ 2 (Conv2d): stride (2, 2) against (1, 1)",)


def test_a_reduction_that_two_words_fit_is_not_said() -> None:
    tokens = np.ones((2, 3, 4))
    assert reduction_of(tokens, tokens.mean(1), 1e-15) is None
    assert reduction_of(np.arange(24.0).reshape(2, 3, 4), np.zeros((2, 4)), 1e-15) is None


def test_a_state_of_no_step_is_none() -> None:
    states = np.arange(12.0).reshape(2, 3, 2)
    assert steps_of_states(states, states[:, 0] + 1, 1, 0.1) is None
    assert steps_of_states(states, states[:, 0, :1], 1, 0.1) is None


def test_a_kernel_that_lacks_an_axis_of_one_gets_it_back() -> None:
    assert next(_with_every_axis(np.ones((4, 4, 6)), 4)).shape == (4, 4, 6, 1)
    assert [one.shape for one in _with_every_axis(np.ones((3, 5)), 2)] == [(3, 5)]
