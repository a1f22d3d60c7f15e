"""The layers of two runs side by side, where one run has in one layer what the other has in several, or has not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.explaining.layers.beside import TENSORS, VALUE, Beside, side_by_side
from parity.judging.tensors.matching import match
from parity.recorder import Recorder
from parity.recording.reader import read
from parity.typing import Array, Params

DRAW = np.random.RandomState(0)
X, QUERY, KEY, VALUES, OUT = (DRAW.normal(size=shape) for shape in ((5, 4), (4, 3), (4, 3), (4, 3), (3, 2)))


def recorded(folder: Path, params: Params, layers: Mapping[str, tuple[str, str, Array]]) -> None:
    """Record an update of a model; ``layers`` are the input, the kind and the output of each, by name."""
    listed: list[dict[str, Any]] = [
        {"name": name, "kind": kind, "configuration": {}, "inputs": [of], "outputs": [name]}
        for name, (of, kind, _) in layers.items()
    ]
    given = {name: output for name, (_, _, output) in layers.items()}
    with Recorder(folder, "float64", deep=1) as run:
        run.snapshot(params)
        gradients = {name: np.ones_like(value) for name, value in params.items()}
        last = list(given.values())[-1]
        run.step(0.5, inputs=[X], prediction=last, gradients=gradients, params=params, activations=given)
        run.snapshot({name: value - 0.1 for name, value in params.items()})
        run.describe(layers=listed)


@pytest.fixture
def rows(tmp_path: Path) -> list[Beside]:
    """A fused layer beside three; behind them the second run takes something else, and has a layer more."""
    fused = np.hstack([QUERY, KEY, VALUES])
    inner = X @ QUERY + X @ VALUES
    head = inner @ OUT
    recorded(
        tmp_path / "fused",
        {"qkv.weight": fused.T, "out.weight": OUT.T},
        {
            "qkv": ("", "Linear", X @ fused),
            "out": ("qkv", "Linear", head),
            "head": ("out", "Linear", head @ OUT.T),
        },
    )
    other = 2 * inner @ OUT
    recorded(
        tmp_path / "apart",
        {"query/kernel": QUERY, "key/kernel": KEY, "value/kernel": VALUES, "out/kernel": OUT},
        {
            "query": ("", "Dense", X @ QUERY),
            "key": ("", "Dense", X @ KEY),
            "value": ("", "Dense", X @ VALUES),
            "out": ("value", "Dense", other),
        },
    )
    one, two = read(tmp_path / "fused"), read(tmp_path / "apart")
    return side_by_side(one, two, None, match(one, two))


def test_a_fused_layer_stands_beside_all_that_it_is(rows: list[Beside]) -> None:
    row = rows[0]
    assert row.ours == ("qkv", "Linear")
    assert row.theirs == ("query, key, value", "Dense")
    assert row.how == VALUE


def test_behind_a_parting_layers_are_known_by_their_tensors_and_no_other_is_taken(rows: list[Beside]) -> None:
    assert [(row.ours and row.ours[0], row.theirs and row.theirs[0], row.how) for row in rows[1:]] == [
        ("out", "out", TENSORS),
        ("head", None, ""),
    ]
