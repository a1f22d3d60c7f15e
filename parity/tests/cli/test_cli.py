"""The command line as scripts rely on it: exit statuses, one clear line for what is wrong, nothing lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save_file

from parity.cli.app import main
from parity.recording.format import MANIFEST
from parity.recording.places import keep_failure
from parity.recording.reader import read
from parity.recording.writer import Writer, write
from parity.running import pool
from parity.running.keys import harness_code, source_code
from parity.suite import load_suite
from parity.tests import suites
from parity.tests.schemas import SCHEMAS
from parity.tests.suites import CASE, strict_json, write_suite
from parity.trajectory import Chunk


@dataclass
class Result:
    status: int
    out: str
    err: str


Parity = Callable[..., Result]


@pytest.fixture
def parity(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Parity]:
    """Calls ``parity`` in this process, from a folder of its own."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["parity", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        assert end.value.code is None or isinstance(end.value.code, int)
        return Result(end.value.code or 0, captured.out, captured.err)

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)


def complaint(result: Result) -> str:
    """The one line that says what is wrong."""
    assert "Traceback" not in result.out + result.err
    lines = [line for line in result.err.splitlines() if line.startswith(("parity: ", "Error: "))]
    assert len(lines) == 1, result.err
    # What click finds wrong is said after two lines of usage.
    assert result.err.splitlines()[-1] == lines[0]
    return lines[0]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# Wrong use


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
    monkeypatch.setattr("parity.judging.diff.compare_folders", lambda *folders: {}["no such name"])
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
    monkeypatch.setattr(pool, "_Worker", None)
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


# Runs


CELL = ["case", "implementation", "dtype", "device", "verdict", "ratio", "epoch", "parameter", "reason", "seconds"]
FIGURE = ["case", "implementation", "dtype", "quantity", "epoch", "published", "ours", "verdict"]


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


