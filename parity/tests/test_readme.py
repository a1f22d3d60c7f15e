"""The README is short, and says what is so. That its code works, ``test_docs`` shows."""

import re
from pathlib import Path

import pytest

from parity.mistakes.catalogue import mistakes_for
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.suite import load_suite

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROOF = (ROOT / "docs/explanation/proof.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 950


def test_the_mistakes_are_as_many_as_is_said() -> None:
    entries = load_suite("impls").entries.values()
    known = {hypothesis.name for entry in entries for hypothesis in mistakes_for(entry)}
    for text in (README, PROOF, CHANGELOG):
        said = re.findall(r"(\d+)\s+of\s+them|which of (\d+) porting\s+mistakes", text)
        assert {int(one or other) for one, other in said} == {len(known)}
        layers = re.findall(r"(\d+)(?:\s+mistakes)?\s+in\s+(?:layers|activations)", text)
        assert set(map(int, layers)) == {len(REPLAYED)}


@pytest.mark.parametrize(
    "figure",
    [r"([\d,]+) of [\d,]+ cells", r"([\d,]+) of\s+[\d,]+\s+(?:published )?figures", r"(\d+) of 486", r"none of (\d+)"],
)
def test_the_proof_is_said_alike(figure: str) -> None:
    found = [set(re.findall(figure, text)) for text in (README, PROOF)]
    assert found[0] == found[1]
    assert len(found[0]) == 1
