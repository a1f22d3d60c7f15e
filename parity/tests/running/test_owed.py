"""What a case owes: an implementation in every framework of its suite, or the reason why it has none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from parity.judging.outcome import total
from parity.judging.verdict import Verdict
from parity.running.cells import Options, cells, owed
from parity.running.matrix import Matrix
from parity.suite import SuiteError, load_suite
from parity.tests.suites import HONEST

# Two models, each in NumPy, torch and TF1 as far as their labels say; all of it is the NumPy model of the tests.
SPEC = """
from dataclasses import replace
from parity.tests import toy
CASES = (replace(toy.MOMENTUM, name="{name}", epochs=2, absent={absent}),)
"""
REASON = "TF1 cannot add"


def write(root: Path, absent: dict[str, str] | None = None) -> Path:
    """A package of two models, ``first`` and ``second``; ``absent`` are the excuses of the second."""
    package = root / ("owed_" + "".join(letter if letter.isalnum() else "_" for letter in root.name))
    for name, excuses in (("first", {}), ("second", absent or {})):
        (package / name).mkdir(parents=True)
        for path in (package, package / name):
            (path / "__init__.py").touch()
        (package / name / "spec.py").write_text(SPEC.format(name=name, absent=excuses))
        for label in ("numpy", "torch_manual", "tf1"):
            (package / name / f"{name}_{label}.py").write_text(HONEST)
    return package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return write(tmp_path)


def test_a_case_owes_nothing_where_it_has_every_framework(package: Path) -> None:
    suite = load_suite(package.name)
    assert suite.frameworks == ["numpy", "torch", "tf1"]
    assert [suite.owed(entry) for entry in suite.entries.values()] == [{}, {}]


@pytest.mark.parametrize("label", ["numpy", "torch_manual", "tf1"])
def test_a_file_that_is_deleted_is_owed_by_its_framework(package: Path, label: str) -> None:
    (package / "second" / f"second_{label}.py").unlink()
    suite = load_suite(package.name)
    plain = label.partition("_")[0]
    assert not suite.owed(suite.entry("first"))
    found = suite.owed(suite.entry("second"))
    assert list(found) == [plain]
    assert f"no {plain} implementation" in found[plain]
    assert f"write second_{plain}.py" in found[plain]


@pytest.mark.parametrize(("reason", "owes"), [(REASON, False), ("", True)])
def test_a_reason_pays_for_it_and_an_empty_one_does_not(package: Path, reason: str, owes: bool) -> None:
    (package / "second" / "second_tf1.py").unlink()
    suite = load_suite(package.name)
    entry = suite.entry("second")
    excused = replace(entry, case=replace(entry.case, absent={"tf1": reason}))
    assert bool(suite.owed(excused)) == owes


def test_a_stale_reason_is_owed_too(package: Path) -> None:
    suite = load_suite(package.name)
    entry = suite.entry("second")
    found = suite.owed(replace(entry, case=replace(entry.case, absent={"tf1": REASON})))
    assert list(found) == ["tf1"]
    assert "second_tf1.py" in found["tf1"]
    assert REASON in found["tf1"]


def test_any_way_of_writing_a_framework_pays_for_it(package: Path) -> None:
    (package / "first" / "first_torch.py").write_text(HONEST)
    suite = load_suite(package.name)
    assert not suite.owed(suite.entry("second"))


def test_a_suite_of_one_framework_owes_no_other(package: Path) -> None:
    for path in package.glob("*/*_t*.py"):
        path.unlink()
    suite = load_suite(package.name)
    assert suite.frameworks == ["numpy"]
    assert [suite.owed(entry) for entry in suite.entries.values()] == [{}, {}]


def test_what_was_not_asked_for_is_not_owed(package: Path, tmp_path: Path) -> None:
    (package / "second" / "second_tf1.py").unlink()
    suite = load_suite(package.name)

    def names(**asked: object) -> list[str]:
        return [cell.name for cell in owed(Options(suite, tmp_path, **asked))]

    assert names() == ["second-tf1-float32", "second-tf1-float64"]
    assert names(dtypes=["float64"]) == ["second-tf1-float64"]
    assert names(cases=["first"]) == names(frameworks=["torch"]) == names(implementations=["numpy"]) == []
    with pytest.raises(SuiteError, match="second has no tf1 implementation"):
        cells(Options(suite, tmp_path, cases=["second"], implementations=["tf1"]))


@pytest.mark.parametrize("fault", ["deleted", "stale"])
def test_the_matrix_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = write(tmp_path, {"tf1": REASON} if fault == "stale" else None)
    if fault == "deleted":
        (package / "second" / "second_tf1.py").unlink()
    told = []
    options = Options(
        load_suite(package.name), tmp_path / "runs", frameworks=["numpy", "tensorflow"], dtypes=["float64"]
    )
    outcomes = Matrix(options).run(on_outcome=told.append)
    verdicts = {outcome.name: outcome.judgement.verdict for outcome in outcomes}
    assert verdicts.pop("second-tf1-float64") is Verdict.FAIL
    assert set(verdicts) == {"first-numpy-float64", "first-tf1-float64", "second-numpy-float64"}
    assert set(verdicts.values()) == {Verdict.PASS}
    assert total(outcomes) is Verdict.FAIL
    assert {outcome.name for outcome in told} == {outcome.name for outcome in outcomes}


def test_without_the_reference_no_other_cell_passes(package: Path, tmp_path: Path) -> None:
    (package / "second" / "second_numpy.py").unlink()
    options = Options(load_suite(package.name), tmp_path / "runs", cases=["second"], dtypes=["float64"])
    verdicts = {outcome.name: outcome.judgement.verdict for outcome in Matrix(options).run()}
    assert verdicts == {
        "second-numpy-float64": Verdict.FAIL,
        "second-torch-manual-float64": Verdict.INCONCLUSIVE,
        "second-tf1-float64": Verdict.INCONCLUSIVE,
    }


def call(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, timeout=300
    )


def test_the_list_fails_and_says_why(package: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.json"
    command = ("parity", "list", "--suite", package.name, "--json", str(listed))
    assert call(*command).returncode == 0
    (package / "second" / "second_tf1.py").unlink()
    done = call(*command)
    assert done.returncode == 1, done.stderr
    cells = {(cell["case"], cell["implementation"]): cell for cell in json.loads(listed.read_text())["cells"]}
    assert cells["first", "tf1"]["reason"] != cells["second", "tf1"]["reason"]
    assert not cells["second", "tf1"]["available"]
    assert "write second_tf1.py" in cells["second", "tf1"]["reason"]


@pytest.mark.slow
def test_the_ladder_fails_on_every_rung(package: Path) -> None:
    (package / "second" / "second_tf1.py").unlink()
    only = ("--parity-suite", package.name, "--parity-framework", "numpy", "--parity-framework", "tensorflow")
    only += ("--slow", "-k", "second and float64")
    done = call("pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "parity.tests.test_ladder", *only)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "6 failed, 6 passed" in done.stdout
    assert "second has no tf1 implementation" in done.stdout