def test_what_has_not_changed_is_not_run_again(parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = write_suite(tmp_path, numpy_counted=suites.COUNTED)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    first = parity(*command)
    before = contents(tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_Worker", None)  # Whoever starts one fails.
        second = parity(*command)
    assert strict_json(second.out) == strict_json(first.out)
    assert contents(tmp_path / "out") == before

    # --fresh runs it again, and so does a change of the implementation's source.
    manifest = tmp_path / "out" / CASE / "numpy-counted-float64-cpu" / MANIFEST
    assert parity(*command, "--fresh").status == 0
    fresh = manifest.stat().st_mtime_ns
    assert fresh > before[str(manifest.relative_to(tmp_path / "out"))][0]
    source = tmp_path / package / "toy" / "toy_numpy_counted.py"
    source.write_text(source.read_text() + "# changed\n")
    harness_code.cache_clear()  # A process reads its sources once.
    assert parity(*command).status == 0
    assert manifest.stat().st_mtime_ns > fresh


def test_what_is_run_again_is_judged_and_not_what_lay_there(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=suites.HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(suites.WRONG)
    harness_code.cache_clear()  # A process reads its sources once.
    assert parity(*command).status == 1


@pytest.mark.parametrize("helper", ["toy/layers.py", "layers.py", "common/layers.py", "toy/toy_numpy_other.py"])
def test_what_an_implementation_imports_from_its_suite_is_part_of_it(
    parity: Parity, tmp_path: Path, helper: str
) -> None:
    package = write_suite(tmp_path)
    imported = tmp_path / package / helper
    imported.parent.mkdir(exist_ok=True)
    imported.write_text(suites.HONEST)
    module = ".".join((package, *Path(helper).with_suffix("").parts))
    for label in ("numpy_mine", "numpy_own"):
        source = f"from {module} import build\n" if label == "numpy_mine" else suites.HONEST
        (tmp_path / package / "toy" / f"toy_{label}.py").write_text(source)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    own = tmp_path / "out" / CASE / "numpy-own-float64-cpu" / MANIFEST
    before = own.stat().st_mtime_ns
    imported.write_text(suites.WRONG)
    harness_code.cache_clear()
    found = parity(*command, "--json", "-")
    verdicts = {cell["implementation"]: cell["verdict"] for cell in strict_json(found.out, "run")["cells"]}
    assert verdicts["numpy-mine"] == "FAIL"
    assert verdicts["numpy-own"] == "PASS"
    # Another implementation that it does not name is none of its business.
    assert (own.stat().st_mtime_ns == before) == helper.startswith("toy/toy_")


def test_what_no_python_would_import_is_no_part_of_a_suite(tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        entry = load_suite(package).entry(CASE)
    finally:
        sys.path.remove(str(tmp_path))
    before = entry.sources("numpy")
    hidden = tmp_path / package / "toy" / ".ipynb_checkpoints" / "layers-checkpoint.py"
    hidden.parent.mkdir()
    for path in (hidden, tmp_path / package / "toy" / "._spec.py"):
        path.write_text("no Python\n")
    assert entry.sources("numpy") == before


def test_a_helper_that_is_nested_too_deeply_to_be_read_counts_as_it_stands() -> None:
    deep = ("x = " + "+".join("1" * 5000)).encode()
    assert source_code(deep) == deep


STEEP = """
from parity.tests import toy
from parity.trainers.numpy_trainer import NumpyTrainer

def forward(params, x):
    prediction, kept = toy.forward(params, x)
    return 12 * prediction, kept

def backward(params, kept, d_prediction):
    return toy.backward(params, kept, 12 * d_prediction)

def build(case, dtype, device):
    return NumpyTrainer(case, dtype, forward, backward)
"""


def test_a_noise_floor_goes_with_the_code_of_the_reference(parity: Parity, tmp_path: Path) -> None:
    """What a reference that diverges strays from itself would let any mistake pass."""
    package = write_suite(tmp_path, numpy_wrong=suites.WRONG)
    reference = tmp_path / package / "toy" / "toy_numpy.py"
    reference.write_text(STEEP)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float32", "--impl", "numpy-wrong")
    parity(*command)
    reference.write_text(suites.HONEST)
    harness_code.cache_clear()
    assert parity(*command).status == 1
    assert parity("report", "out", "--suite", package, "--format", "md").status == 1
    # What is said of the code is no code.
    floor = tmp_path / "out" / "floors" / f"{CASE}.safetensors"
    before = floor.stat().st_mtime_ns
    reference.write_text(f'"""The reference."""\n\n{suites.HONEST}  # as it was\n')
    harness_code.cache_clear()
    assert parity(*command).status == 1
    assert floor.stat().st_mtime_ns == before
    # Nothing else says that the harness measures in another way.
    assert parity(*command, "--fresh").status == 1
    assert floor.stat().st_mtime_ns > before


def test_a_run_in_lockstep_starts_from_the_states_of_the_reference_as_it_is(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy=suites.WRONG, numpy_right=suites.HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--lockstep", "2")
    assert parity(*command).status == 1
    (tmp_path / package / "toy" / "toy_numpy.py").write_text(suites.HONEST)
    harness_code.cache_clear()
    assert parity(*command).status == 0


def test_a_floor_that_was_shipped_anew_takes_the_place_of_its_copy(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    init = tmp_path / package / "__init__.py"
    init.write_text("from pathlib import Path\nFLOORS = Path(__file__).parent / 'floors'\n")
    command = ("--suite", package, "--out", "out")
    result = parity("floor", *command, "--json", "-")
    assert result.status == 0
    (found,) = strict_json(result.out, "floor")["floors"]
    assert (Path(found["file"]).name, found["measured"]) == (f"{CASE}.safetensors", True)
    assert parity("run", *command).status == 0
    shipped = tmp_path / package / "floors" / f"{CASE}.safetensors"
    copy = tmp_path / "out" / "floors" / shipped.name
    assert copy.read_bytes() == shipped.read_bytes()
    copy.write_bytes(shipped.read_bytes().replace(b'"runs":"16"', b'"runs":"15"'))
    assert parity("run", *command, "--fresh").status == 0
    assert copy.read_bytes() == shipped.read_bytes()


def test_a_shorter_run_is_another_run(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    for epochs in (3, 2, 5):
        assert parity("run", "--suite", package, "--out", "out", "--epochs", str(epochs)).status == 0
        assert read(tmp_path / "out" / CASE / "numpy-float64-cpu").epochs.tolist() == list(range(epochs + 1))


def test_a_floor_that_ends_between_two_snapshots_ends_at_the_first_of_them(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=suites.HONEST)
    (tmp_path / package / "toy" / "spec.py").write_text(
        "from dataclasses import replace\nfrom parity.spec import Policy\nfrom parity.tests import toy\n"
        "CASES = (replace(toy.MOMENTUM, every=4, policy=Policy(floor_epochs=10), epochs=20),)\n"
    )
    result = parity("run", "--suite", package, "--out", "out", "--lockstep", "4")
    assert result.status == 0, result.out


def test_a_damaged_result_is_made_again(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    shard = tmp_path / "out" / CASE / "numpy-float64-cpu" / "00000.safetensors"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-8])
    assert parity(*command).status == 0
    assert shard.read_bytes() == whole


def test_a_damaged_noise_floor_is_said_in_a_line(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    floor = tmp_path / "out" / "floors" / f"{CASE}.safetensors"
    floor.write_bytes(floor.read_bytes()[:-8])
    result = parity(*command)
    assert result.status == 2
    assert "is damaged" in complaint(result)
    assert "delete it" in result.err


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
    # A shell that runs tests in the background may have told its children to ignore SIGINT.
    setup = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{setup}; from parity.cli.app import main; main()"
    command = ["run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        pid = tmp_path / package / "toy" / "pid"
        limit = time.monotonic() + 60
        while not pid.exists():
            assert process.poll() is None
            assert time.monotonic() < limit
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
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


# Differences


def make_run(folder: Path, change: Callable[[dict[str, Any]], None] = lambda run: None, **meta: Any) -> Path:
    generator = np.random.default_rng(8)
    run: dict[str, Any] = {
        "epochs": np.arange(5),
        "loss": generator.normal(size=(4, 3)),
        "params": {"dense/kernel": generator.normal(size=(5, 3, 2)), "dense/bias": generator.normal(size=(5, 2))},
        "meta": {"case": "made-up", "implementation": folder.name, "device": "cpu", "dtype": "float64"} | meta,
    }
    change(run)
    write(folder, **run)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "a"), make_run(tmp_path / "b")


def test_diff_of_a_run_with_its_copy_passes(parity: Parity, pair: tuple[Path, Path]) -> None:
    result = parity("diff", *pair, "--json", "pairs.json")
    assert result.status == 0
    assert result.out.startswith("PASS")
    (found,) = strict_json(Path("pairs.json").read_text(), "diff")["pairs"]
    assert (found["verdict"], found["absolute"], found["relative"], found["ulp"]) == ("PASS", None, None, None)


def test_diff_says_what_does_not_differ_and_that_metrics_are_left_out(parity: Parity, tmp_path: Path) -> None:
    def other_metrics(run: dict[str, Any]) -> None:
        run["metrics"] = {"accuracy": np.ones(5)}

    result = parity("diff", make_run(tmp_path / "a"), make_run(tmp_path / "b", other_metrics))
    assert result.status == 0
    assert "no loss and no parameter differs" in result.out
    assert "not their metrics" in " ".join(parity("diff", "--help").out.split())


def test_diff_says_where_and_by_how_much(parity: Parity, tmp_path: Path) -> None:
    def change(run: dict[str, Any]) -> None:
        run["params"]["dense/kernel"][2, 1, 0] += 1e-3
        run["params"]["dense/bias"][4, 1] += 0.5

    a, b = make_run(tmp_path / "a"), make_run(tmp_path / "b", change)
    result = parity("diff", a, b, "--json", "pairs.json")
    assert result.status == 1
    ours, theirs = read(a).params, read(b).params
    assert result.out.startswith("FAIL")
    assert "first differs at epoch 2: dense/kernel[1, 0]" in result.out
    values = ours["dense/bias"][4][1], theirs["dense/bias"][4][1]
    for kind in ("absolute", "relative", "ulp"):
        (line,) = [line for line in result.out.splitlines() if line.startswith(f"largest {kind} difference")]
        assert "epoch " in line
    (line,) = [line for line in result.out.splitlines() if line.startswith("largest absolute")]
    assert all(part in line for part in ("0.5", "epoch 4", "dense/bias[1]", *map(str, values)))
    assert "smallest tolerance that passes" in result.out
    (found,) = strict_json((tmp_path / "pairs.json").read_text(), "diff")["pairs"]
    assert (found["epoch"], found["parameter"]) == (2, "dense/kernel")
    assert found["absolute"]["index"] == [1]
    assert found["absolute"]["absolute"] == abs(values[0] - values[1])
    assert found["ulp"]["ulp"] > 1e9


def flip(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data)


def cut(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    shard.write_bytes(shard.read_bytes()[:-16])


def manifest(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / MANIFEST
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def rename_shard(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        shards = json.loads((folder / MANIFEST).read_text())["shards"]
        shutil.copy(folder / shards[0]["file"], folder.parent / "outside.safetensors")
        manifest(shards=[shards[0] | {"file": name}])(folder)

    return change


def tensors(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Other tensors in a shard whose checksum is right."""

    def apply(folder: Path) -> None:
        shard = folder / "00000.safetensors"
        held = load(shard.read_bytes())
        change(held)
        save_file(held, shard)
        data = shard.read_bytes()
        shards = json.loads((folder / MANIFEST).read_text())["shards"]
        manifest(shards=[shards[0] | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}])(folder)

    return apply


def link_out(folder: Path) -> None:
    shard = folder / "00000.safetensors"
    shard.rename(folder.parent / "outside.safetensors")
    shard.symlink_to(folder.parent / "outside.safetensors")


UNREADABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (cut, "bytes where"),
    "checksum": (flip, "does not match its checksum"),
    "schema": (manifest(schema="something-else"), "schema must be"),
    "version": (manifest(version=99), "version 99"),
    "dtype": (manifest(dtype="float8"), "dtype must be"),
    "not complete": (manifest(complete=False), "was not finished"),
    "no json": (lambda folder: (folder / MANIFEST).write_text("{"), "no valid JSON"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), MANIFEST),
    "shard missing": (lambda folder: (folder / "00000.safetensors").unlink(), "is missing"),
    "no loss": (tensors(lambda held: held.pop("loss")), "has no 'loss'"),
    "no parameters": (tensors(lambda held: [held.pop(name) for name in list(held) if "/" in name]), "params"),
    "other dtype": (tensors(lambda held: held.update({"params/dense/bias": np.zeros((5, 2), np.float32)})), "is F32"),
    "other length": (tensors(lambda held: held.update({"params/dense/bias": np.zeros((4, 2))})), "5 epochs"),
    "tensor leaves": (tensors(lambda held: held.update({"params/../evil": np.zeros((5, 2))})), "params/../evil"),
    "shard leaves": (rename_shard("../outside.safetensors"), "plain name"),
    "absolute shard": (rename_shard("/etc/passwd"), "plain name"),
    "link leaves": (link_out, "leaves the folder"),
}


@pytest.mark.parametrize(("damage", "match"), UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("side", ["a", "b"])
def test_diff_of_what_cannot_be_read_says_so_in_a_line(
    parity: Parity, tmp_path: Path, pair: tuple[Path, Path], side: str, damage: Callable[[Path], Any], match: str
) -> None:
    damage(tmp_path / side)
    before = contents(tmp_path)
    result = parity("diff", *pair)
    assert result.status == 2
    line = complaint(result)
    assert match in line
    assert side in line
    assert not result.out
    assert contents(tmp_path) == before


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda run: run["params"].pop(name)


def with_nan(run: dict[str, Any]) -> None:
    run["params"]["dense/bias"][3, 1] = np.nan


def with_nan_loss(run: dict[str, Any]) -> None:
    run["loss"][2, 1] = np.nan


def with_another_shape(run: dict[str, Any]) -> None:
    run["params"]["dense/kernel"] = run["params"]["dense/kernel"].transpose(0, 2, 1)


def shorter(run: dict[str, Any]) -> None:
    run.update(epochs=run["epochs"][:-1], loss=run["loss"][:-1])
    run["params"] = {name: values[:-1] for name, values in run["params"].items()}


INCOMPARABLE: dict[str, tuple[Callable[[dict[str, Any]], None], int, str]] = {
    "tensor missing": (without("dense/bias"), 3, "parameter dense/bias is missing"),
    "shape": (with_another_shape, 3, "parameter dense/kernel has other shapes: (3, 2) and (2, 3)"),
    "length": (shorter, 3, "snapshots were taken after other epochs"),
    "nan": (with_nan, 1, "first differs at epoch 3: dense/bias[1]"),
    "nan loss": (with_nan_loss, 1, "first differs at epoch 3, batch 1: loss"),
}


@pytest.mark.parametrize(("change", "status", "match"), INCOMPARABLE.values(), ids=INCOMPARABLE)
@pytest.mark.parametrize("swapped", [False, True])
def test_diff_of_what_is_not_comparable_never_passes(
    parity: Parity, tmp_path: Path, change: Any, status: int, match: str, swapped: bool
) -> None:
    folders = [make_run(tmp_path / "a"), make_run(tmp_path / "b", change)]
    if swapped and "shapes" in match:
        match = match.replace("(3, 2) and (2, 3)", "(2, 3) and (3, 2)")
    result = parity("diff", *(reversed(folders) if swapped else folders), "--json", "-")
    assert result.status == status
    (found,) = strict_json(result.out, "diff")["pairs"]
    assert match in found["reason"]
    assert match in result.err
    assert "Traceback" not in result.err


def test_the_same_nan_on_both_sides_is_no_agreement(parity: Parity, tmp_path: Path) -> None:
    assert parity("diff", make_run(tmp_path / "a", with_nan), make_run(tmp_path / "b", with_nan)).status == 1


def test_diff_across_dtypes_says_that_they_differ(parity: Parity, tmp_path: Path) -> None:
    def narrow(run: dict[str, Any]) -> None:
        run["loss"] = run["loss"].astype(np.float32)
        run["params"] = {name: values.astype(np.float32) for name, values in run["params"].items()}

    result = parity("diff", make_run(tmp_path / "a"), make_run(tmp_path / "b", narrow, dtype="float32"))
    assert result.status == 0
    assert "dtype differs: float64 and float32" in result.out


@pytest.mark.parametrize("lockstep", [None, 2])
def test_diff_compares_the_parameters_of_runs_whatever_they_say_of_it(
    parity: Parity, tmp_path: Path, lockstep: int | None
) -> None:
    def narrow(run: dict[str, Any]) -> None:
        run["loss"] = run["loss"].astype(np.float32)
        run["params"] = {name: values.astype(np.float32) for name, values in run["params"].items()}

    def apart(run: dict[str, Any]) -> None:
        narrow(run)
        run["params"]["dense/bias"][3] += 1

    meta = {"dtype": "float32", "float32_parameters": "lockstep", "lockstep": lockstep}
    result = parity("diff", make_run(tmp_path / "a", narrow, **meta), make_run(tmp_path / "b", apart, **meta))
    assert result.status == 1
    assert ("which no suite confirms" in result.out) == (lockstep is None)


def test_diff_says_that_a_newer_run_failed_or_was_not_finished(parity: Parity, pair: tuple[Path, Path]) -> None:
    a, b = pair
    begun = Writer(a, {"dtype": "float64"})
    whole = read(b)
    first = Chunk(whole.epochs[:1], whole.loss[:0], {name: value[:1] for name, value in whole.params.items()}, {})
    begun.add(first)
    begun.flush()
    result = parity("diff", a, b)
    assert result.status == 0
    assert f"{a} is an earlier run: a newer one was begun and not finished" in " ".join(result.out.split())
    keep_failure(b, "ValueError: no such layer")
    for command in ("diff", "explain"):
        result = parity(command, a, b)
        assert result.status == 3
        assert f"{b}: the last run failed: ValueError: no such layer" in result.out
    keep_failure(b, "")
    begun.finish()
    assert "earlier run" not in parity("diff", a, b).out


def test_diff_of_two_folders_of_runs_compares_what_both_hold(parity: Parity, tmp_path: Path) -> None:
    for root in ("first", "second"):
        for case in ("one", "two"):
            make_run(tmp_path / root / case / "numpy-float64-cpu")
    result = parity("diff", "first", "second", "--json", "-")
    assert result.status == 0
    assert len(strict_json(result.out, "diff")["pairs"]) == 2
    assert "counterpart" not in result.err
    (tmp_path / "second" / "two" / "numpy-float64-cpu").rename(tmp_path / "second" / "two" / "mine-floating-point")
    assert len(strict_json(parity("diff", "first", "second", "--json", "-").out, "diff")["pairs"]) == 2
    shutil.rmtree(tmp_path / "second" / "one")
    result = parity("diff", "first", "second")
    assert result.status == 3  # what was not compared never passes
    line = "not compared, for want of a counterpart: 1 of first (one/numpy-float64-cpu), 0 of second\n"
    assert result.out.endswith(line)
    (tmp_path / "second" / "two").rename(tmp_path / "second" / "three")
    result = parity("diff", "first", "second")
    assert result.status == 2
    assert "nothing was compared" in complaint(result)


def test_diff_names_three_of_many_runs_without_a_counterpart(parity: Parity, tmp_path: Path) -> None:
    alone = [f"numpy-float32-cpu-lockstep{length}" for length in range(1, 5)]
    for name in ("numpy-float64-cpu", "torch-float64-cpu", "numpy-checked-cpu", *alone):
        make_run(tmp_path / "runs" / "one" / name)
    result = parity("diff", "runs", "runs")
    named = ", ".join(f"one/{name}" for name in alone[:3])
    assert f"not compared, for want of a counterpart: 4 of runs ({named}, …)\n" in result.out
