"""One line in a test: what it lets pass, and what its failure says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import parity
from parity.tests.report.pairs import PLAIN, pair, record


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    return pair(tmp_path_factory.mktemp("pair"))


def test_runs_that_agree_give_their_comparison(runs: tuple[Path, Path, Path]) -> None:
    found = parity.assert_same_training(*runs[:2])
    assert found.judgement.verdict == "PASS"
    assert found.matched is not None
    assert len(found.matched.pairings) == 2


def test_a_failure_says_verdict_place_layer_and_figures(runs: tuple[Path, Path, Path]) -> None:
    with pytest.raises(AssertionError) as failure:
        parity.assert_same_training(str(runs[0]), str(runs[2]))
    said = str(failure.value)
    for part in (
        f"FAIL {runs[0]} against {runs[2]}",
        "first differs at epoch 1, batch 0, prediction",
        "state agrees, to 0 of the noise floor",
        "1 (LayerNorm) ↔ LayerNorm_0 (LayerNorm): inputs agree to 0 of the noise floor, output parts by",
        "epsilon 1e-05 against 0.001",
        "note: 2 of 2 tensors matched, all proven",
        f"parity explain {runs[0]} {runs[2]} --page",
    ):
        assert part in said


def test_what_could_not_be_compared_fails_and_says_why(tmp_path: Path) -> None:
    whole = record(tmp_path / "whole", "torch", PLAIN)
    part = parity.Recorder(tmp_path / "part", "float64")
    run = parity.read(whole)
    begun, ended = run.params["0.weight"][:2]
    with part:
        part.snapshot({"kernel": begun.T})
        part.step(float(run.loss[0, 0]), params={"kernel": begun.T})
        part.snapshot({"kernel": ended.T})
    with pytest.raises(AssertionError, match=r"^INCONCLUSIVE ") as failure:
        parity.assert_same_training(whole, tmp_path / "part")
    assert "2.weight" in str(failure.value)
    assert "nothing to explain" not in str(failure.value)


def test_a_name_stays_on_its_line_and_paints_nothing(tmp_path: Path) -> None:
    runs = pair(tmp_path, "\x1b[2J\nPASS\u202e")
    with pytest.raises(AssertionError) as failure:
        parity.assert_same_training(runs[0], runs[2])
    said = str(failure.value)
    assert all(letter.isprintable() or letter == "\n" for letter in said)
    assert "LayerNorm_0\\x1b[2J" in said
    assert not any(line.startswith("PASS") for line in said.splitlines())


def test_repetitions_accepted_departures_and_a_map_are_handed_on(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with pytest.raises(parity.TrajectoryError, match="no-such-departure"):
        parity.assert_same_training(*runs[:2], accept=["no-such-departure"])
    with pytest.raises(parity.TrajectoryError, match="nowhere"):
        parity.assert_same_training(*runs[:2], noise=[tmp_path / "nowhere"])
    with pytest.raises(parity.TrajectoryError, match="no-map"):
        parity.assert_same_training(*runs[:2], map=tmp_path / "no-map")


def test_pytest_shows_the_message_and_the_users_line_without_the_plugin(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    code = f"import parity\n\ndef test_port():\n    parity.assert_same_training({str(runs[0])!r}, {str(runs[2])!r})\n"
    (tmp_path / "test_port.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "no:parity", "-p", "no:cacheprovider", "test_port.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ">       parity.assert_same_training(" in done.stdout
    assert "1 (LayerNorm) ↔ LayerNorm_0 (LayerNorm)" in done.stdout
    assert "raise AssertionError" not in done.stdout
