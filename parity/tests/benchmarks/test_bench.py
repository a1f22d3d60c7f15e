"""The report of the benchmarks, from figures made here, and one benchmark that is run. No timing is asserted."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.measuring import CLOCK, Clock
from benchmarks.plain import LISTINGS
from benchmarks.report import build, markdown, page
from benchmarks.result import SURE, ResultError, Spread, beyond_noise, chance, read
from benchmarks.sections.commands import PHASES
from benchmarks.test_matrix import Runs
from parity.cli import app as cli
from parity.suite import load_suite
from parity.tests.browser import Browser
from parity.tests.report.test_schemas import noted
from parity.tests.schemas import held
from parity.trainer import record

HOSTILE = "<script>alert(1)</script>|x`"


def entry(name: str, group: str, seconds: Sequence[float], **info: Any) -> dict[str, Any]:
    return {"name": name, "group": group, "params": None, "stats": {"data": list(seconds)}, "extra_info": info}


def compared(group: str, peer: str, seconds: float, **params: str) -> dict[str, Any]:
    made = entry(f"test_comparison[{peer}]", group, [seconds], values=10**8, peak_bytes=1 << 20)
    return made | {"params": {**params, "peer": peer}}


def training(case: str, label: str, seconds: Sequence[float], listing: Sequence[float]) -> dict[str, Any]:
    first = {"import": 1.0, "build": 0.1, "run": 2.0}
    info = {"case": case, "implementation": label, "steps": 10, "first": first, "listing_seconds": list(listing)}
    return entry(f"test_training[{case}-{label}]", "training", seconds, listing="torch: by hand", **info)


def recording(case: str, label: str, seconds: Sequence[float], train: Sequence[float]) -> dict[str, Any]:
    info = {"case": case, "implementation": label, "steps": 10, "train_seconds": list(train), "evaluate_seconds": []}
    return entry(f"test_recording[{case}-{label}]", "recording", seconds, **info)


def whole() -> list[dict[str, Any]]:
    """A benchmark of every kind."""
    breakdown = {"torch": {"import": 3.0, "build": 1.0, "train": 5.0}}
    after = {"judging": 2.0, "page": 1.0}
    return [
        training("iris-logistic", "torch", [2.0, 4.0, 6.0], [4.0, 4.0, 4.0]),
        training("iris-logistic", "numpy", [0.4, 0.4, 0.4], [4.0, 4.0, 4.0]),
        training("linear-minibatch", "numpy", [1.0, 1.0, 1.0], []),
        recording("char-gru", "jax", [1.2, 1.2, 1.2], [1.0, 1.0, 1.0]),
        compared("comparison", "parity", 0.5, pair="rounding"),
        compared("comparison", "numpy.testing.assert_allclose", 8.0, pair="rounding"),
        compared("comparison", "numpy.testing.assert_allclose", 1.0, pair="NaN"),
        compared("equal bytes", "parity", 0.1),
        compared("equal bytes", "copy", 0.1),
        *(entry(f"test_scaling[{n}]", "scaling", [n / 1e9], values=n, peak_bytes=1 << 20) for n in (1000, 10**6)),
        entry(
            "test_startup[parity --help]",
            "start-up",
            [0.1, 0.1],
            command="parity --help",
            import_numpy_seconds=[0.2, 0.2],
        ),
        entry("test_cold", "matrix", [250.0], arguments=[], recorded_runs=7, breakdown=breakdown, afterwards=after),
        entry("test_warm", "matrix", [2.0, 2.5], arguments=[]),
    ]


def write(path: Path, benchmarks: list[dict[str, Any]], **more: Any) -> Path:
    machine = {"cpu": {"brand_raw": "A Processor"}, "cores": 2, "memory_bytes": 8 << 30, "python_version": "3.11"}
    content = {"benchmarks": benchmarks, "machine_info": machine, "commit_info": {"id": "abcdef0123456"}}
    path.write_text(json.dumps(content | {"datetime": "2026-01-02T03:04:05"} | more))
    return path


def tables(text: str) -> list[list[list[str]]]:
    """The tables of a Markdown text: rows of cells."""
    found: list[list[list[str]]] = []
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line.startswith("|")]
        if lines:
            found.append([re.split(r"(?<!\\)\|", line)[1:-1] for line in lines])
    return found


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
    assert "5 of 9 limits hold" in text


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


# Two runs.


def test_a_difference_beyond_noise_is_marked_and_one_within_is_not(tmp_path: Path) -> None:
    peer = [1.0] * 5
    before = [
        training("a", "numpy", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        training("a", "torch", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        training("a", "jax", [1.0, 1.1, 1.2, 1.3, 1.4], peer),
        entry("test_cold", "matrix", [10.0], arguments=["a"], recorded_runs=1, breakdown={}),
    ]
    now = [
        # One round of the earlier run is slower than one of these.
        training("a", "numpy", [1.35, 1.5, 1.6, 1.7, 1.8], peer),
        training("a", "torch", [1.45, 1.5, 1.6, 1.7, 1.8], peer),
        training("a", "jax", [0.5, 0.6, 0.7, 0.8, 0.9], peer),
        entry("test_cold", "matrix", [90.0], arguments=["a"], recorded_runs=1, breakdown={}),
    ]
    earlier = read(write(tmp_path / "before.json", before))
    text = markdown(build(read(write(tmp_path / "now.json", now)), earlier))
    assert "4 benchmarks are in both: 2 differ beyond the noise, 1 do not, 1 have too few rounds to tell" in text
    section = text[: text.index("## Training")]
    marks = {name: mark for mark, name in re.findall(r"\| ([a-z ]+) \| (\S+) \| .* × \|$", section, re.MULTILINE)}
    assert marks == {
        "training\\[a-torch\\]": "slower",
        "training\\[a-jax\\]": "faster",
        "training\\[a-numpy\\]": "within noise",
        "cold": "too few rounds",
    }


def test_a_slower_machine_changes_no_ratio_and_is_told(tmp_path: Path) -> None:
    rounds = [1.0, 1.1, 1.2, 1.3, 1.4]
    earlier = read(write(tmp_path / "before.json", [training("a", "numpy", rounds, [2.0] * 5)]))
    slow = [training("a", "numpy", [3 * value for value in rounds], [6.0] * 5)]
    text = markdown(build(read(write(tmp_path / "now.json", slow)), earlier))
    assert "0 differ beyond the noise" in text
    assert "listings took 3.00 times as long" in text


@pytest.mark.parametrize(("rounds", "others"), [(1, 1), (2, 3), (4, 4), (3, 5)])
def test_chance_is_the_share_of_orders_that_part_the_two_runs(rounds: int, others: int) -> None:
    places = range(rounds + others)
    parted = [
        set(chosen) in (set(range(rounds)), set(range(others, rounds + others)))
        for chosen in itertools.combinations(places, rounds)
    ]
    assert chance(rounds, others) == pytest.approx(sum(parted) / len(parted))


times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=8).map(tuple)


@given(times, times)
def test_a_mark_turns_round_with_the_runs(a: tuple[float, ...], b: tuple[float, ...]) -> None:
    turned = {"faster": "slower", "slower": "faster"}
    mark = beyond_noise(Spread(a), Spread(b))
    assert beyond_noise(Spread(b), Spread(a)) == turned.get(mark, mark)
    if mark in turned:
        assert chance(len(a), len(b)) <= SURE


@given(times)
def test_a_run_never_differs_from_itself(a: tuple[float, ...]) -> None:
    assert beyond_noise(Spread(a), Spread(a)) not in ("faster", "slower")


# What is read.


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"benchmarks": 1}', json.dumps({"benchmarks": [entry("a", "b", [])], "machine_info": {}})],
)
def test_what_is_no_result_is_refused_in_a_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ResultError, match=r"is no result of 'parity bench' \(.*name its parity-benchmarks.json$"):
        read(tmp_path / "x.json")


def test_a_missing_result_is_told(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot read .*No such file"):
        read(tmp_path / "x.json")


def test_the_clock_stands_still_but_for_what_workers_say() -> None:
    clock = Clock()
    begun = clock()
    clock.advance(1.5)
    assert clock() - begun == 1.5
    assert "perf_counter" in str(CLOCK)


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


def hostile() -> list[dict[str, Any]]:
    return [
        *whole(),
        training(HOSTILE, "torch", [1.0, 1.0], [1.0, 1.0]),
        compared("comparison", HOSTILE, 1.0, pair=HOSTILE),
        entry("test_startup", "start-up", [1.0], command=HOSTILE),
    ]


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
    ("scheme", "ink"), [("light", "rgb(27, 31, 36)"), ("dark", "rgb(227, 231, 236)")], ids=["light", "dark"]
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


# The command.


def benched(folder: str) -> tuple[str, int, str, str]:
    """A folder with the report of some benchmarks, and the command's status and what it printed."""
    command = [sys.executable, "-m", "parity", "bench", "--quick", "--part", "training", "--part", "recording"]
    command += ["--case", "linear-gd", "--case", "iris-logistic", "--impl", "numpy", "--out", folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return folder, done.returncode, done.stdout, done.stderr


@pytest.mark.asks(question=benched, framework="numpy", apart="parity bench")
def test_parity_bench_runs_a_benchmark_and_writes_the_report(answer: tuple[str, int, str, str]) -> None:
    tmp_path, status, out, error = Path(answer[0]), *answer[1:]
    assert status == 0, error
    assert "3 benchmarks in" in out
    held("bench", json.loads((tmp_path / "parity-benchmarks.json").read_text()))
    found = read(tmp_path / "parity-benchmarks.json").group("training")
    (benchmark,) = (one for one in found if one.info["case"] == "linear-gd")
    assert len(benchmark.seconds.values) == len(benchmark.info["listing_seconds"]) == 4
    assert benchmark.info["steps"] == 500
    assert "| linear-gd | numpy | 500 |" in (tmp_path / "parity-benchmarks.md").read_text()
    assert "linear-gd" in (tmp_path / "parity-benchmarks.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--case", "nope"], "unknown case 'nope'"),
        (["--impl", "nope"], "unknown implementation 'nope'"),
        (["--part", "nope"], "unknown part 'nope': choose one of"),
        (["--against", "nope.json"], "cannot read nope.json: No such file or directory"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_is_measured(
    arguments: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["parity", "bench", *arguments])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert said.startswith(f"parity: {complaint}")
    assert said.count("\n") == 1
    assert not list(tmp_path.glob("*"))


def test_what_is_missing_is_said_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec
    missing = ("pytest_benchmark", "plotly")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else found(name))
    monkeypatch.setattr(sys, "argv", ["parity", "bench"])
    with pytest.raises(SystemExit, match="2"):
        cli.main()
    assert capsys.readouterr().err == (
        "parity: bench needs pytest_benchmark, plotly: python -m pip install 'cross-framework-parity[bench]'\n"
    )


