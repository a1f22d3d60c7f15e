"""Runs as scripts rely on them: what is written, exit statuses, and nothing lost by a stop."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.tests import suites
from parity.tests.command import Parity
from parity.tests.schemas import SCHEMAS
from parity.tests.suites import CASE, strict_json, write_suite

CELL = ["case", "implementation", "dtype", "device", "verdict", "ratio", "epoch", "parameter", "reason", "seconds"]
FIGURE = ["case", "implementation", "dtype", "quantity", "epoch", "published", "ours", "verdict", "printed_by"]


def test_a_run_writes_trajectories_a_table_and_json(parity: Parity, tmp_path: Path) -> None:
    result = parity("run", "iris-logistic", "--impl", "numpy", "--out", "out", "--json", "cells.json")
    assert result.status == 0
    assert "iris-logistic" in result.out
    assert "2 cells: 2 PASS" in result.out
    written = strict_json((tmp_path / "cells.json").read_text(), "run")
    assert set(written) == {"cells", "published"}
    for cell, dtype in zip(written["cells"], ("float32", "float64"), strict=True):
        # Scripts rely on these; more may come after them.
        assert set(CELL) <= set(cell)
        named = {name: cell[name] for name in ("case", "implementation", "dtype", "device", "verdict")}
        assert list(named.values()) == ["iris-logistic", "numpy", dtype, "cpu", "PASS"]
        assert 0 < cell["ratio"] < 1
        assert cell["seconds"] > 0
        run = read(tmp_path / "out" / "iris-logistic" / f"numpy-{dtype}-cpu")
        assert run.epochs.tolist() == list(range(11))
        assert run.meta["complete"]
        said = (tmp_path / "out" / "iris-logistic" / f"numpy-{dtype}-cpu" / MANIFEST).read_text()
        assert set(strict_json(said, "trajectory")) <= set(SCHEMAS["trajectory"]["properties"])
    assert len(written["published"]) == 2 * 24
    assert all(list(figure) == FIGURE for figure in written["published"])
    assert {figure["verdict"] for figure in written["published"]} == {"PASS"}
    costs = [figure["ours"] for figure in written["published"] if figure["quantity"] == "Cost"]
    assert costs[:2] == ["5.581", "4.882"]


def test_json_on_standard_output_stands_alone_there(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    result = parity("run", "--suite", package, "--out", "out", "--epochs", "2", "--json", "-")
    assert result.status == 0
    assert [cell["verdict"] for cell in strict_json(result.out, "run")["cells"]] == ["PASS", "PASS"]
    assert "2 cells: 2 PASS" in result.err


def test_a_published_figure_of_what_is_not_recorded_is_a_doubt(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    (tmp_path / package / "toy" / "spec.py").write_text(
        "from dataclasses import replace\n"
        "from parity.spec import Publication, Published\n"
        "from parity.tests import toy\n"
        "figure = Published('accuracy', {1: '1.0'}, '%.1f', 'metrics/accuracy', 'made up')\n"
        "CASES = (replace(toy.MOMENTUM, publication=Publication(figures=(figure,))),)\n"
    )
    result = parity("run", "--suite", package, "--dtype", "float64", "--no-report")
    assert result.status == 3
    assert "published 'accuracy': the run holds no metrics/accuracy" in result.out


@pytest.mark.slow
def test_each_cell_has_its_own_end(parity: Parity, tmp_path: Path) -> None:
    """A crash, an exception, a mistake and a NaN cost one cell each."""
    package = write_suite(
        tmp_path,
        numpy_aborts=suites.ABORTS,
        numpy_nan=suites.NAN,
        numpy_raises=suites.RAISES,
        numpy_wrong=suites.WRONG,
    )
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    result = parity(*command)
    assert result.status == 1
    cells = {cell["implementation"]: cell for cell in strict_json(result.out, "run")["cells"]}
    assert {name: cell["verdict"] for name, cell in cells.items()} == {
        "numpy": "PASS",
        "numpy-aborts": "INCONCLUSIVE",
        "numpy-nan": "FAIL",
        "numpy-raises": "INCONCLUSIVE",
        "numpy-wrong": "FAIL",
    }
    assert "SIGABRT" in cells["numpy-aborts"]["reason"]
    assert "ValueError: no such layer" in cells["numpy-raises"]["reason"]
    wrong = cells["numpy-wrong"]
    assert (wrong["epoch"], wrong["parameter"]) == (1, "loss")
    assert wrong["ratio"] > 1
    assert cells["numpy-nan"]["epoch"] == 6
    for cell in cells.values():
        assert cell["verdict"] == "PASS" or cell["reason"] in result.err
    # Without the failures only doubt is left.
    assert parity(*command, "--impl", "numpy", "--impl", "numpy-aborts").status == 3
    assert parity(*command, "--impl", "numpy").status == 0


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing is installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def test_a_framework_that_is_not_installed_is_a_doubt_with_a_way_out(
    parity: Parity, tmp_path: Path, bare: Path
) -> None:
    command = ("iris-logistic", "--impl", "torch", "--python", f"torch={bare}", "--out", "out")
    result = parity("run", *command, "--json", "cells.json")
    assert result.status == 3
    for cell in strict_json((tmp_path / "cells.json").read_text(), "run")["cells"]:
        assert cell["verdict"] == "INCONCLUSIVE"
        assert f"torch not installed: '{bare} -m pip install" in cell["reason"]
    listed = parity("list", "--python", f"torch={bare}", "--json", "-")
    assert listed.status == 0
    for cell in strict_json(listed.out, "list")["cells"]:
        assert list(cell) == ["case", "implementation", "framework", "available", "reason"]
        if cell["framework"] == "torch":
            assert not cell["available"]
            assert "not installed" in cell["reason"]
        if cell["framework"] == "numpy":
            assert cell["available"]
            assert not cell["reason"]


@pytest.mark.parametrize("script", ["exit 0", "exit 3", "echo nonsense", "echo []"])
def test_what_is_no_python_is_a_doubt_and_says_which(parity: Parity, tmp_path: Path, script: str) -> None:
    package = write_suite(tmp_path, torch=suites.HONEST)
    stub = tmp_path / "stub"
    stub.write_text(f"#!/bin/sh\n{script}\n")
    stub.chmod(0o755)
    result = parity(
        "run", "--suite", package, "--out", "out", "--impl", "torch", "--python", f"torch={stub}", "--json", "-"
    )
    assert result.status == 3
    for cell in strict_json(result.out, "run")["cells"]:
        assert cell["verdict"] == "INCONCLUSIVE"
        assert str(stub) in cell["reason"]


def test_show_prints_the_sources_log_from_ours_alone_where_nobody_shows_its_output(parity: Parity) -> None:
    result = parity("show", "synthetic-logistic", "--impl", "numpy", "--out", "out", "--json", "log.json")
    assert result.status == 0
    assert "The source shows no output of this log." in result.out
    printed = result.out.splitlines()
    log = [line for line in printed if re.fullmatch(r"epoch: \d+, loss = 0\.\d{4}", line)]
    assert [line.partition(",")[0] for line in log] == [f"epoch: {epoch}" for epoch in range(1, 101)]
    assert re.fullmatch(r"accuracy: 0\.\d{4}", printed[-1])
    ((run,),) = [strict_json(Path("log.json").read_text(), "show")["runs"]]
    assert [line["ours"] for line in run["lines"]] == [*log, printed[-1]]
    assert {(line["published"], line["mark"], line["verdict"]) for line in run["lines"]} == {("", "", None)}


def test_show_prints_the_sources_own_log_beside_ours(parity: Parity) -> None:
    result = parity("show", "iris-logistic", "--impl", "numpy", "--out", "out", "--json", "log.json")
    assert result.status == 0
    line = "Epoch: 001 | Train ACC: 0.987 | Cost: 5.581"
    (shown,) = [row for row in result.out.splitlines() if row.startswith(line)]
    assert shown.count(line) == 2
    assert shown.rstrip().endswith("=")
    assert "weights[0]" in result.out
    assert "4.2267" in result.out
    assert "≠" not in result.out
    written = strict_json(Path("log.json").read_text(), "show")
    (run,) = written["runs"]
    assert (run["verdict"], run["lines"][0]["ours"], run["lines"][0]["mark"]) == ("PASS", line, "=")
    assert written["texts"] is None


def test_sample_writes_its_texts_as_json_too(parity: Parity) -> None:
    command = ("sample", "char-gru", "--impl", "numpy", "--epochs", "1", "--length", "3", "--out", "out")
    shown, written = parity(*command), parity(*command, "--json", "-")
    assert (shown.status, written.status) == (0, 0)
    (text,) = strict_json(written.out, "sample")["texts"]
    assert len(text["text"]) == len("Th") + 3
    assert text["text"] in shown.out
    assert text["text"] in written.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_stop_leaves_what_has_finished_and_no_worker(tmp_path: Path, number: signal.Signals) -> None:
    package = write_suite(tmp_path, numpy_stuck=suites.STUCK)
    # A shell that runs tests in the background may have told its children to ignore SIGINT, and nohup SIGHUP.
    setup = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    setup += "; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    code = f"{setup}; from parity.cli.main import main; main()"
    command = ["run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    pid = tmp_path / package / "toy" / "pid"
    with process:
        try:
            limit = time.monotonic() + 60
            while not pid.exists():
                assert process.poll() is None
                assert time.monotonic() < limit
                time.sleep(0.02)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()  # what does not stop would be waited for without end
    assert process.returncode == 130
    assert err.splitlines()[-1] == "parity: stopped; what had finished is on disk"
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    assert read(tmp_path / "out" / CASE / "numpy-float64-cpu").epochs[-1] == 6
    assert not (tmp_path / "out" / CASE / "numpy-stuck-float64-cpu").exists()
    assert not list((tmp_path / "out").rglob("*.failed")), "that we stopped it is no failure of the run"


def test_what_could_not_be_run_says_nothing_against_what_was(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_honest=suites.HONEST)
    run = ("run", "--suite", package, "--dtype", "float64", "--out", "out", "--no-report")
    assert parity(*run).status == 0
    assert parity(*run, "--fresh", "--python", f"numpy={shutil.which('false')}").status == 3
    a, b = (Path("out") / CASE / f"{label}-float64-cpu" for label in ("numpy", "numpy-honest"))
    assert parity("diff", a, b).status == 0
