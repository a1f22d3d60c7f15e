"""The command line used wrongly: one clear line, an exit status of its own, and nothing touched."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from parity.recording.format import MANIFEST
from parity.recording.limits import VARIABLE
from parity.running.workers.pool import Pool
from parity.tests.command import Parity, complaint, contents, make_run
from parity.tests.suites import write_suite

WRONG_USE = [
    (["run", "no-such-case"], "unknown case 'no-such-case'"),
    (["run", "--impl", "pytorch"], "unknown implementation 'pytorch'"),
    (["run", "--dtype", "half"], "unknown dtype 'half': choose one of float32, float64, float16, bfloat16"),
    (["run", "--device", "tpu"], "unknown device 'tpu': choose one of cpu, cuda, cuda_tf32"),
    (["run", "--epochs", "0"], "'--epochs'"),
    (["run", "--epochs", "many"], "'--epochs'"),
    (["run", "--jobs", "0"], "'--jobs'"),
    (["run", "--suite", "no_such_suite"], "suite 'no_such_suite' cannot be imported"),
    (["run", "--suite", "fixtures"], "holds no cases"),
    (["run", "--suite", ""], "suite '' cannot be imported: ValueError: Empty module name"),
    (["run", "--suite", ".bad"], "suite '.bad' cannot be imported: TypeError"),
    (["run", "--suite", "sys"], "suite 'sys' has no __init__.py"),
    (["run", "iris-logistic", "--data", "other"], "has no data 'other'"),
    (["run", "--python", "torch"], "FRAMEWORK=PATH"),
    (["run", "--python", "torch="], "FRAMEWORK=PATH"),
    (["run", "--python", "torch=/no/such/python"], "/no/such/python is not an interpreter"),
    (["run", "--python", f"pytorch={sys.executable}"], "unknown framework 'pytorch'"),
    *(
        ([command, "--on", on], f"--on takes local, ray or ray://HOST:PORT, not '{on}'")
        for command in ("run", "prove", "floor")
        for on in ("dask", "ray://")
    ),
    (["run", "--no-such-option"], "--no-such-option"),
    (["show", "no-such-case"], "unknown case 'no-such-case'"),
    (["show", "iris-logistic", "--impl", "pytorch"], "unknown implementation 'pytorch'"),
    (["list", "--suite", "no_such_suite"], "cannot be imported"),
    (["diff", "nowhere", "elsewhere"], "nowhere"),
    *(
        (["explain", "a", "b", option, value], f"{option} belongs to a case")
        for option, value in (
            ("--impl", "torch"),
            ("--dtype", "float32"),
            ("--device", "cuda"),
            ("--epochs", "1"),
            ("--python", f"torch={sys.executable}"),
        )
    ),
    (["semantics", "batchnorm"], "unknown function 'batchnorm': did you mean batch_norm"),
    (["semantics", "0"], "unknown function '0': 'parity semantics' lists those that there are"),
    (["no-such-command"], "no-such-command"),
]


@pytest.mark.parametrize(("arguments", "match"), WRONG_USE, ids=[" ".join(use[0]) for use in WRONG_USE])
def test_wrong_use_is_said_in_a_line_and_touches_nothing(
    parity: Parity, tmp_path: Path, arguments: list[str], match: str
) -> None:
    earlier = tmp_path / "runs" / "earlier" / "numpy-float64-cpu"
    earlier.mkdir(parents=True)
    (earlier / MANIFEST).write_text("{}")
    before = contents(tmp_path)
    result = parity(*arguments)
    assert result.status == 2
    assert match in complaint(result)
    assert contents(tmp_path) == before


def test_without_a_command_the_help_is_shown(parity: Parity) -> None:
    result = parity()
    assert "Usage" in result.out + result.err
    assert "Exit status: 0 all pass, 1 a difference, 2 wrong use" in parity("--help").out


@pytest.mark.parametrize(
    ("file", "text", "match"),
    [
        ("spec.py", "CASES = (\n", "toy.spec cannot be imported: SyntaxError: '(' was never closed (spec.py, line 1)"),
        ("spec.py", "import no_such_package\n", "toy.spec cannot be imported: ModuleNotFoundError: No module named"),
        ("spec.py", "raise RuntimeError('two\\nlines')\n", "toy.spec cannot be imported: RuntimeError: two lines"),
        ("../__init__.py", "CASES = (\n", "cannot be imported: SyntaxError"),
        ("toy_data.py", "X = 1\n", "'data' belongs to no known framework"),
    ],
)
def test_a_suite_with_a_mistake_in_it_is_said_in_a_line(
    parity: Parity, tmp_path: Path, file: str, text: str, match: str
) -> None:
    package = write_suite(tmp_path)
    (tmp_path / package / "toy" / file).write_text(text)
    result = parity("list", "--suite", package)
    assert result.status == 2
    assert match in complaint(result)


@pytest.mark.parametrize(
    ("command", "dtypes"),
    [
        ("run", "float32 and float64"),
        ("floor", "float32 and float64"),
        ("show", "float32"),
        ("explain", "float64"),
        ("sample", "float64"),
    ],
)
def test_the_help_says_which_dtypes_a_command_takes_unless_told(parity: Parity, command: str, dtypes: str) -> None:
    assert f"may be repeated. Else {dtypes}." in " ".join(parity(command, "--help").out.split())


def test_a_mistake_of_our_own_keeps_its_traceback_and_is_no_verdict(
    parity: Parity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parity.explaining.folders.diff_folders", lambda *folders: {}["no such name"])
    result = parity("diff", "a", "b")
    assert result.status == 70
    assert "KeyError: 'no such name'" in result.err
    assert result.err.splitlines()[-1].startswith("parity: a mistake in parity itself")
    assert "70 a mistake in parity itself" in " ".join(parity("--help").out.split())


@pytest.mark.parametrize("out", ["file", "file/inside"])
def test_a_folder_that_cannot_be_written_is_said_before_anything_runs(
    parity: Parity, tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.setattr(Pool, "submit", None)
    result = parity("run", "iris-logistic", "--impl", "numpy", "--out", out)
    assert result.status == 2
    assert f"cannot write to {out}" in complaint(result)
    assert "--out" in result.err
    assert (tmp_path / "file").read_text() == "kept"


def test_a_json_file_that_cannot_be_written_is_said(parity: Parity, tmp_path: Path) -> None:
    result = parity("list", "--json", "nowhere/cells.json")
    assert result.status == 2
    assert "cannot write nowhere/cells.json" in complaint(result)


@pytest.mark.parametrize("folder", [".", "..", "folder"])
def test_a_folder_is_no_json_file(parity: Parity, tmp_path: Path, folder: str) -> None:
    (tmp_path / "folder").mkdir()
    result = parity("list", "--json", folder)
    assert result.status == 2
    assert f"cannot write {folder}: it is a folder, name a file" in complaint(result)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("said", ["0", "-1", "nan", "1e9", "many"])
@pytest.mark.parametrize("command", ["diff a b", "match a b", "explain a b", "report runs"])
def test_limits_are_a_number_above_0(parity: Parity, command: str, said: str) -> None:
    result = parity(*command.split(), "--limits", said)
    assert result.status == 2
    assert "--limits" in complaint(result)


@pytest.mark.parametrize("command", ["diff", "match", "explain", "report"])
def test_limits_are_raised_by_an_option_of_what_reads_recordings(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    runs = [make_run(tmp_path / "runs" / "made-up" / f"{name}-float64-cpu") for name in ("numpy", "torch")]
    call = [command, *(runs if command != "report" else [tmp_path / "runs", "--format", "md"])]
    monkeypatch.setenv(VARIABLE, "1e-6")
    small = parity(*call)
    assert small.status == (3 if command == "report" else 2)
    assert "--limits N" in (small.out if command == "report" else complaint(small)).replace("\\", "")
    raised = parity(*call, "--limits", "1")
    assert "--limits N" not in raised.out.replace("\\", "")
    assert raised.status in ((3,) if command == "report" else (0, 3))
    # For that call alone.
    assert os.environ[VARIABLE] == "1e-6"
    monkeypatch.delenv(VARIABLE)
    parity(*call, "--limits", "1")
    assert VARIABLE not in os.environ
    assert parity(*call, "--limits", "1e-6").status == small.status


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full")
@pytest.mark.parametrize("how", [">/dev/full", ">&-", "1</dev/null"])
@pytest.mark.parametrize("command", ["diff", "--json -", "report", "--help"])
def test_what_cannot_be_written_is_one_line_and_no_verdict(tmp_path: Path, command: str, how: str) -> None:
    runs = [str(make_run(tmp_path / "runs" / "made-up" / f"{name}-float64-cpu")) for name in ("numpy", "torch")]
    arguments = {
        "diff": ["diff", *runs],
        "--json -": ["diff", *runs, "--json", "-"],
        "report": ["report", str(tmp_path / "runs"), "--format", "md"],
        "--help": ["--help"],
    }[command]
    words = shlex.join([sys.executable, "-m", "parity", *arguments])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(["sh", "-c", f"{words} {how}"], capture_output=True, text=True, env=variables, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("parity: cannot write to standard output: ")
    # Nor does another file stand in for it, or a status of Python's own say that it failed.
    unheard = subprocess.run(["sh", "-c", f"{words} {how} 2>/dev/full"], env=variables, timeout=60)
    assert unheard.returncode == 2
