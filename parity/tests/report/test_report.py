"""The report: what is judged from a folder alone, what the page and the other forms say, and that no file can hurt."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parity.cli import cases, recordings
from parity.judging.diff import compare_folders
from parity.judging.folder import recorded
from parity.judging.known import NOTHING, Known
from parity.judging.outcome import Outcome, as_json
from parity.judging.published import Figure
from parity.judging.verdict import Verdict
from parity.recording.format import MANIFEST
from parity.recording.places import EXPLANATION
from parity.recording.reader import read
from parity.recording.writer import write
from parity.report import html
from parity.report.current import fingerprint
from parity.report.formats import junit, markdown
from parity.report.page import resource
from parity.running.cells import Options
from parity.running.keys import mark
from parity.running.matrix import Matrix
from parity.spec import Policy
from parity.suite import Suite, load_suite
from parity.tests import suites
from parity.tests.browser import Browser
from parity.tests.suites import CASE, strict_json, write_suite
from parity.trajectory import TrajectoryError

HIT = "window.hit=1"
IMAGE = f"<img src=x onerror={HIT}>"
ATTRIBUTE = f'numpy-"\'onmouseover="{HIT}"<a href=javascript:{HIT}>b'
SCRIPT = f"</script></template><script>{HIT}</script><!--"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Path, list[Outcome]]]:
    """A suite with an implementation of each fate, its runs on disk, and what ``parity run`` made of them."""
    root = tmp_path_factory.mktemp("reported")
    wrong = {"numpy_wrong": suites.WRONG, "numpy_nan": suites.NAN, "numpy_raises": suites.RAISES}
    package = write_suite(root, numpy_honest=suites.HONEST, **wrong)
    sys.path.insert(0, str(root))
    suite, out = load_suite(package), root / "runs"
    yield suite, out, Matrix(Options(suite, out, lockstep=2)).run()
    sys.path.remove(str(root))


@pytest.fixture
def copied(made: tuple[Suite, Path, list[Outcome]], tmp_path: Path) -> Path:
    """A copy of the runs that a test may damage."""
    return Path(shutil.copytree(made[1], tmp_path / "runs"))


def change(run: Path, **meta: Any) -> None:
    """Let a trajectory say other things of itself."""
    found = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps(found | meta))


def only(outcomes: list[Outcome], implementation: str, dtype: str = "float64") -> Outcome:
    (found,) = (o for o in outcomes if (o.implementation, o.dtype) == (implementation, dtype))
    return found


# Judged from the folder alone


def test_a_folder_alone_is_judged_as_the_run_was(made: tuple[Suite, Path, list[Outcome]]) -> None:
    suite, out, ran = made
    found = recorded(out, suite)
    assert Counter(o.judgement.verdict for o in found) == {"PASS": 4, "FAIL": 4, "INCONCLUSIVE": 2}
    for before in ran:
        after = only(found, before.implementation, before.dtype)
        assert after.judgement.verdict is before.judgement.verdict
        assert (after.judgement.ratio, after.judgement.parameter) == (
            before.judgement.ratio,
            before.judgement.parameter,
        )
        # Why nothing was recorded is said with the run's name; a failure to explain is known to the run alone.
        assert before.judgement.reason.startswith(after.judgement.reason.rpartition("the last run failed: ")[2])
        assert after.explanation == before.explanation
        lockstep = [one.lockstep for one in after.judgement.evidence]
        assert lockstep == [one.lockstep for one in before.judgement.evidence]
    assert [one.lockstep for one in only(found, "numpy-honest").judgement.evidence] == [None, 2]
    assert any(o.explanation for o in found)


def test_of_the_documents_a_case_is_judged_with_its_published_figures(tmp_path: Path) -> None:
    suite = load_suite("impls")
    ran = Matrix(Options(suite, tmp_path, cases=["iris-logistic"], implementations=["numpy"])).run()
    found = recorded(tmp_path, suite)
    assert as_json(found) == as_json(sorted(ran, key=lambda o: o.dtype))
    assert all(len(o.figures) == 24 for o in found)


def test_what_cannot_be_judged_is_inconclusive_and_says_why(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    case = copied / CASE
    (case / "numpy-honest-float32-cpu" / "00000.safetensors").write_bytes(b"short")
    (case / "numpy-wrong-float32-cpu" / MANIFEST).unlink()
    (case / "numpy-nan-float32-cpu").rename(case / ".numpy-nan-float32-cpu.partial")
    change(case / "numpy-nan-float64-cpu", device="cuda")
    (case / "my-own-run").mkdir()
    (case / "my-own-run" / MANIFEST).write_text("{")
    newer = shutil.copytree(case / "numpy-honest-float64-cpu", case / ".numpy-honest-float64-cpu.partial")
    change(Path(newer), key="of other code", complete=False)
    (case / ".numpy-wrong-float64-cpu.partial").mkdir()
    found = recorded(copied, made[0])
    reasons = {f"{o.implementation}-{o.dtype}": o.judgement.reason for o in found}
    assert len(found) == 11
    assert "bytes where trajectory.json says" in reasons["numpy-honest-float32"]
    assert "is missing" in reasons["numpy-wrong-float32"]
    assert "a run that was not finished" in reasons["numpy-nan-float32"]
    assert "says of itself that its device is 'cuda'" in reasons["numpy-nan-float64"]
    assert "is no valid JSON" in reasons["my-own-run-?"]
    assert "a newer run was begun" in reasons["numpy-honest-float64"]
    assert "no such layer" in reasons["numpy-raises-float64"]
    assert only(found, "numpy-honest").judgement.verdict is Verdict.INCONCLUSIVE
    assert only(found, "numpy-wrong").judgement.verdict is Verdict.FAIL


def test_without_its_reference_or_its_floor_nothing_passes(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    shutil.rmtree(copied / "floors")
    assert {o.judgement.verdict for o in recorded(copied, made[0])} == {Verdict.INCONCLUSIVE}
    shutil.rmtree(copied / CASE / "numpy-float64-cpu")
    reasons = {o.judgement.reason for o in recorded(copied, made[0]) if o.run is not None}
    assert len(reasons) == 1
    assert "holds no reference run numpy-float64-cpu" in reasons.pop()


def test_a_run_whose_parameters_count_in_lockstep_needs_that_run(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    run, suite = copied / CASE / "numpy-honest-float32-cpu", in_lockstep(made[0])
    assert only(recorded(copied, suite), "numpy-honest", "float32").judgement.verdict is Verdict.PASS
    shutil.rmtree(run.with_name(f"{run.name}-lockstep2"))
    found = only(recorded(copied, suite), "numpy-honest", "float32")
    assert "no such run of the same code lies beside it" in found.judgement.reason


def in_lockstep(suite: Suite) -> Suite:
    """The suite with a case whose float32 parameters are asserted in lockstep alone."""
    entry = suite.entries[CASE]
    case = replace(entry.case, policy=Policy(float32_parameters="lockstep", reason="a test"))
    return replace(suite, entries={CASE: replace(entry, case=case)})


@pytest.mark.parametrize("word", ["lockstep", "never", "none", 0])
def test_a_recording_cannot_loosen_its_own_judgement(
    word: object, made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    """Its parameters are wrong and its losses right: that passes where a case of the suite says so alone."""
    suite, run = made[0], copied / CASE / "numpy-honest-float32-cpu"
    other = run.with_name("numpy-wrong-float32-cpu")
    right = read(run)
    wrong = {name: values[:] + np.float32(1) for name, values in right.params.items()}
    said = right.meta | {"implementation": "numpy-wrong", "float32_parameters": word}
    shutil.rmtree(other)
    write(other, right.epochs, right.loss, wrong, meta=said)
    shutil.rmtree(other.with_name(f"{other.name}-lockstep2"))
    assert only(recorded(copied, suite), "numpy-wrong", "float32").judgement.verdict is Verdict.FAIL
    for known in (NOTHING, Known(suite, mark)):
        (found,) = compare_folders(other, run, known=known)
        assert found.judgement.verdict is Verdict.FAIL
        assert any("which no suite confirms" in note for note in found.notes)
    (found,) = compare_folders(other, run, known=Known(in_lockstep(suite), mark))
    assert found.judgement.verdict is Verdict.PASS


def test_a_run_in_lockstep_of_other_code_is_not_judged(made: tuple[Suite, Path, list[Outcome]], copied: Path) -> None:
    run = copied / CASE / "numpy-honest-float64-cpu"
    shutil.rmtree(run.with_name(f"{run.name}-lockstep2"))
    (copied / CASE / "numpy-wrong-float64-cpu-lockstep2").rename(run.with_name(f"{run.name}-lockstep2"))
    change(run.with_name(f"{run.name}-lockstep2"), implementation="numpy-honest")
    found = only(recorded(copied, made[0]), "numpy-honest")
    assert found.judgement.verdict is Verdict.PASS
    assert [one.lockstep for one in found.judgement.evidence] == [None]


def test_a_new_recording_takes_a_failure_and_an_explanation_away(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    suite = made[0]
    assert (copied / CASE / ".numpy-raises-float64-cpu.failed").read_text() == "ValueError: no such layer"
    (copied / CASE / ".numpy-honest-float64-cpu.failed").write_text("it was too warm")
    assert "it was too warm" in only(recorded(copied, suite), "numpy-honest").judgement.reason
    run = copied / CASE / "numpy-honest-float64-cpu"
    (run / EXPLANATION).write_text("{}")
    Matrix(Options(suite, copied, implementations=["numpy-honest"], lockstep=2, fresh=True)).run()
    assert only(recorded(copied, suite), "numpy-honest").judgement.verdict is Verdict.PASS
    assert not (run / EXPLANATION).exists()


def test_a_folder_without_runs_is_refused(made: tuple[Suite, Path, list[Outcome]], tmp_path: Path) -> None:
    suite, out, _ = made
    (tmp_path / "notes" / "today").mkdir(parents=True)
    for folder, complaint in (
        (tmp_path, "holds no recorded runs"),
        (tmp_path / "nowhere", "is not a folder"),
        (out / CASE / "numpy-float64-cpu", "is one trajectory"),
    ):
        with pytest.raises(TrajectoryError, match=complaint):
            recorded(folder, suite)


# What the page holds


@given(
    st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=700),
    st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=700),
)
def test_thinning_keeps_the_extremes_of_every_stretch(one: list[float], other: list[float]) -> None:
    count = min(len(one), len(other))
    a, b = np.array(one[:count] * 9), np.array(other[:count] * 9)
    places = html.drawn(a, -a, b)
    assert places[0] == 0
    assert places[-1] == len(a) - 1
    assert len(places) <= max(2 * html.BINS, 3 * html.BINS + 2)
    width = -(-len(a) // html.BINS)
    for start in range(0, len(a), width):
        inside = places[(places >= start) & (places < start + width)]
        assert a[inside].max() == a[start : start + width].max()
        assert a[inside].min() == a[start : start + width].min()
        assert np.array_equal(b[inside].max(), b[start : start + width].max(), equal_nan=True)


def test_an_excess_of_one_place_among_many_is_drawn() -> None:
    distances, shares = np.full(50_000, 1e-9), np.full(50_000, 1e-3)
    distances[31_415], shares[27_182] = 1e-3, 2.0
    assert {31_415, 27_182} <= set(html.drawn(distances, shares).tolist())


def test_the_page_is_small(made: tuple[Suite, Path, list[Outcome]]) -> None:
    ran = made[2]
    assert len(html.page(ran)) < 6e6
    one, ten = (len(json.dumps(html._Content(list(ran) * times).data())) for times in (1, 10))
    # What cells share is held once: ten times the cells bring no series of their own.
    assert len(html._Content(list(ran) * 10).data()["series"]) <= len(html._Content(ran).data()["series"])
    assert ten < 10 * one


class Parsed(HTMLParser):
    """The page as a browser takes it apart: its elements, their attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def hostile(made: tuple[Suite, Path, list[Outcome]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a stranger's, whose every name and text tries to become script."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(made[1] / CASE, root / IMAGE)
    shutil.copytree(made[1] / "floors", root / "floors")
    for floor in (root / "floors").iterdir():
        floor.rename(floor.with_name(floor.name.replace(CASE, IMAGE)))
    for run in (root / IMAGE).glob("*/"):
        bad = {
            "seconds": 10**400,
            "versions": {SCRIPT: SCRIPT, IMAGE: IMAGE},
            "platform": {SCRIPT: [IMAGE]},
            "hyper_parameters": SCRIPT,
        }
        change(run, case=IMAGE, **bad)
        for explanation in run.glob(EXPLANATION):
            found = json.loads(explanation.read_text())
            explanation.write_text(json.dumps(found | {"explanation": {"sentence": SCRIPT, "why": [SCRIPT]}}))
    renamed = (root / IMAGE / "numpy-honest-float64-cpu").rename(root / IMAGE / f"{ATTRIBUTE}-float64-cpu")
    change(renamed, implementation=ATTRIBUTE)
    (root / IMAGE / ".numpy-raises-float64-cpu.failed").write_text(SCRIPT)
    return root


def test_a_hostile_trajectory_stays_text(made: tuple[Suite, Path, list[Outcome]], hostile: Path) -> None:
    suite, _, ran = made
    honest, parsed = Parsed(html.page(ran)), Parsed(html.page(recorded(hostile, suite)))
    for tag in ("script", "img", "iframe", "link", "object", "style", "base", "form"):
        assert parsed.tags[tag] == honest.tags[tag], tag
    assert not [name for name, _ in parsed.attributes if name.startswith("on") or name in ("src", "style")]
    assert not [value for name, value in parsed.attributes if name == "href" and not value.startswith("#")]
    words = "".join(parsed.words)
    assert IMAGE in words
    assert SCRIPT in words
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', html.page(recorded(hostile, suite)))
    assert data is not None
    assert "<" not in data[1]
    found = strict_json(data[1])
    assert found["cases"][0]["name"] == IMAGE
    assert any(cell["implementation"] == ATTRIBUTE and cell["verdict"] == "PASS" for cell in found["cells"])
    assert any(cell["explanation"] == SCRIPT for cell in found["cells"])


def test_our_own_scripts_cannot_end_early() -> None:
    assert "</script" not in resource("report.js").lower()
    assert "innerHTML" not in resource("report.js")


def test_a_stranger_s_explanation_of_something_else_is_left_out(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    kept = copied / CASE / "numpy-wrong-float64-cpu" / EXPLANATION
    honest = kept.read_text()
    for content in ("", "[]", "{", '{"of": "another reason", "explanation": {"sentence": "x"}}', "[" * 100_000):
        kept.write_text(content)
        assert only(recorded(copied, made[0]), "numpy-wrong").explanation is None
    kept.write_text(json.dumps(json.loads(honest) | {"explanation": {"sentence": 5}}))
    assert only(recorded(copied, made[0]), "numpy-wrong").explanation is None


# The other forms


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
    assert f"| {CASE} | 0 of 2 |" in text
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


# Written by parity run


def test_a_run_writes_the_page_and_leaves_it_where_nothing_changed(
    made: tuple[Suite, Path, list[Outcome]], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**options: Any) -> str:
        with pytest.raises(SystemExit) as ended:
            cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied, **options)
        assert ended.value.code == 0
        return capsys.readouterr().out

    page = copied / "report.html"
    assert "report:" not in run(page=False)
    assert not page.exists()
    assert run().endswith(f"report: {page}\n")
    written = page.stat().st_mtime_ns
    run()
    assert page.stat().st_mtime_ns == written
    # A call for one cell leaves the others on the page.
    assert "numpy-wrong" in page.read_text()
    run(dtype=["float64"])
    assert page.stat().st_mtime_ns == written
    shutil.rmtree(copied / CASE / "numpy-wrong-float32-cpu")
    run(dtype=["float64"])
    assert page.stat().st_mtime_ns != written


@pytest.mark.parametrize(
    "changed",
    [
        *("report/html.py", "report/page.py", "report/words.py", "report/report.html", "report/report.js"),
        *("judging/published.py", "suite.py", "toy/spec.py", "toy/toy_numpy_wrong.py"),
    ],
)
def test_a_page_is_made_anew_when_what_it_draws_from_changed(
    changed: str, made: tuple[Suite, Path, list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [o for o in made[2] if o.implementation == "numpy-honest"]
    before, read_bytes = fingerprint(some), Path.read_bytes
    assert fingerprint(some) == before
    seen = []

    def edited(path: Path) -> bytes:
        if not path.as_posix().endswith(f"/{changed}"):
            return read_bytes(path)
        seen.append(path)
        return read_bytes(path) + b"\n"

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert fingerprint(some) != before
    assert seen


def test_a_page_is_made_anew_when_a_run_says_other_things_of_itself(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    before = fingerprint(recorded(copied, made[0]))
    change(copied / CASE / "numpy-honest-float64-cpu", threads=7)
    assert fingerprint(recorded(copied, made[0])) != before


@pytest.mark.parametrize("package", ["jinja2", "plotly", "pygments"])
def test_without_what_a_page_needs_a_run_still_says_its_verdict(
    package: str,
    made: tuple[Suite, Path, list[Outcome]],
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied)
    assert ended.value.code == 0
    assert (
        f"no report: a page needs {package}, which is not installed: python -m pip install" in capsys.readouterr().out
    )
    assert not (copied / "report.html").exists()
    with pytest.raises(SystemExit) as ended:
        recordings.report(copied, suite=made[0].package)
    assert ended.value.code == 2


# In a browser

PLOTS = "[...document.querySelectorAll('.plot')]"
FIGURES = f"{PLOTS}.length === 2 && {PLOTS}.every((plot) => plot.querySelector('.main-svg'))"


def test_without_a_browser_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="apt-get install chromium"):
        Browser()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def page(made: tuple[Suite, Path, list[Outcome]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.page(recorded(made[1], made[0])), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_reader_finds_the_way_through_the_page(browser: Browser, page: Path, scheme: str) -> None:
    browser.errors.clear()
    browser.scheme(scheme)
    browser.open(page)
    assert "10 cells: 4 PASS, 4 FAIL, 2 INCONCLUSIVE" in browser.text("#matrix")
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (max(map(int, re.findall(r"\d+", paper))) > 128) == (scheme == "light")

    # By keyboard: the cell has the focus, Enter opens it.
    browser.evaluate("document.querySelector('a.cell.fail[aria-label*=\"numpy-wrong, float64\"]').focus()")
    browser.press("Enter", 13)
    browser.wait(FIGURES)
    assert browser.text("#verdict") == "✗ FAIL"
    assert browser.text("#reason").startswith("first differs at epoch 1, batch 1: loss is")
    assert browser.evaluate("document.activeElement.tagName") == "H1"
    assert browser.evaluate("location.hash") == f"#{CASE}/numpy-wrong/float64/cpu"
    assert "numpy" in browser.text(".facts")
    ink = browser.evaluate("getComputedStyle(document.querySelector('.plot .xtitle')).fill")
    assert ink == browser.evaluate("getComputedStyle(document.body).color")

    caption = "document.querySelectorAll('figcaption')[1].innerText"
    assert "difference of loss" in browser.evaluate(caption)
    browser.evaluate("document.querySelector('#quantity').value = 'dense/bias'")
    browser.evaluate("document.querySelector('#quantity').dispatchEvent(new Event('change'))")
    assert "difference of dense/bias" in browser.evaluate(caption)
    browser.wait(FIGURES)
    drawn = "document.querySelectorAll('.plot')[1].data.find((trace) => trace.name === 'distance').y"
    distances = browser.evaluate(drawn)
    assert len(distances) == 7
    assert max(filter(None, distances)) > 1e-3

    # By a click: to the case, whose sources stand side by side, and another beside them.
    browser.evaluate("document.querySelector('nav.way a:nth-of-type(2)').click()")
    browser.wait("document.querySelectorAll('.columns section').length === 2")
    browser.evaluate("document.querySelector('.chips input[value=\"numpy-wrong\"]').click()")
    browser.wait("document.querySelectorAll('.columns section').length === 3")
    assert "planted.learning_rate(toy.build)" in browser.text(".columns")
    assert browser.evaluate("document.querySelectorAll('.columns .kn').length") >= 3
    assert "Sgd: learning_rate 0.1, momentum 0.9" in browser.text(".facts")

    browser.evaluate("location.hash = ''")
    browser.wait("!document.querySelector('#matrix').hidden")
    assert browser.errors == []
    assert browser.asked == []


def test_a_link_leads_to_a_cell_in_lockstep(browser: Browser, page: Path) -> None:
    browser.errors.clear()
    browser.open(page, f"#{CASE}/numpy-nan/float32/cpu")
    browser.wait(FIGURES)
    assert "dense/kernel[2, 2] is nan" in browser.text("#reason")
    browser.evaluate(f"location.hash = '{CASE}/numpy-honest/float32/cpu'")
    browser.wait("document.querySelector('#kind')?.options.length === 2")
    kinds = browser.evaluate("[...document.querySelector('#kind').options].map((option) => option.text)")
    assert kinds == ["of the free run", "in lockstep, from the reference's state every 2 epochs"]
    browser.evaluate(f"location.hash = '{CASE}/numpy-raises/float32/cpu'")
    browser.wait("document.querySelector('#verdict').innerText === '? INCONCLUSIVE'")
    assert "no such layer" in browser.text("#reason")
    browser.evaluate("location.hash = 'nothing/of/the/kind%'")
    browser.wait("!document.querySelector('#matrix').hidden")
    assert browser.errors == []


def test_a_phone_and_a_printer_show_the_whole_width(browser: Browser, page: Path) -> None:
    browser.size(390, 800, phone=True)
    browser.open(page, f"#{CASE}?numpy,numpy-wrong")
    browser.wait("document.querySelectorAll('.columns section').length === 2")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.evaluate("location.hash = ''")
    browser.wait("!document.querySelector('#matrix').hidden")
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.size(1300, 900)
    browser.scheme("dark", "print")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    browser.scheme("light")


def test_a_hostile_trajectory_runs_nothing(
    browser: Browser, made: tuple[Suite, Path, list[Outcome]], hostile: Path, tmp_path: Path
) -> None:
    browser.errors.clear()
    path = tmp_path / "report.html"
    path.write_text(html.page(recorded(hostile, made[0])), encoding="utf-8")
    browser.open(path)
    links = browser.evaluate("[...document.querySelectorAll('#matrix a')].map((link) => link.hash)")
    assert len(links) >= 11
    for link in dict.fromkeys(links):
        browser.evaluate(f"location.hash = {json.dumps(link)}")
        browser.wait("document.querySelector('#view h1')")
        browser.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)))")
        browser.evaluate("for (const one of document.querySelectorAll('*')) one.dispatchEvent(new Event('mouseover'))")
    browser.evaluate(f"location.hash = {json.dumps('#' + quoted(IMAGE, 'numpy-wrong', 'float64', 'cpu'))}")
    browser.wait(FIGURES)
    assert browser.text("#explanation") == SCRIPT
    # Drawn by plotly.js as the letters that it is.
    assert ATTRIBUTE in browser.evaluate("[...document.querySelectorAll('.legendtext')].map((one) => one.textContent)")
    assert browser.evaluate("document.querySelectorAll('.plot a, img, #view script').length") == 0
    assert browser.evaluate("window.hit === undefined")
    assert browser.errors == []
    assert browser.asked == []


def quoted(*parts: str) -> str:
    from urllib.parse import quote

    return "/".join(quote(part, safe="!~*'()") for part in parts)
