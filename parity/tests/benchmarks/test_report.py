"""The report of the benchmarks: limits, tables and the page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import build, markdown, page
from benchmarks.result import read
from parity.tests.benchmarks.figures import HOSTILE, entry, hostile, tables, whole, write
from parity.tests.browser import Browser


def test_ratios_are_taken_round_by_round_and_limits_held_to_the_median(tmp_path: Path) -> None:
    text = markdown(build(read(write(tmp_path / "run.json", whole()))))
    assert "| exceeded | iris-logistic: torch, over the listing | 1.00 × (0.50 – 1.50) | 0.9 × |" in text
    assert "| holds | iris-logistic: the fastest (numpy), over the listing | 0.10 × (0.10 – 0.10) | 0.2 × |" in text
    assert "| exceeded | char-gru: jax recorded, over training alone | 1.20 × (1.20 – 1.20) | 1.1 × |" in text
    assert "| exceeded | parity run: everything, run for the first time | 250 s | 240 s |" in text
    assert "| holds | parity run: everything, run again | 2.25 s | 3 s |" in text
    assert "| exceeded | comparison, rounding: over numpy.testing.assert\\_allclose | 0.062 × | 0.05 × |" in text
    assert "| holds | comparison: memory beyond the arrays | 1.0 MiB | 64.0 MiB |" in text
    assert "| holds | equal bytes: over copy | 1.00 × | 2 × |" in text
    assert "| exceeded | matching 100,000,000 values | 6 s | 5 s |" in text
    assert "5 of 10 limits hold" in text


def test_no_limit_is_asked_of_a_part_of_the_matrix(tmp_path: Path) -> None:
    cold = entry("test_cold", "matrix", [250.0], arguments=["iris-logistic"], recorded_runs=7, breakdown={})
    assert "What is asked" not in markdown(build(read(write(tmp_path / "run.json", [cold]))))


def test_every_benchmark_has_its_row_and_every_row_its_cells(tmp_path: Path) -> None:
    text = markdown(build(read(write(tmp_path / "run.json", whole()))))
    for table in tables(text):
        assert len({len(row) for row in table}) == 1
    cells = [" ".join(row) for table in tables(text) for row in table]
    for words in (
        ("iris-logistic", "numpy", "25 /s"),
        ("linear-minibatch", "numpy", "10 /s"),
        ("char-gru", "jax", "1.20 ×"),
        ("comparison, rounding", "parity", "500 ms", "1.0 MiB"),
        ("scaling", "1,000,000", "1 ms"),
        ("two checkpoints matched, 48 of 48 tensors proven", "100,000,000", "6 s", "3.0 MiB"),
        ("two updates explained, 200 layers", "10,000,000", "8 s", "400.0 MiB"),
        ("parity --help", "100 ms", "0.50 ×"),
        ("torch", "9 s"),
        ("judging", "2 s"),
        ("page", "1 s"),
        ("everything else", "488 s"),
    ):
        assert any(all(word in cell for word in words) for cell in cells), words


def test_what_was_not_measured_is_told(tmp_path: Path) -> None:
    run = write(tmp_path / "run.json", whole(), unmeasured={"x.py::test_training[a-jax]": "jax not installed"})
    assert "| test\\_training\\[a-jax\\] | jax not installed |" in markdown(build(read(run)))


# The page.


class References(HTMLParser):
    """What a page would fetch, and the tags that it has outside of its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.texts: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.inside = tag if tag in ("script", "style") else ""
        self.fetched += [
            value or "" for name, value in attributes if name in ("src", "href", "data", "srcset", "action")
        ]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "style":
            assert "url(" not in data
            assert "@import" not in data
        elif not self.inside:
            self.texts.append(data)


def test_the_page_fetches_nothing_and_escapes_names(tmp_path: Path) -> None:
    run = write(tmp_path / "run.json", hostile(), unmeasured={HOSTILE: HOSTILE})
    html = page(build(read(run), read(run)))
    references = References()
    references.feed(html)
    assert references.fetched
    assert all(reference.startswith("#part") for reference in references.fetched)
    assert "<script>alert" not in html
    assert any(HOSTILE in text for text in references.texts)


def test_markdown_takes_a_name_for_text(tmp_path: Path) -> None:
    run = write(tmp_path / "run.json", hostile(), unmeasured={HOSTILE: HOSTILE})
    text = markdown(build(read(run), read(run)))
    assert "<script" not in text
    assert all(len({len(row) for row in table}) == 1 for table in tables(text))


@pytest.mark.parametrize(
    ("scheme", "ink"),
    [
        pytest.param("light", "rgb(27, 31, 36)", id="light"),
        pytest.param("dark", "rgb(227, 231, 236)", id="dark", marks=pytest.mark.slow),
    ],
)
def test_the_page_draws_every_figure_in_the_readers_colours(tmp_path: Path, scheme: str, ink: str) -> None:
    file = tmp_path / "page.html"
    file.write_text(page(build(read(write(tmp_path / "run.json", hostile())))), encoding="utf-8")
    with Browser() as browser:
        browser.scheme(scheme)
        browser.open(file)
        figures = browser.evaluate("document.querySelectorAll('figure').length")
        assert figures >= 12
        browser.wait(f"document.querySelectorAll('figure .js-plotly-plot .main-svg').length >= {figures}")
        inks = browser.evaluate("[...document.querySelectorAll('figure svg text')].map((text) => text.style.fill)")
        assert ink in inks
        assert browser.evaluate("document.querySelectorAll('body script:not([src])').length") == document_scripts(file)
        assert (browser.errors, browser.asked) == ([], [])


def document_scripts(file: Path) -> int:
    """The script elements that the page itself has: more of them in the browser would be a name's."""
    return file.read_text(encoding="utf-8").count("<script")


@pytest.mark.parametrize(
    ("commit", "said"),
    [
        ({"id": "abcdef0123456", "dirty": False}, "commit abcdef0123"),
        ({"id": "abcdef0123456", "dirty": True}, "commit abcdef0123 and changes"),
        ({"id": "unversioned"}, ""),
        ({}, ""),
    ],
)
def test_the_commit_is_shown_where_it_is_known(commit: dict[str, Any], said: str, tmp_path: Path) -> None:
    found = read(write(tmp_path / "run.json", whole(), commit_info=commit))
    assert found.version == said
    assert ("commit" in markdown(build(found, found))) == bool(said)
