"""Runs of every fate, a copy of them, and the same with names that try to become script."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity.judging.outcome import Outcome
from parity.recording.places import EXPLANATION
from parity.running.cells import Options
from parity.running.matrix import Matrix
from parity.suite import Suite, load_suite
from parity.tests import suites
from parity.tests.report.runs import ATTRIBUTE, IMAGE, SCRIPT, change
from parity.tests.suites import CASE, write_suite


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Path, list[Outcome]]]:
    """A suite with an implementation of each fate, its runs on disk, and what ``parity run`` made of them."""
    root = tmp_path_factory.mktemp("reported")
    wrong = {"numpy_wrong": suites.WRONG, "numpy_nan": suites.NAN, "numpy_raises": suites.RAISES}
    package = write_suite(root, numpy_honest=suites.HONEST, **wrong)
    sys.path.insert(0, str(root))
    suite, out = load_suite(package), root / "runs"
    yield suite, out, Matrix(Options(suite, out, lockstep=2)).run()
    sys.path.remove(str(root))


@pytest.fixture
def copied(made: tuple[Suite, Path, list[Outcome]], tmp_path: Path) -> Path:
    """A copy of the runs that a test may damage."""
    return Path(shutil.copytree(made[1], tmp_path / "runs"))


@pytest.fixture(scope="session")
def hostile(made: tuple[Suite, Path, list[Outcome]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a stranger's, whose every name and text tries to become script."""
    root = tmp_path_factory.mktemp("hostile")
    shutil.copytree(made[1] / CASE, root / IMAGE)
    shutil.copytree(made[1] / "floors", root / "floors")
    for floor in (root / "floors").iterdir():
        floor.rename(floor.with_name(floor.name.replace(CASE, IMAGE)))
    for run in (root / IMAGE).glob("*/"):
        bad = {
            "seconds": 1e300,
            "versions": {SCRIPT: SCRIPT, IMAGE: IMAGE},
            "platform": {SCRIPT: [IMAGE]},
            "hyper_parameters": SCRIPT,
        }
        change(run, case=IMAGE, **bad)
        for explanation in run.glob(EXPLANATION):
            found = json.loads(explanation.read_text())
            explanation.write_text(json.dumps(found | {"explanation": {"sentence": SCRIPT, "why": [SCRIPT]}}))
    renamed = (root / IMAGE / "numpy-honest-float64-cpu").rename(root / IMAGE / f"{ATTRIBUTE}-float64-cpu")
    change(renamed, implementation=ATTRIBUTE)
    (root / IMAGE / ".numpy-raises-float64-cpu.failed").write_text(SCRIPT)
    return root
