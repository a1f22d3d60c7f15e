"""What a suite knows of recordings comes before what they say of themselves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.diff import compare_folders
from parity.judging.floors.floor import Floor, load, mark_of, save
from parity.judging.floors.known import NOTHING, Known
from parity.judging.folder import recorded
from parity.judging.outcome import Outcome
from parity.judging.verdict import Verdict
from parity.recording.format import MANIFEST
from parity.recording.reader import read
from parity.recording.writer import write
from parity.running.cells import Options
from parity.running.keys import mark
from parity.running.matrix import Matrix
from parity.suite import Suite, load_suite
from parity.tests.suites import CASE, WRONG, write_suite
from parity.trajectory import TrajectoryError

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


def scaled(root: Path, factor: float) -> None:
    """Multiply the noise floor that lies beside the runs, under its own mark and with a right checksum."""
    (path,) = (root / "floors").glob("*.safetensors")
    said = mark_of(path)
    assert said is not None
    floors = load(path, said)
    assert floors is not None
    found = {
        dtype: Floor(factor * floor.loss, {n: factor * v for n, v in floor.params.items()})
        for dtype, floor in floors.items()
    }
    save(found, path, said)


def verdicts(root: Path, suite: Suite) -> list[Verdict]:
    """Of a run beside its reference: as a report judges it with the suite, and as ``diff`` does with it and without."""
    folder = root / CASE / WRONG_RUN
    (one,) = (o for o in recorded(root, suite, mark) if o.implementation == "numpy-wrong")
    pair = folder, folder.with_name("numpy-float64-cpu")
    return [one.judgement.verdict, *(_verdict_of(pair, known) for known in (NOTHING, Known(suite, mark)))]


def _verdict_of(pair: tuple[Path, Path], known: Known) -> Verdict:
    try:
        return compare_folders(*pair, known=known)[0].judgement.verdict
    except TrajectoryError:
        return Verdict.INCONCLUSIVE


@pytest.fixture
def gross(copied: Path) -> Path:
    """The runs, of which the wrong one is what a run is whose every update is half as large again."""
    folder = copied / CASE
    for run in folder.iterdir():
        if run.name not in ("numpy-float64-cpu", "numpy-checked-cpu", WRONG_RUN):
            shutil.rmtree(run) if run.is_dir() else run.unlink()
    right, meta = read(folder / "numpy-float64-cpu"), read(folder / WRONG_RUN).meta
    params = {name: values[:] + 0.5 * (values[:] - values[:1]) for name, values in right.params.items()}
    shutil.rmtree(folder / WRONG_RUN)
    write(folder / WRONG_RUN, right.epochs, right.loss, params, metrics=right.metrics, meta=meta)
    return copied


@pytest.mark.parametrize("factor", [0.0, 1e-3, 1, 1e3, 1e6, 1e9, 1e12, 1e20, 1e30, np.inf, np.nan, -1, -1e30])
def test_no_floor_beside_a_run_lets_a_gross_mistake_pass(made: tuple[Suite, Path], gross: Path, factor: float) -> None:
    """Nor one of a suite that keeps none; where the suite keeps its own, that one alone counts."""
    scaled(gross, factor)
    own = replace(made[0], floors=None)
    for found in (*verdicts(gross, own), *verdicts(gross, made[0])):
        assert found is not Verdict.PASS
    if factor == 1:
        assert set(verdicts(gross, made[0])) == {Verdict.FAIL}


def test_where_a_floor_comes_from_is_said(made: tuple[Suite, Path], copied: Path) -> None:
    suite, runs = made[0], (copied / CASE / WRONG_RUN, copied / CASE / "numpy-float64-cpu")
    for known, source, words in (
        (Known(suite, mark), "suite", "is the suite's own"),
        (NOTHING, "beside", "lies beside it and came with it"),
    ):
        (found,) = compare_folders(*runs, known=known)
        assert found.as_json()["floor"] == source
        assert [f"the noise floor of {folder} {words}" for folder in runs] == [*found.notes]
    assert wrong(copied, suite).judgement.source == "suite"
    assert wrong(copied, replace(suite, floors=None)).judgement.source == "beside"
    shutil.rmtree(copied / "floors")
    (found,) = compare_folders(*runs)
    assert found.as_json()["floor"] == "rounding"


def test_two_runs_of_one_case_need_one_floor(copied: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copied, tmp_path / "others"))
    run = Path(CASE) / WRONG_RUN
    assert compare_folders(copied / run, other / run)[0].judgement.verdict is Verdict.PASS
    scaled(other, 2.0)
    found = compare_folders(copied / run, other / run)[0].judgement
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("two runs of one case need one noise floor, and those of ")


WORDS: dict[str, list[Any]] = {
    "dtype": ["float32", "float16", "bfloat16", "longdouble"],
    "float32_parameters": ["lockstep", "never", "none", "", 0, None, False, [], {}],
    "lockstep": [1, 2, 10**9, 0, -1, 10**300, None],
    "floor": [None, "", "0" * 64, "f" * 64],
    "case": ["", "another", f"{CASE}@other", "../toy-sgd"],
    "implementation": ["numpy", "numpy-checked", ""],
    "device": ["cuda", "", "cpu-lockstep1"],
    "key": [None, "0" * 64],
    "origin": ["0" * 64, ""],
    "batch_order": [None],
    "deep": [0, 1, 10**9],
    "complete": [False],
    "seconds": [0, 1e9],
    "threads": [0, 64],
    "settings": [{}, {"tolerance": 1e9}],
    "versions": [{}],
    "hyper_parameters": [{}, {"optimizer": "Sgd(learning_rate=1.0)"}],
    "tolerance": [1e30],
    "policy": ["free"],
    "asserted": [[], ["loss"]],
    "verdict": ["PASS"],
}


@pytest.mark.parametrize(("word", "value"), [(word, value) for word, values in WORDS.items() for value in values])
def test_no_word_of_a_manifest_lets_a_wrong_run_pass(
    made: tuple[Suite, Path], gross: Path, word: str, value: Any
) -> None:
    path = gross / CASE / WRONG_RUN / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {word: value}))
    (one,) = (o for o in recorded(gross, made[0], mark) if o.implementation == "numpy-wrong")
    assert one.judgement.verdict is not Verdict.PASS
    for known in (NOTHING, Known(made[0], mark)):
        assert _verdict_of((path.parent, path.parent.with_name("numpy-float64-cpu")), known) is not Verdict.PASS


@pytest.mark.parametrize("word", WORDS)
def test_nor_a_word_that_is_missing(made: tuple[Suite, Path], gross: Path, word: str) -> None:
    path = gross / CASE / WRONG_RUN / MANIFEST
    said = json.loads(path.read_text())
    said.pop(word, None)
    path.write_text(json.dumps(said))
    (one,) = (o for o in recorded(gross, made[0], mark) if o.implementation == "numpy-wrong")
    assert one.judgement.verdict is not Verdict.PASS
    for known in (NOTHING, Known(made[0], mark)):
        assert _verdict_of((path.parent, path.parent.with_name("numpy-float64-cpu")), known) is not Verdict.PASS


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
    folder = made[1] / CASE / WRONG_RUN
    run = read(folder)
    assert NOTHING.entry(CASE) is None
    assert NOTHING.entry_of(run) is None
    assert NOTHING.floor(folder, run) is not None


def test_a_run_of_other_parameters_is_not_of_the_case_that_it_names(made: tuple[Suite, Path]) -> None:
    run = read(made[1] / CASE / WRONG_RUN)
    known = Known(made[0], mark)
    assert known.entry_of(run) is not None
    assert known.entry_of(replace(run, params={"another": next(iter(run.params.values()))})) is None