def test_a_run_of_the_matrix_says_where_its_time_went(tmp_path: Path) -> None:
    runs = Runs(tmp_path, ["linear-gd", "--impl", "numpy", "--epochs", "2"])
    assert runs.run() > 0
    found = runs.breakdown()
    assert set(found) == {"numpy"}
    assert set(found["numpy"]) == set(PHASES)
    assert all(seconds > 0 for seconds in found["numpy"].values())
    after = runs.afterwards(tmp_path)
    noted("matrix", {"arguments": runs.arguments, "recorded_runs": 2, "breakdown": found, "afterwards": after})
    assert after["judging"] > 0
    assert after["page"] >= 0


# The listings train what the cases train; the digits are shuffled by torch itself and cannot be held to a step.

ALIKE = {name: listing for name, listing in LISTINGS.items() if not name.startswith("mnist")}
EPOCHS = 3


def ends(framework: str) -> list[float]:
    """The last loss of each listing in a framework, in its process."""
    listings = [(name, listing) for name, listing in ALIKE.items() if listing.framework == framework]
    return [listing.prepare(load_suite("impls").entry(name).case)(EPOCHS) for name, listing in listings]


@pytest.mark.asks(question=ends)
@pytest.mark.parametrize("framework", sorted({listing.framework for listing in ALIKE.values()}))
def test_a_listing_ends_where_the_recorded_run_does(framework: str, answer: tuple[float, ...]) -> None:
    names = [name for name, listing in ALIKE.items() if listing.framework == framework]
    suite = load_suite("impls")
    for name, theirs in zip(names, answer, strict=True):
        entry = suite.entry(name)
        chunks = list(record(entry.implementations["numpy"].build(entry.case, "float64", "cpu"), entry.case, EPOCHS))
        ours = np.concatenate([chunk.losses for chunk in chunks if len(chunk.losses)])[-1, -1]
        if name == "iris-logistic":  # which takes its cost anew, after the update
            ours = chunks[-1].metrics["train_cost"][-1]
        assert theirs == pytest.approx(ours, rel=1e-3), name


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
