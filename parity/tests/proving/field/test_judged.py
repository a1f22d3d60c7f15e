"""What an explanation says of a pair, held against what is right; and a pair recorded and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from parity.judging.verdict import Verdict
from parity.proving.field.judged import how_named, judged, well_located
from parity.proving.field.pair import Pair
from parity.proving.field.pairs import PAIRS
from parity.proving.field.setup import Setup
from parity.recording.steps import Phase

PAIR = Pair(
    "a-norm",
    "A norm differs.",
    "https://example.org",
    Phase.PREDICTION,
    names=("another-norm-epsilon",),
    where="norm",
    words="epsilon",
)


def parting(sentence: str = "norm parts", *names: str, differences: tuple[str, ...] = ()) -> dict[str, Any]:
    mistake = {"names": list(names)} if names else None
    return {"partings": [{"sentence": sentence, "mistake": mistake, "differences": list(differences)}]}


def said(**other: Any) -> dict[str, Any]:
    plain = {"named": [], "layer": None, "why": "", "note": "", "pattern": "", "phase": "prediction", "place": "x"}
    return plain | {"parts": []} | other


@pytest.mark.parametrize(
    ("explanation", "wanted"),
    [
        (None, ("unexplained", "")),
        (said(), ("unexplained", "")),
        (said(named=["another-norm-epsilon"]), ("right", "another-norm-epsilon")),
        (said(named=["momentum-dampened"]), ("wrong", "momentum-dampened")),
        (said(layer=parting("norm", "another-norm-epsilon", "b")), ("right", "another-norm-epsilon")),
        (said(layer=parting("norm", "gelu-by-tanh")), ("wrong", "gelu-by-tanh")),
        (said(layer=parting("norm", differences=("epsilon 1 against 2",))), ("right", "")),
        (said(why="recordings do not tell which it is: an epsilon, a momentum"), ("narrowed", "")),
        (said(note="epsilon is another"), ("right", "")),
    ],
)
def test_how_an_explanation_names(explanation: dict[str, Any] | None, wanted: tuple[str, str]) -> None:
    assert how_named(PAIR, explanation) == wanted


def test_where_an_explanation_is_right() -> None:
    assert well_located(PAIR, said())  # no layers were recorded
    assert well_located(PAIR, said(layer=parting("norm ↔ norm")))
    assert not well_located(PAIR, said(layer=parting("head ↔ head")))
    assert not well_located(PAIR, said(phase="loss", layer=parting("norm")))


@pytest.mark.parametrize("name", ["sum-for-mean", "clipped-by-tensor"])
def test_a_pair_is_judged_and_its_fault_named(name: str, tmp_path: Path) -> None:
    """Both sides in one framework, which is quick."""
    from parity.proving.field.torch_side import run

    (pair,) = (each for each in PAIRS if each.name == name)
    right = Setup(**pair.options(wrong=False))
    for folder, wrong, stirred in (("first", False, None), ("second", False, 3), ("third", True, None)):
        run(tmp_path / folder, Setup(**pair.options(wrong)), "float64", True, stirred, right.said)
    found = judged(pair, "float64", *(tmp_path / folder for folder in ("first", "first", "third")))
    assert (found.right, found.wrong, found.located, found.named) == (Verdict.PASS, Verdict.FAIL, True, "right")
    assert found.name in pair.names
