"""What is judged from a folder alone."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parity.judging.diff import compare_folders
from parity.judging.floors.known import NOTHING, Known
from parity.judging.folder import recorded
from parity.judging.outcome import Outcome, as_json
from parity.judging.verdict import Verdict
from parity.recording.format import MANIFEST
from parity.recording.places import EXPLANATION
from parity.recording.reader import read
from parity.recording.writer import write
from parity.running.cells import Options
from parity.running.keys import mark
from parity.running.matrix import Matrix
from parity.spec import Policy
from parity.suite import Suite, load_suite
from parity.tests.report.runs import change, only
from parity.tests.suites import CASE
from parity.trajectory import TrajectoryError


def test_a_folder_alone_is_judged_as_the_run_was(made: tuple[Suite, Path, list[Outcome]]) -> None:
    suite, out, ran = made
    found = recorded(out, suite)
    assert Counter(o.judgement.verdict for o in found) == {"PASS": 4, "FAIL": 4, "INCONCLUSIVE": 2}
    for before in ran:
        after = only(found, before.implementation, before.dtype)
        assert after.judgement.verdict is before.judgement.verdict
        assert (after.judgement.ratio, after.judgement.parameter) == (
            before.judgement.ratio,
            before.judgement.parameter,
        )
        # Why nothing was recorded is said with the run's name; a failure to explain is known to the run alone.
        assert before.judgement.reason.startswith(after.judgement.reason.rpartition("the last run failed: ")[2])
        assert after.explanation == before.explanation
        lockstep = [one.lockstep for one in after.judgement.evidence]
        assert lockstep == [one.lockstep for one in before.judgement.evidence]
    assert [one.lockstep for one in only(found, "numpy-honest").judgement.evidence] == [None, 2]
    assert any(o.explanation for o in found)


def test_of_the_documents_a_case_is_judged_with_its_published_figures(tmp_path: Path) -> None:
    suite = load_suite("impls")
    ran = Matrix(Options(suite, tmp_path, cases=["iris-logistic"], implementations=["numpy"])).run()
    found = recorded(tmp_path, suite)
    assert as_json(found) == as_json(sorted(ran, key=lambda o: o.dtype))
    assert all(len(o.figures) == 24 for o in found)


def test_what_cannot_be_judged_is_inconclusive_and_says_why(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    case = copied / CASE
    (case / "numpy-honest-float32-cpu" / "00000.safetensors").write_bytes(b"short")
    (case / "numpy-wrong-float32-cpu" / MANIFEST).unlink()
    (case / "numpy-nan-float32-cpu").rename(case / ".numpy-nan-float32-cpu.partial")
    change(case / "numpy-nan-float64-cpu", device="cuda")
    (case / "my-own-run").mkdir()
    (case / "my-own-run" / MANIFEST).write_text("{")
    newer = shutil.copytree(case / "numpy-honest-float64-cpu", case / ".numpy-honest-float64-cpu.partial")
    change(Path(newer), key="of other code", complete=False)
    (case / ".numpy-wrong-float64-cpu.partial").mkdir()
    found = recorded(copied, made[0])
    reasons = {f"{o.implementation}-{o.dtype}": o.judgement.reason for o in found}
    assert len(found) == 11
    assert "bytes where trajectory.json says" in reasons["numpy-honest-float32"]
    assert "is missing" in reasons["numpy-wrong-float32"]
    assert "a run that was not finished" in reasons["numpy-nan-float32"]
    assert "says of itself that its device is 'cuda'" in reasons["numpy-nan-float64"]
    assert "is no valid JSON" in reasons["my-own-run-?"]
    assert "a newer run was begun" in reasons["numpy-honest-float64"]
    assert "no such layer" in reasons["numpy-raises-float64"]
    assert only(found, "numpy-honest").judgement.verdict is Verdict.INCONCLUSIVE
    assert only(found, "numpy-wrong").judgement.verdict is Verdict.FAIL


def test_without_its_reference_or_its_floor_nothing_passes(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    shutil.rmtree(copied / "floors")
    assert {o.judgement.verdict for o in recorded(copied, made[0])} == {Verdict.INCONCLUSIVE}
    shutil.rmtree(copied / CASE / "numpy-float64-cpu")
    reasons = {o.judgement.reason for o in recorded(copied, made[0]) if o.run is not None}
    assert len(reasons) == 1
    assert "holds no reference run numpy-float64-cpu" in reasons.pop()


def test_a_run_whose_parameters_count_in_lockstep_needs_that_run(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    run, suite = copied / CASE / "numpy-honest-float32-cpu", in_lockstep(made[0])
    assert only(recorded(copied, suite), "numpy-honest", "float32").judgement.verdict is Verdict.PASS
    shutil.rmtree(run.with_name(f"{run.name}-lockstep2"))
    found = only(recorded(copied, suite), "numpy-honest", "float32")
    assert "no such run of the same code lies beside it" in found.judgement.reason


def in_lockstep(suite: Suite) -> Suite:
    """The suite with a case whose float32 parameters are asserted in lockstep alone."""
    entry = suite.entries[CASE]
    case = replace(entry.case, policy=Policy(float32_parameters="lockstep", reason="a test"))
    return replace(suite, entries={CASE: replace(entry, case=case)})


@pytest.mark.parametrize("word", ["lockstep", "never", "none", 0])
def test_a_recording_cannot_loosen_its_own_judgement(
    word: object, made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    """Its parameters are wrong and its losses right: that passes where a case of the suite says so alone."""
    suite, run = made[0], copied / CASE / "numpy-honest-float32-cpu"
    other = run.with_name("numpy-wrong-float32-cpu")
    right = read(run)
    wrong = {name: values[:] + np.float32(1) for name, values in right.params.items()}
    said = right.meta | {"implementation": "numpy-wrong", "float32_parameters": word}
    shutil.rmtree(other)
    write(other, right.epochs, right.loss, wrong, meta=said)
    shutil.rmtree(other.with_name(f"{other.name}-lockstep2"))
    assert only(recorded(copied, suite), "numpy-wrong", "float32").judgement.verdict is Verdict.FAIL
    for known in (NOTHING, Known(suite, mark)):
        (found,) = compare_folders(other, run, known=known)
        assert found.judgement.verdict is Verdict.FAIL
        assert any("which no suite confirms" in note for note in found.notes)
    (found,) = compare_folders(other, run, known=Known(in_lockstep(suite), mark))
    assert found.judgement.verdict is Verdict.PASS


def test_a_run_in_lockstep_of_other_code_is_not_judged(made: tuple[Suite, Path, list[Outcome]], copied: Path) -> None:
    run = copied / CASE / "numpy-honest-float64-cpu"
    shutil.rmtree(run.with_name(f"{run.name}-lockstep2"))
    (copied / CASE / "numpy-wrong-float64-cpu-lockstep2").rename(run.with_name(f"{run.name}-lockstep2"))
    change(run.with_name(f"{run.name}-lockstep2"), implementation="numpy-honest")
    found = only(recorded(copied, made[0]), "numpy-honest")
    assert found.judgement.verdict is Verdict.PASS
    assert [one.lockstep for one in found.judgement.evidence] == [None]


def test_a_new_recording_takes_a_failure_and_an_explanation_away(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    suite = made[0]
    assert (copied / CASE / ".numpy-raises-float64-cpu.failed").read_text() == "ValueError: no such layer"
    (copied / CASE / ".numpy-honest-float64-cpu.failed").write_text("it was too warm")
    assert "it was too warm" in only(recorded(copied, suite), "numpy-honest").judgement.reason
    run = copied / CASE / "numpy-honest-float64-cpu"
    (run / EXPLANATION).write_text("{}")
    Matrix(Options(suite, copied, implementations=["numpy-honest"], lockstep=2, fresh=True)).run()
    assert only(recorded(copied, suite), "numpy-honest").judgement.verdict is Verdict.PASS
    assert not (run / EXPLANATION).exists()


def test_a_folder_without_runs_is_refused(made: tuple[Suite, Path, list[Outcome]], tmp_path: Path) -> None:
    suite, out, _ = made
    (tmp_path / "notes" / "today").mkdir(parents=True)
    for folder, complaint in (
        (tmp_path, "holds no recorded runs"),
        (tmp_path / "nowhere", "is not a folder"),
        (out / CASE / "numpy-float64-cpu", "is one trajectory"),
    ):
        with pytest.raises(TrajectoryError, match=complaint):
            recorded(folder, suite)
