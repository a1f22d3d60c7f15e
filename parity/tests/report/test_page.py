"""What the page holds, and that no file can hurt."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from parity.judging.folder import recorded
from parity.judging.outcome import Outcome
from parity.recording.places import EXPLANATION
from parity.report import html
from parity.report.curves import BINS, drawn
from parity.report.page import resource
from parity.suite import Suite
from parity.tests.report.runs import ATTRIBUTE, IMAGE, SCRIPT, only
from parity.tests.suites import CASE, strict_json


@given(
    st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=700),
    st.lists(st.floats(allow_nan=True, width=32), min_size=1, max_size=700),
)
def test_thinning_keeps_the_extremes_of_every_stretch(one: list[float], other: list[float]) -> None:
    count = min(len(one), len(other))
    a, b = np.array(one[:count] * 9), np.array(other[:count] * 9)
    places = drawn(a, -a, b)
    assert places[0] == 0
    assert places[-1] == len(a) - 1
    assert len(places) <= max(2 * BINS, 3 * BINS + 2)
    width = -(-len(a) // BINS)
    for start in range(0, len(a), width):
        inside = places[(places >= start) & (places < start + width)]
        assert a[inside].max() == a[start : start + width].max()
        assert a[inside].min() == a[start : start + width].min()
        assert np.array_equal(b[inside].max(), b[start : start + width].max(), equal_nan=True)


def test_an_excess_of_one_place_among_many_is_drawn() -> None:
    distances, shares = np.full(50_000, 1e-9), np.full(50_000, 1e-3)
    distances[31_415], shares[27_182] = 1e-3, 2.0
    assert {31_415, 27_182} <= set(drawn(distances, shares).tolist())


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
