"""What a suite knows of recordings comes before what they say of themselves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare_folders
from parity.judging.floor import Floor, load, mark_of, save
from parity.judging.folder import recorded
from parity.judging.known import NOTHING, Known
from parity.judging.outcome import Outcome
from parity.judging.verdict import Verdict
from parity.recording.format import MANIFEST
from parity.running.cells import Options
from parity.running.keys import mark
from parity.running.matrix import Matrix
from parity.suite import Suite, load_suite
from parity.tests.suites import CASE, WRONG, write_suite

WRONG_RUN = "numpy-wrong-float64-cpu"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Suite, Path]]:
    """A suite that keeps its own noise floors, with the runs of its reference and of a wrong implementation."""
    root = tmp_path_factory.mktemp("known")
    package = write_suite(root, numpy_wrong=WRONG)
    init = "from pathlib import Path\nFLOORS = Path(__file__).parent / 'floors'\n"
    (root / package / "__init__.py").write_text(init)
    sys.path.insert(0, str(root))
    suite, out = load_suite(package), root / "runs"
    matrix = Matrix(Options(suite, out))
    assert not any(matrix.measure_floors().values())
    matrix.run(explain=False)
    yield suite, out
    sys.path.remove(str(root))


@pytest.fixture
def copied(made: tuple[Suite, Path], tmp_path: Path) -> Path:
    """A copy of the runs, as it may come from a stranger."""
    return Path(shutil.copytree(made[1], tmp_path / "runs"))


def wrong(root: Path, suite: Suite) -> Outcome:
    (found,) = (o for o in recorded(root, suite, mark) if (o.implementation, o.dtype) == ("numpy-wrong", "float64"))
    return found


def widen(root: Path, name: str) -> None:
    """Put a noise floor that lets everything pass beside the runs, under the mark ``name``."""
    (path,) = (root / "floors").glob("*.safetensors")
    said = mark_of(path)
    assert said is not None
    floors = load(path, said)
    assert floors is not None
    wide = {
        dtype: Floor(np.full_like(floor.loss, 1e30), {n: np.full_like(v, 1e30) for n, v in floor.params.items()})
        for dtype, floor in floors.items()
    }
    save(wide, path, name)
    for run in (root / CASE).iterdir():
        if (run / MANIFEST).exists():
            meta = json.loads((run / MANIFEST).read_text())
            (run / MANIFEST).write_text(json.dumps(meta | {"floor": name}))


def test_the_suites_own_floor_comes_before_one_that_lies_beside_the_runs(
    made: tuple[Suite, Path], copied: Path
) -> None:
    suite = made[0]
    assert suite.floors is not None
    assert wrong(copied, suite).judgement.verdict is Verdict.FAIL
    (own,) = suite.floors.glob("*.safetensors")
    said = mark_of(own)
    assert said is not None
    widen(copied, said)
    assert wrong(copied, suite).judgement.verdict is Verdict.FAIL
    runs = (copied / CASE / WRONG_RUN, copied / CASE / "numpy-float64-cpu")
    assert compare_folders(*runs, known=Known(suite, mark))[0].judgement.verdict is Verdict.FAIL


def test_a_floor_that_a_stranger_brought_under_another_name_is_not_believed(
    made: tuple[Suite, Path], copied: Path
) -> None:
    suite = made[0]
    widen(copied, "0" * 64)
    judgement = wrong(copied, suite).judgement
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "its noise floor is not the suite's" in judgement.reason


def test_a_floor_beside_the_runs_is_taken_where_the_suite_has_changed_since_its_own_was_kept(
    made: tuple[Suite, Path], copied: Path
) -> None:
    suite = made[0]
    assert suite.floors is not None
    (own,) = suite.floors.glob("*.safetensors")
    said = mark_of(own)
    assert said is not None
    floors = load(own, said)
    assert floors is not None
    kept = own.read_bytes()
    try:
        save(floors, own, "what the case was before")
        assert wrong(copied, suite).judgement.verdict is Verdict.FAIL
    finally:
        own.write_bytes(kept)


def test_nothing_is_known_without_a_suite(made: tuple[Suite, Path]) -> None:
    from parity.recording.reader import read

    folder = made[1] / CASE / WRONG_RUN
    run = read(folder)
    assert NOTHING.entry(CASE) is None
    assert NOTHING.entry_of(run) is None
    assert NOTHING.floor(folder, run) is not None


def test_a_run_of_other_parameters_is_not_of_the_case_that_it_names(made: tuple[Suite, Path]) -> None:
    from dataclasses import replace

    from parity.recording.reader import read

    run = read(made[1] / CASE / WRONG_RUN)
    known = Known(made[0], mark)
    assert known.entry_of(run) is not None
    assert known.entry_of(replace(run, params={"another": next(iter(run.params.values()))})) is None
