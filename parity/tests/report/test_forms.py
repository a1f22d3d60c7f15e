"""The report's other forms: Markdown, JUnit, JSON."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parity.cli import recordings
from parity.judging.folder import recorded
from parity.judging.outcome import Outcome
from parity.judging.published import Figure
from parity.judging.verdict import Verdict
from parity.report.formats import junit, markdown
from parity.suite import Suite
from parity.tests.suites import CASE, strict_json


def missing_a_figure(ran: list[Outcome]) -> list[Outcome]:
    figure = Figure("Cost", 3, "1.234", "1.235", Verdict.FAIL)
    return [replace(o, figures=(figure,)) if o.implementation == "numpy-honest" else o for o in ran]


def test_the_markdown_has_every_cell_and_what_did_not_pass(made: tuple[Suite, Path, list[Outcome]]) -> None:
    text = markdown(missing_a_figure(made[2]))
    table = [line for line in text.splitlines() if line.startswith(f"| {CASE} |")]
    assert [line.count(" PASS ") for line in table[:2]] == [2, 2]
    assert [line.count(" FAIL ") for line in table[:2]] == [2, 2]
    assert [line.count(" INCONCLUSIVE ") for line in table[:2]] == [1, 1]
    assert f"| {CASE}-numpy-raises-float64 cpu | INCONCLUSIVE | ValueError: no such layer |" in text
    assert "published Cost of epoch 3 is 1.234, ours 1.235" in text
    assert f"| {CASE} | documents | 0 of 2 |" in text
    assert len({line.count("|") for line in table[:2]}) == 1


def test_the_junit_has_a_test_for_every_cell(made: tuple[Suite, Path, list[Outcome]]) -> None:
    root = ET.fromstring(junit(missing_a_figure(made[2])))
    (suite,) = root.iter("testsuite")
    assert (suite.get("name"), suite.get("tests"), suite.get("failures"), suite.get("errors")) == (CASE, "10", "6", "2")
    assert len(list(suite.iter("testcase"))) == 10
    failed = {test.get("name"): test.find("failure") for test in suite.iter("testcase")}
    wrong = failed["numpy-wrong-float64-cpu"]
    assert wrong is not None
    assert "first differs at epoch 1" in str(wrong.get("message"))
    assert [e.get("message") for e in suite.iter("error")] == 2 * ["ValueError: no such layer"]
    assert failed["numpy-float64-cpu"] is None


def test_names_of_strangers_are_escaped_in_every_form(made: tuple[Suite, Path, list[Outcome]], hostile: Path) -> None:
    found = recorded(hostile, made[0])
    for tag in ("<script", "<img", "<a "):
        assert tag not in markdown(found)
    found[0] = replace(found[0], folder="a|b\x00\x1b\ud800\n## c")
    assert ET.fromstring(junit(found)).find("testsuite") is not None
    assert "\n## c" not in markdown(found)


def test_a_folder_whose_name_is_no_text_is_reported(
    made: tuple[Suite, Path, list[Outcome]], copied: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (copied / CASE).rename(copied / os.fsdecode(b"no\xfftext"))
    for form in ("json", "md", "junit", "html"):
        with pytest.raises(SystemExit) as ended:
            recordings.report(copied, suite=made[0].package, form=form)
        assert ended.value.code == 3
    assert rb"no\udcfftext" in (copied / "report.html").read_bytes()


def test_the_forms_of_the_command(
    made: tuple[Suite, Path, list[Outcome]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, out, ran = made

    def call(**options: Any) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            recordings.report(out, suite=suite.package, **options)
        return int(str(ended.value.code)), capsys.readouterr().out

    status, text = call(form="json")
    assert status == 1
    verdicts = {(c["implementation"], c["dtype"]): c["verdict"] for c in strict_json(text, "run")["cells"]}
    assert verdicts == {(o.implementation, o.dtype): o.judgement.verdict for o in ran}
    assert call(form="md")[1].startswith("# Parity report\n")
    assert call(form="junit", output=tmp_path / "junit.xml") == (1, f"{tmp_path / 'junit.xml'}: {text_of(ran)}\n")
    assert ET.parse(tmp_path / "junit.xml").getroot().get("tests") == "10"
    assert call(output=tmp_path / "page.html")[0] == 1
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(SystemExit) as ended:
        recordings.report(out, form="pdf")
    assert ended.value.code == 2


def text_of(ran: list[Outcome]) -> str:
    from parity.report.words import count_cells

    return count_cells(ran)
