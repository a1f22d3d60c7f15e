"""``--data FILE``: a case on data that the user brings."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fixtures import bars
from parity.cli import app
from parity.recording.reader import read
from parity.recording.writer import write
from parity.suite import SuiteError, load_suite

CASE = "dogecoin-logistic"


@pytest.fixture
def file(tmp_path):
    """An hour and a half of bars as a CSV file."""
    path = tmp_path / "mine.csv"
    simulated = bars.simulate(minutes=90, seed=1)
    with path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(bars.COLUMNS)
        writer.writerows(zip(*(getattr(simulated, name) for name in bars.COLUMNS), strict=True))
    return path


def test_a_file_takes_the_place_of_the_data(file, monkeypatch):
    suite = load_suite("impls")
    monkeypatch.chdir(file.parent)
    entry = suite.entry(CASE, "mine.csv")
    assert entry.folder == f"{CASE}@mine"
    data = entry.case.data()
    assert len(data.x) + len(data.x_test) == 90 - bars.WINDOW - 2
    assert "simulated" in suite.entry(CASE).case.display.note
    assert entry.case.display.note == "data from mine.csv"
    # A worker finds the same data again, whatever folder it runs in.
    monkeypatch.chdir("/")
    again = suite.entry(CASE, entry.data)
    np.testing.assert_array_equal(again.case.data().x, data.x)
    assert again.folder == entry.folder


@pytest.mark.parametrize(
    ("case", "name", "content", "message"),
    [
        (CASE, "absent.csv", None, "absent.csv: No such file or directory"),
        (CASE, "odd.csv", "timestamp,open\n1,2\n", "line 1: no column high, low, close, volume"),
        (CASE, "full", None, "has no data 'full': it knows none but the default and files"),
        ("iris-logistic", "mine.csv", None, "has no data 'mine.csv': it knows none but the default"),
    ],
)
def test_what_cannot_be_read_is_one_line_and_status_2(tmp_path, monkeypatch, case, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_text(content)
    with pytest.raises(SuiteError, match=message.replace("(", r"\(")):
        load_suite("impls").entry(case, name)
    result = CliRunner().invoke(app, ["run", case, "--data", name, "--out", "runs"])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_file_is_run_and_reported(file, tmp_path):
    report = tmp_path / "report.json"
    command = ["run", CASE, "--impl", "numpy", "--data", str(file), "--out", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*command, "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert f"{CASE}@mine: data from {file}" in result.output
    cells = json.loads(report.read_text())["cells"]
    assert [(cell["data"], cell["verdict"]) for cell in cells] == [("mine", "PASS")] * 2
    assert (tmp_path / "runs" / f"{CASE}@mine" / "numpy-float64-cpu" / "trajectory.json").exists()


@pytest.mark.slow
def test_two_recordings_on_a_file_are_explained(file, tmp_path):
    runs = tmp_path / "runs"
    command = [
        "run",
        CASE,
        "--impl",
        "numpy",
        "--dtype",
        "float64",
        "--data",
        str(file),
        "--epochs",
        "5",
        "--no-report",
    ]
    assert CliRunner().invoke(app, [*command, "--out", str(runs)]).exit_code == 0
    right = runs / f"{CASE}@mine" / "numpy-float64-cpu"
    run = read(right)
    meta = {key: value for key, value in run.meta.items() if key not in ("schema", "version", "complete", "shards")}
    params = {name: np.array(values) for name, values in run.params.items()}
    params["dense/bias"][-1] += 0.5
    wrong = right.with_name("mine-float64-cpu")
    write(wrong, run.epochs, run.loss, params, meta=meta | {"implementation": "mine"})
    without = CliRunner().invoke(app, ["explain", str(wrong), str(right)])
    assert without.exit_code == 1, without.output
    assert "first differs at epoch 5, dense/bias" in without.output
    assert "are not the suite's: name their file with --data" in " ".join(without.output.split())
    replayed = CliRunner().invoke(app, ["explain", str(wrong), str(right), "--data", str(file)])
    assert replayed.exit_code == 1, replayed.output
    assert "replayed over the first 5 epochs" in replayed.output


@pytest.mark.slow
def test_the_output_says_that_bars_are_simulated(tmp_path):
    result = CliRunner().invoke(
        app, ["run", CASE, "--impl", "numpy", "--dtype", "float64", "--out", str(tmp_path / "runs")]
    )
    assert result.exit_code == 0, result.output
    assert f"{CASE}: {bars.NOTE}" in result.output
