"""``parity match``: which tensors are the same is said, written down and taken back, and used by other commands."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recorder import Recorder
from parity.tests.command import Parity, complaint
from parity.tests.suites import strict_json

KERNELS = {"hidden": (3, 4), "output": (4, 2)}


def begun(seed: int = 0) -> dict[str, Any]:
    """Kernels (in, out) that were drawn, and biases of zero."""
    draw = np.random.default_rng(seed)
    found = {f"{layer}/kernel": draw.normal(size=shape) for layer, shape in KERNELS.items()}
    return found | {f"{layer}/bias": np.zeros(shape[1]) for layer, shape in KERNELS.items()}


def as_torch(tensors: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {"hidden": 0, "output": 2}
    return {
        f"{numbers[name.split('/')[0]]}.{'weight' if 'kernel' in name else 'bias'}": value.T
        for name, value in tensors.items()
    }


def as_flax(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {f"Dense_{'hidden' not in name:d}/{name.split('/')[1]}": value for name, value in tensors.items()}


def record(folder: Path, named: Any, rate: float = 0.1, extra: Mapping[str, Any] | None = None, **begins: Any) -> Path:
    """Train on a quadratic, all of whose tensors go to values of their own, in a framework's names."""
    params, goal = begun() | begins, begun(seed=1)
    goal = {name: value + np.arange(value.size).reshape(value.shape) for name, value in goal.items()}
    beside = dict(extra or {})
    with Recorder(folder, "float64", deep=3) as run:
        run.snapshot({**named(params), **beside})
        for _ in range(6):
            gradients = {name: value - goal[name] for name, value in params.items()}
            loss = sum(float((g**2).sum()) for g in gradients.values()) / 2
            run.step(
                loss,
                rows=[0],
                prediction=np.array([loss]),
                params={**named(params), **beside},
                gradients=named(gradients),
            )
            params = {name: value - rate * gradients[name] for name, value in params.items()}
            run.snapshot({**named(params), **beside})
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return record(tmp_path / "a", as_torch), record(tmp_path / "b", as_flax)


def test_every_tensor_is_matched_and_a_layout_is_printed(parity: Parity, pair: tuple[Path, Path]) -> None:
    result = parity("match", *pair, "--json", "map.json")
    assert result.status == 0, result.out
    assert "4 of 4 tensors matched, all proven" in result.out
    assert "Slot('Dense_0/kernel', '0.weight', axes=(1, 0))," in result.out
    found = strict_json(Path("map.json").read_text(), "match")
    how = {each["ours"][0]["framework"]: each["how"] for each in found["pairings"]}
    assert how == {"0.weight": "value", "2.weight": "value", "0.bias": "gradient", "2.bias": "gradient"}


