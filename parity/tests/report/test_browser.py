"""The page in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.judging.folder import recorded
from parity.judging.outcome import Outcome
from parity.report import html
from parity.suite import Suite
from parity.tests.browser import Browser
from parity.tests.report.runs import ATTRIBUTE, IMAGE, SCRIPT
from parity.tests.suites import CASE
from parity.trajectory import Trajectory

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


@pytest.mark.slow
def test_metrics_are_drawn_beside_those_of_the_other_runs(
    browser: Browser, made: tuple[Suite, Path, list[Outcome]], tmp_path: Path
) -> None:
    """One of them by a name that tries to become script, one with a snapshot that has no value."""

    def counted(run: Trajectory | None) -> Trajectory | None:
        if run is None:
            return None
        cost = np.linspace(5, 1, len(run.epochs))
        cost[1] = np.nan
        return replace(run, metrics={IMAGE: np.linspace(0.5, 1, len(run.epochs)), "cost": cost})

    outcomes = [replace(o, run=counted(o.run), reference=counted(o.reference)) for o in recorded(made[1], made[0])]
    path = tmp_path / "report.html"
    path.write_text(html.page(outcomes), encoding="utf-8")
    browser.errors.clear()
    browser.open(path, f"#{CASE}/numpy-honest/float32/cpu")
    browser.wait(FIGURES.replace("=== 2", "=== 3"))
    assert browser.evaluate("[...document.querySelector('#metric').options].map((option) => option.text)") == [
        IMAGE,
        "cost",
    ]
    names = f"{PLOTS}[1].data.map((trace) => trace.name)"
    assert browser.evaluate(names)[0] == "numpy-honest"
    assert {"numpy", "reference"} <= set(browser.evaluate(names))
    browser.evaluate("document.querySelector('#metric').value = 'cost'")
    browser.evaluate("document.querySelector('#metric').dispatchEvent(new Event('change'))")
    browser.wait(FIGURES.replace("=== 2", "=== 3"))
    drawn = browser.evaluate(f"{PLOTS}[1].data[0].y")
    assert (drawn[0], drawn[1], drawn[-1]) == (5, None, 1)
    assert "it has no value" in browser.evaluate("document.querySelectorAll('figcaption')[1].innerText")
    assert not browser.evaluate("Boolean(window.hit)")
    assert browser.errors == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
