"""``parity prove --field``: what it counts, prints and writes, when it is satisfied, and the whole field."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity.cli import evidence as cli
from parity.judging.verdict import Verdict
from parity.proving.field import prove
from parity.proving.field.judged import Found
from parity.proving.field.pairs import PAIRS
from parity.proving.field.prove import SUBSET, FieldEvidence, prove_field
from parity.running.versions import Availability, Versions
from parity.tests.suites import strict_json

GOOD = Found(
    pair=PAIRS[0].name,
    dtype="float64",
    right=Verdict.PASS,
    ratio=0.25,
    reason="",
    wrong=Verdict.FAIL,
    phase="update",
    place="update 0, update of x",
    located=True,
    named="right",
    name="a-mistake",
    words="explained",
)


@pytest.mark.parametrize(
    ("change", "proved"),
    [
        ({}, True),
        ({"right": Verdict.INCONCLUSIVE, "reason": "wide"}, True),
        ({"right": Verdict.FAIL, "reason": "apart"}, False),
        ({"wrong": Verdict.PASS}, False),
        ({"wrong": Verdict.INCONCLUSIVE, "dtype": "float32"}, True),
        ({"located": False}, False),
        ({"named": "wrong"}, False),
        ({"named": "unexplained"}, True),
    ],
)
def test_when_the_field_is_proved(change: dict[str, Any], proved: bool) -> None:
    assert FieldEvidence([replace(GOOD, **change)]).proved is proved


def test_nothing_found_or_something_not_run_is_not_proved() -> None:
    assert not FieldEvidence().proved
    assert not FieldEvidence([GOOD], failures=["it ended"]).proved


def test_the_command_prints_a_table_and_writes_json(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = replace(GOOD, dtype="float32", named="wrong", name="another", right=Verdict.FAIL, reason="apart")
    for found, status in (([GOOD], 0), ([GOOD, bad], 1)):
        evidence = FieldEvidence(found, left_out={"leaky-slope": "keras is not installed"})
        monkeypatch.setattr(prove, "prove_field", lambda *arguments, evidence=evidence: evidence)
        with pytest.raises(SystemExit) as ended:
            cli.prove(field=True, json_file=tmp_path / "field.json")
        assert ended.value.code == status
        written = strict_json((tmp_path / "field.json").read_text(), "field")
        assert written["counts"]["float64"]["named_right"] == 1
        assert written["pairs"][0]["address"] == PAIRS[0].address
    printed = capsys.readouterr().out
    assert "WRONG NAME" in printed
    assert "FALSE ALARM" in printed
    assert "left out: leaky-slope" in printed
    assert "float64: 1 pairs; right: 1 PASS" in printed


@pytest.mark.parametrize("options", [{"pair": ["rmsprop"]}, {"keep": Path("kept")}, {"field": True, "suite": "impls"}])
def test_options_that_do_not_go_together_are_refused(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.prove(**options)
    assert ended.value.code == 2
    assert "--field" in capsys.readouterr().err


def test_a_pair_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair of the field is called 'nothing'"):
        prove_field(["nothing"])


def test_pairs_of_frameworks_that_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = Availability("keras", "keras", False, "keras not installed")
    monkeypatch.setattr(Versions, "availability", lambda self, label: missing)
    found = prove_field(SUBSET[:2])
    assert (found.found, set(found.left_out)) == ([], set(SUBSET[:2]))
    assert json.loads(json.dumps(found.as_json()))["proved"] is False


@pytest.mark.slow
def test_a_part_of_the_field_is_proved() -> None:
    found = prove_field(subset=True)
    assert found.failures == []
    counts = found.counts()
    assert (counts["pairs"], counts["named_wrong"], counts["right_fail"]) == (2 * len(SUBSET), 0, 0)
    assert found.proved


@pytest.mark.slow
def test_the_field_is_proved() -> None:
    found = prove_field()
    assert found.failures == []
    counts = found.counts()
    assert (counts["named_wrong"], counts["right_fail"]) == (0, 0)
    assert found.proved