def test_runs_with_other_names_and_layouts_are_compared_without_a_layout(
    parity: Parity, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    result = parity("diff", *pair)
    assert result.status == 0, result.out
    assert "note: 4 of 4 tensors matched, all proven" in result.out
    wrong = record(tmp_path / "wrong", as_torch, rate=0.11)
    result = parity("diff", wrong, pair[1])
    assert result.status == 1
    result = parity("explain", wrong, pair[1], "--json", "why.json")
    assert result.status == 1
    (found,) = strict_json(Path("why.json").read_text(), "explain")["explanations"]
    assert found["phase"] == "update"
    assert f"of {wrong} and Dense_" in found["note"]


def test_what_match_writes_can_be_mended_and_given_back(parity: Parity, pair: tuple[Path, Path]) -> None:
    parity("match", *pair, "--json", "map.json")
    assert parity("diff", *pair, "--map", "map.json").status == 0
    assert parity("match", *pair, "--map", "map.json").status == 0
    content = json.loads(Path("map.json").read_text())
    one, other = (
        next(p for p in content["pairings"] if p["ours"][0]["framework"] == name) for name in ("0.bias", "2.bias")
    )
    one["theirs"], other["theirs"] = other["theirs"], one["theirs"]
    for each in (one, other):
        each["ours"][0]["canonical"] = each["theirs"][0]["canonical"]
    Path("wrong.json").write_text(json.dumps(content))
    assert "two shapes" in complaint(parity("diff", *pair, "--map", "wrong.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{}", "holds no list of pairings"),
        ("[", "is no valid JSON"),
        ('{"pairings": [{"ours": [], "theirs": []}]}', "a pairing has slots of ours and theirs"),
        ('{"pairings": [{"ours": [{"canonical": "a"}], "theirs": [{}]}]}', "is no slot of a layout"),
        (
            '{"pairings": [{"ours": [{"canonical": "a", "framework": "b", "axes": [-1]}], "theirs": [{}]}]}',
            "is no slot",
        ),
        (
            '{"pairings": [{"ours": [{"canonical": "a", "framework": "no"}],'
            ' "theirs": [{"canonical": "a", "framework": "no"}]}]}',
            "the map does not fit the runs",
        ),
    ],
)
def test_a_map_that_is_none_is_refused_in_a_line(parity: Parity, pair: tuple[Path, Path], text: str, said: str) -> None:
    Path("map.json").write_text(text)
    result = parity("diff", *pair, "--map", "map.json")
    assert result.status == 2
    assert said in complaint(result)


def test_a_map_belongs_to_two_runs(parity: Parity, pair: tuple[Path, Path]) -> None:
    assert "--map" in complaint(parity("diff", pair[0].parent, pair[0].parent, "--map", "map.json"))
    assert "--map" in complaint(parity("explain", "iris-logistic", "--map", "map.json"))


def test_a_trained_tensor_without_a_partner_makes_no_pass(
    parity: Parity, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    def more(tensors: Mapping[str, Any]) -> dict[str, Any]:
        return as_torch(tensors) | {"scale": next(iter(tensors.values()))[:1, :1].reshape(1)}

    result = parity("diff", record(tmp_path / "more", more), pair[1])
    assert result.status == 3
    assert "tensors have no partner and were not compared: scale" in result.out
    assert parity("match", tmp_path / "more", pair[1]).status == 3
    # A buffer that the other framework lacks is named, and is no obstacle.
    result = parity("diff", record(tmp_path / "counted", as_torch, extra={"batches_seen": np.zeros(3)}), pair[1])
    assert result.status == 0, result.out
    assert "without a partner in the first run: batches_seen" in result.out


def test_runs_that_begin_with_other_values_differ(parity: Parity, pair: tuple[Path, Path], tmp_path: Path) -> None:
    other = record(tmp_path / "other", as_flax, **{"hidden/kernel": np.full((3, 4), 0.5)})
    result = parity("match", pair[0], other)
    assert result.status == 1
    assert "no: the values differ" in result.out
    assert parity("diff", pair[0], other).status == 1


def test_a_pairing_that_nothing_proves_is_no_failure_where_another_agrees(parity: Parity, tmp_path: Path) -> None:
    """Two tensors begin at zero and part only after the snapshots that are looked at first: order alone pairs them."""

    def record_two(folder: Path, names: tuple[str, str]) -> Path:
        with Recorder(folder, "float64") as run:
            for epoch in range(8):
                moved = [np.full(3, k * float(epoch > 5)) for k in (1.0, 2.0)]
                run.snapshot(dict(zip(names, moved, strict=True)))
                if epoch < 7:
                    run.step(1.0)
        return folder

    one, other = record_two(tmp_path / "one", ("a.x", "b.x")), record_two(tmp_path / "two", ("d/x", "c/x"))
    result = parity("diff", one, other)
    assert result.status == 3, result.out
    assert "nothing proves which it is, say so with --map" in result.out


def test_names_that_would_command_a_terminal_are_shown_as_letters(parity: Parity, pair: tuple[Path, Path]) -> None:
    Path("map\x1b.json").write_text("{}")
    assert "\x1b" not in parity("diff", *pair, "--map", "map\x1b.json").err
