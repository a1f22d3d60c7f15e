"""Two recordings beside each other: the page, and what a notebook draws."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import parity as public
from parity.explaining.layers.beside import side_by_side
from parity.explaining.layers.find import find_layers
from parity.recording.reader import read
from parity.report.curves import Line, figure
from parity.report.markup import element
from parity.tests.browser import Browser
from parity.tests.command import Parity, complaint, make_run
from parity.tests.report.pairs import pair
from parity.tests.report.runs import ATTRIBUTE, HIT, IMAGE, SCRIPT
from parity.tests.report.test_page import Parsed
from parity.tests.suites import strict_json

HOSTILE = f"{IMAGE}{SCRIPT}{ATTRIBUTE}\x1b[2J\u202e</style><style>*{{display:none}}"
MARKED = re.compile(r"<tr class=\"first bad\">(.*?)</tr>", re.DOTALL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return pair(tmp_path_factory.mktemp("strange"), HOSTILE)


def page_of(parity: Parity, a: Path, b: Path) -> str:
    result = parity("explain", a, b, "--page", "page.html")
    assert result.status in (0, 1, 3), result
    return Path("page.html").read_text(encoding="utf-8")


# The page


def test_the_page_of_runs_that_part_marks_the_first_layer(parity: Parity, runs: tuple[Path, Path, Path]) -> None:
    text = page_of(parity, runs[0], runs[2])
    words = "".join(Parsed(text).words)
    for part in (
        "✗ FAIL",
        "rounding alone: no noise floor was measured",
        "First differs at epoch 1, batch 0, prediction.",
        "1 (LayerNorm) ↔ LayerNorm_0 (LayerNorm): inputs agree",
        "2 of 2 tensors matched, all proven",
    ):
        assert part in words
    (marked,) = MARKED.findall(text)
    assert [part in marked for part in ("LayerNorm_0", "first to part", "epsilon 1e-05 against 0.001")] == [True] * 3
    # Losses, their distance and the shares of tensors.
    assert Parsed(text).tags["svg"] == 3


def test_the_page_of_runs_that_agree_marks_none(parity: Parity, runs: tuple[Path, Path, Path]) -> None:
    text = page_of(parity, *runs[:2])
    assert "✓ PASS" in text
    assert not MARKED.findall(text)
    assert "first to part" not in text


def test_the_page_of_runs_without_layers_says_so(parity: Parity, tmp_path: Path) -> None:
    def other(run: dict[str, Any]) -> None:
        run["loss"] = run["loss"] + 1

    text = page_of(parity, make_run(tmp_path / "a"), make_run(tmp_path / "b", other))
    assert "No layers were recorded by both runs." in text
    assert "dense/kernel" in text


def test_a_page_belongs_to_two_recordings_and_to_a_folder(parity: Parity, runs: tuple[Path, Path, Path]) -> None:
    case = parity("explain", "iris-logistic", "--page", "page.html")
    assert "--page belongs to two trajectories" in complaint(case)
    assert "no such folder" in complaint(parity("explain", *runs[:2], "--page", "nowhere/page.html"))
    assert not Path("page.html").exists()


def test_hostile_recordings_stay_text_on_the_page_and_in_a_notebook(
    parity: Parity, runs: tuple[Path, Path, Path], strange: tuple[Path, Path, Path]
) -> None:
    honest, hostile = (page_of(parity, found[0], found[2]) for found in (runs, strange))
    drawn = public.read(strange[2])._repr_html_() + public.compare(strange[0], strange[2])._repr_html_()
    plain = public.read(runs[2])._repr_html_() + public.compare(runs[0], runs[2])._repr_html_()
    for ours, theirs in ((honest, hostile), (plain, drawn)):
        safe, found = Parsed(ours), Parsed(theirs)
        for tag in ("script", "img", "iframe", "link", "object", "style", "base", "form", "a", "template"):
            assert found.tags[tag] == safe.tags[tag], tag
        assert {name for name, _ in found.attributes} == {name for name, _ in safe.attributes}
        assert IMAGE in "".join(found.words)
        assert not any(letter in theirs for letter in "\x1b\u202e")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_whole_on_a_phone_and_runs_nothing(
    browser: Browser, parity: Parity, strange: tuple[Path, Path, Path], scheme: str
) -> None:
    page_of(parity, strange[0], strange[2])
    browser.errors.clear()
    browser.scheme(scheme)
    browser.size(390, 800, phone=True)
    browser.open(Path("page.html").resolve())
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    assert browser.evaluate("window.hit === undefined")
    assert browser.asked == []
    assert browser.errors == []
    assert "first to part" in browser.text("main")
    assert HIT in browser.text("main")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as opened:
        yield opened


# The layers


def test_layers_stand_side_by_side_in_order(runs: tuple[Path, Path, Path]) -> None:
    ours, right, wrong = map(read, runs)
    rows = side_by_side(ours, right, None)
    names = [(row.ours and row.ours[0], row.theirs and row.theirs[0]) for row in rows]
    assert names == [("0", "Dense_0"), ("1", "LayerNorm_0"), ("2", "Dense_1")]
    assert [row.how for row in rows] == ["value"] * 3
    assert all(row.floors is not None and row.floors <= 16 for row in rows)
    found = find_layers(ours, wrong)
    assert found is not None
    rows = side_by_side(ours, wrong, found.as_json())
    assert [row.how for row in rows] == ["value", "parting", "order"]
    assert [row.parting for row in rows] == [None, 0, None]


def test_functions_that_part_have_a_row_before_the_layer_that_takes_them(runs: tuple[Path, Path, Path]) -> None:
    place = {"name": None, "kind": None, "configuration": {}, "with": [], "after": ["0"], "before": "1"}
    parting = {"ours": place, "theirs": None, "output": 70.0, "differences": []}
    rows = side_by_side(read(runs[0]), read(runs[1]), {"step": 0, "partings": [parting]})
    assert [row.ours and row.ours[0] for row in rows] == ["0", "functions", "1", "2"]
    assert rows[1].parting == 0
    assert rows[1].theirs is None
    last = parting | {"ours": place | {"before": ""}}
    rows = side_by_side(read(runs[0]), read(runs[1]), {"step": 0, "partings": [last]})
    assert rows[-1].parting == 0


# A notebook


def test_a_run_and_a_comparison_draw_themselves(runs: tuple[Path, Path, Path]) -> None:
    run, found = public.read(runs[0]), public.compare(runs[0], runs[2])
    assert repr(run) == "<Trajectory 'torch': 6 epochs, 7 snapshots, 2 tensors>"
    drawn = Parsed(run._repr_html_())
    assert drawn.tags["svg"] == 1
    assert "3 layers" in "".join(drawn.words)
    compared = found._repr_html_()
    assert len(MARKED.findall(compared)) == 1
    assert Parsed(compared).tags["svg"] == 3
    assert not Parsed(compared).tags["script"]
    assert not re.findall(r"(?:src|href)=|url\(|@import", compared)


def test_it_draws_without_the_packages_of_pages(runs: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        assert name.split(".")[0] not in ("jinja2", "plotly", "pygments", "matplotlib"), name
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "<svg" in public.read(runs[0])._repr_html_()
    assert "<svg" in public.compare(*runs[:2])._repr_html_()


def test_a_comparison_whose_runs_are_gone_shows_its_verdict(tmp_path: Path) -> None:
    runs = pair(tmp_path)
    found = public.compare(runs[0], runs[2])
    (runs[0] / "trajectory.json").unlink()
    drawn = found._repr_html_()
    assert "✗ FAIL" in drawn
    assert "Nothing more is drawn" in drawn


# Curves


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=300), st.booleans())
def test_any_numbers_are_drawn_within_the_picture(values: list[float], logarithmic: bool) -> None:
    y = np.array(values)
    y = np.abs(y) if logarithmic else y
    drawn = figure("any", [Line("a", "a", np.arange(len(y)), y)], "update", logarithmic)
    root = ElementTree.fromstring(drawn)
    box = root.find("svg")
    assert (box is not None) == bool(np.isfinite(y).any())
    for points in root.iterfind("svg/polyline"):
        places = [tuple(map(float, point.split(","))) for point in points.attrib["points"].split()]
        assert all(0 <= x <= 481 and 0 <= height <= 180 for x, height in places)


def test_an_element_escapes_all_that_is_not_its_own() -> None:
    made = element("td", IMAGE, element("b", SCRIPT), title=ATTRIBUTE)
    parsed = Parsed(made)
    assert dict(parsed.tags) == {"td": 1, "b": 1}
    assert parsed.attributes == [("title", ATTRIBUTE)]
    assert "".join(parsed.words) == IMAGE + SCRIPT


# JSON


def test_explain_s_json_has_the_matched_tensors(parity: Parity, runs: tuple[Path, Path, Path]) -> None:
    parity("explain", runs[0], runs[2], "--json", "found.json")
    (found,) = strict_json(Path("found.json").read_text(), "explain")["explanations"]
    parity("match", runs[0], runs[2], "--json", "map.json")
    assert found["matched"] == json.loads(Path("map.json").read_text())
    assert found["layer"]["partings"][0]["theirs"]["name"] == "LayerNorm_0"
    assert found["others"] == []
