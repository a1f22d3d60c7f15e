"""The pages of sweeps and of runs with other seeds: what is drawn lies where it should, and no name becomes markup."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from parity.judging.seeds import compare_seeds
from parity.judging.verdict import Verdict
from parity.report import bands, sweep
from parity.report.curves import WIDTH, Band, Line, figure
from parity.report.strips import ABOVE, BELOW, Strip, strips
from parity.report.terminal import as_text
from parity.running.sweep import Row, Seeded, Sweep
from parity.tests.browser import Browser
from parity.tests.report.test_page import Parsed
from parity.tests.report.test_pair import HOSTILE
from parity.trajectory import Trajectory


def swept(name: str, reason: str) -> Sweep:
    cells = [Seeded(k, Verdict.PASS, 0.01 * k, 1, "loss") for k in range(3)]
    cells += [
        Seeded(3, Verdict.FAIL, math.inf, 2, name, reason, reason),
        Seeded(4, Verdict.INCONCLUSIVE, None, None, None, reason),
    ]
    return Sweep(tuple(range(5)), (Row(name, name, f"torch-{name}", "float64", "cpu", tuple(cells)),))


def test_the_page_of_a_sweep_has_a_mark_and_a_dot_for_each_seed() -> None:
    text = sweep.page(swept("line", "it parts"))
    words = "".join(Parsed(text).words)
    assert "✓✓✓✗?" in words
    assert "seed 3: it parts; it parts" in words
    assert text.count("<circle") == 4, "what could not be judged used nothing"
    assert text.count('class="dot beyond"') == 1
    assert 'title="seed 2: PASS, .02 of the tolerance"' in text


def test_a_narrow_terminal_shows_every_name_whole_and_leaves_the_marks_out() -> None:
    cells = tuple(Seeded(seed, Verdict.PASS, 0.1, 1, "loss") for seed in range(48))
    found = Sweep(tuple(range(48)), (Row("iris-logistic-minibatch", None, "torch-autograd", "float64", "cpu", cells),))
    for width, marks in ((80, False), (170, True)):
        console = Console(file=io.StringIO(), width=width)
        sweep.print_sweep(console, found, 1.0)
        table = console.file.getvalue().splitlines()[1]
        assert table.split()[:4] == ["iris-logistic-minibatch", "torch-autograd", "float64", "48"]
        assert ("✓" * 48 in table) == marks


def test_no_name_in_a_sweep_becomes_markup() -> None:
    honest, parsed = Parsed(sweep.page(swept("line", "it parts"))), Parsed(sweep.page(swept(HOSTILE, HOSTILE)))
    assert parsed.tags == honest.tags
    assert [name for name, _ in parsed.attributes] == [name for name, _ in honest.attributes]
    said = as_text(lambda console: sweep.print_sweep(console, swept(HOSTILE, f"{HOSTILE}\nPASS"), 1.0))
    assert "\x1b" not in said
    assert "\nPASS" not in said


def runs(seed: int, count: int, name: str = "dense/kernel") -> list[Trajectory]:
    draw = np.random.default_rng(seed)
    losses, params = np.exp(draw.normal(size=(count, 6, 2))), draw.normal(size=(count, 7, 3))
    return [
        Trajectory({"dtype": "float64", "device": name}, np.arange(7), loss, {name: kernel}, {})
        for loss, kernel in zip(losses, params, strict=True)
    ]


def test_no_name_on_the_page_of_many_runs_becomes_markup() -> None:
    def page(name: str) -> Parsed:
        ours, theirs = runs(0, 4, name), runs(1, 4, name)
        return Parsed(bands.page(compare_seeds(ours, theirs), (name, ours), (name, theirs)))

    honest, parsed = page("kernel"), page(HOSTILE)
    assert parsed.tags == honest.tags
    assert [name for name, _ in parsed.attributes] == [name for name, _ in honest.attributes]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_pages_open_without_a_word_of_complaint(tmp_path: Path, scheme: str) -> None:
    ours, theirs = runs(0, 12), runs(1, 12)
    pages = {
        "sweep": sweep.page(swept("line", "it parts")),
        "seeds": bands.page(compare_seeds(ours, theirs), ("one", ours), ("other", theirs)),
    }
    with Browser() as browser:
        browser.scheme(scheme)
        for name, text in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(text, encoding="utf-8")
            browser.open(path, "")
            browser.wait("document.querySelector('figure svg')")
        assert browser.errors == []


@given(
    st.lists(st.lists(st.floats(0, 1e12) | st.just(math.inf), max_size=8), min_size=1, max_size=4),
    st.sampled_from([1.0, 0.05]),
)
def test_every_value_is_drawn_within_the_picture_and_on_its_side_of_the_limit(
    values: list[list[float]], limit: float
) -> None:
    text = strips("used", [Strip(f"n{place}", sample) for place, sample in enumerate(values)], limit)
    every = [value for sample in values for value in sample]
    dots = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="2.4" class="(dot|dot beyond)"', text)
    assert len(dots) == len(every)
    if not every:
        assert "nothing to draw" in text
        return
    (at,) = re.findall(r'<line x1="([\d.]+)" [^>]*class="line limit"', text)
    for (x, _, kind), value in zip(dots, every, strict=True):
        assert 0 <= float(x) <= WIDTH
        assert (kind == "dot beyond") == (value > limit)
        assert (float(x) <= float(at) + 0.05) == (value <= limit * 1.001)
    assert text.count('class="grid"') <= ABOVE + BELOW + 1


@given(
    st.lists(st.tuples(st.floats(allow_nan=True, allow_infinity=True), st.floats(0, 1e3)), min_size=1, max_size=30),
    st.booleans(),
)
def test_a_band_has_no_corner_that_is_not_finite(edges: list[tuple[float, float]], logarithmic: bool) -> None:
    low = np.array([edge for edge, _ in edges])
    high = low + np.array([more for _, more in edges])
    x = np.arange(len(edges))
    drawn = figure("c", [Line("m", "a", x, np.ones(len(edges)))], "epoch", logarithmic, [Band("b", "a", x, low, high)])
    for points in re.findall(r'<polygon points="([^"]*)"', drawn):
        assert np.isfinite([float(number) for point in points.split() for number in point.split(",")]).all()
    assert "nan" not in drawn.replace("NaN", "")


def test_a_band_reaches_over_all_runs_where_they_are_few() -> None:
    few = runs(0, 4)
    text = bands.page(compare_seeds(few, runs(1, 4)), ("one", few), ("other", runs(1, 4)))
    assert "one: all of its runs" in text
    many = runs(0, bands.ENOUGH)
    text = bands.page(compare_seeds(many, many), ("one", many), ("one", many))
    assert "one (first): 10 to 90 % of its runs" in text
    assert "one (second): median" in text
