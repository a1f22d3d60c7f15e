"""A known departure passes by its name alone, and nothing passes beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.diff import compare
from parity.judging.updates.departures import DEPARTURES, named
from parity.judging.verdict import Verdict
from parity.tests.command import Parity, complaint
from parity.tests.judging.networks import Loop
from parity.trajectory import TrajectoryError

CLIPPED = Loop(dtype="float64", axis=1, clip=0.05)
SHOWN: dict[str, tuple[Loop, dict[str, Any]]] = {
    "clip-epsilon": (CLIPPED, {"added": 1e-6}),
    "unbiased-variance": (Loop(dtype="float64"), {"unbiased": True}),
    "float32-constants": (Loop(dtype="float64", axis=1, rate=0.1), {"rate": float(np.float32(0.1))}),
}
MISTAKES: tuple[dict[str, Any], ...] = ({"rate": 0.0999}, {"faster_from": 12}, {"epsilon": 1.1e-5})


@pytest.mark.parametrize("name", SHOWN)
def test_it_fails_and_says_its_name_and_passes_by_it(name: str, tmp_path: Path) -> None:
    right, departs = SHOWN[name]
    for k, (a, b) in enumerate(
        ((right, right.with_(other=True, **departs)), (right.with_(other=True, **departs), right))
    ):
        folders = a.record(tmp_path / f"a{k}"), b.record(tmp_path / f"b{k}")
        without = compare(*folders)
        assert without.judgement.verdict is Verdict.FAIL
        assert any(f"--accept {name} takes that" in note for note in without.notes)
        found = compare(*folders, accept=list(DEPARTURES))
        assert found.judgement.verdict is Verdict.PASS
        (said,) = (note for note in found.notes if "passes with what is accepted" in note)
        assert DEPARTURES[name].sentence in said
        others = [other for other in DEPARTURES if other != name]
        assert compare(*folders, accept=others).judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
@pytest.mark.parametrize("name", SHOWN)
def test_nothing_passes_beside_it(name: str, mistake: dict[str, Any], tmp_path: Path) -> None:
    right, departs = SHOWN[name]
    right = right.with_(rate=0.1)
    a, b = right.record(tmp_path / "a"), right.with_(other=True, **(departs | mistake)).record(tmp_path / "b")
    assert compare(b, a, accept=list(DEPARTURES)).judgement.verdict is Verdict.FAIL


@pytest.mark.parametrize("mistake", [{"added": 1e-4}, {"added": 1e-5, "whole": True}, {"clip": 0.05 * (1 + 3e-5)}])
def test_another_clipping_is_no_departure(mistake: dict[str, Any], tmp_path: Path) -> None:
    a, b = (CLIPPED.with_(**one).record(tmp_path / n) for n, one in (("a", {}), ("b", {"other": True} | mistake)))
    assert compare(b, a, accept=["clip-epsilon"]).judgement.verdict is Verdict.FAIL


def test_gradients_before_they_were_clipped_say_their_norm(tmp_path: Path) -> None:
    whole = CLIPPED.with_(whole=True)
    a, b = whole.record(tmp_path / "a"), whole.with_(other=True, added=1e-6).record(tmp_path / "b")
    assert compare(b, a, accept=["clip-epsilon"]).judgement.verdict is Verdict.PASS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_unbiased_variance_is_found_in_either_dtype(dtype: str, tmp_path: Path) -> None:
    right = Loop(dtype=dtype)
    a, b = right.record(tmp_path / "a"), right.with_(other=True, unbiased=True).record(tmp_path / "b")
    found = compare(b, a, accept=["unbiased-variance"])
    assert found.judgement.verdict is Verdict.PASS
    assert any("norm/variance, of 16 values" in note for note in found.notes)


def test_a_name_that_is_none_is_refused(parity: Parity, tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match="there is no departure 'anything' to accept"):
        named(["anything"])
    a, b = (Loop(epochs=1).record(tmp_path / name) for name in "ab")
    for command in ("diff", "explain"):
        assert "there is no departure 'anything'" in complaint(parity(command, a, b, "--accept", "anything"))
    assert "two trajectories" in complaint(parity("explain", "iris-logistic", "--accept", "clip-epsilon"))


def test_what_is_accepted_is_said_by_the_command(parity: Parity, tmp_path: Path) -> None:
    right, departs = SHOWN["unbiased-variance"]
    a, b = right.record(tmp_path / "a"), right.with_(other=True, **departs).record(tmp_path / "b")
    result = parity("diff", b, a, "--accept", "unbiased-variance", "--json", "found.json")
    assert result.status == 0
    assert "note: passes with what is accepted: torch's BatchNorm" in result.out
    assert json.loads(Path("found.json").read_text())["pairs"][0]["verdict"] == "PASS"


def test_each_departure_says_where_it_is_written() -> None:
    for departure in DEPARTURES.values():
        assert departure.source.startswith("https://")
