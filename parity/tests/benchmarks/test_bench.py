"""``parity bench``, and the listings that training is measured against. No timing is asserted."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.plain import LISTINGS
from benchmarks.result import read
from benchmarks.sections.commands import PHASES
from benchmarks.test_matrix import Runs
from parity.cli import main as cli
from parity.judging.floors.floor import load, mark_of
from parity.recording.places import floor_name
from parity.suite import load_suite
from parity.tests.report.test_schemas import noted
from parity.tests.schemas import held
from parity.tolerance import FACTOR
from parity.trainer import record
from parity.trajectory import gather


def benched(folder: str) -> tuple[str, int, str, str]:
    """A folder with the report of some benchmarks, and the command's status and what it printed."""
    command = [sys.executable, "-m", "parity", "bench", "--quick", "--part", "training", "--part", "recording"]
    command += ["--case", "linear-gd", "--case", "iris-logistic", "--impl", "numpy", "--out", folder]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return folder, done.returncode, done.stdout, done.stderr


@pytest.mark.slow
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


@pytest.mark.slow
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
    """In float32, within the tolerance of the case's noise floor there."""
    names = [name for name, listing in ALIKE.items() if listing.framework == framework]
    suite = load_suite("impls")
    assert suite.floors is not None
    for name, theirs in zip(names, answer, strict=True):
        entry = suite.entry(name)
        run = gather(record(entry.implementations["numpy"].build(entry.case, "float64", "cpu"), entry.case, EPOCHS))
        path = suite.floors / floor_name(name, None, "float32")
        kept = load(path, str(mark_of(path)))
        assert kept is not None
        ours, floor = run.loss[-1, -1], kept["float32"].loss[EPOCHS - 1, -1]
        if name == "iris-logistic":  # which takes its cost anew, after the update
            ours, floor = run.metrics["train_cost"][-1], kept["float32"].metrics["train_cost"][EPOCHS]
        assert abs(theirs - ours) <= FACTOR * floor, name
