"""Checkpoints and logs changed at random are read or refused: no crash, no hang, and little memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.tests.fuzzing import artefacts as fuzzing
from parity.tests.fuzzing.artefacts import Artefacts, found_in, simple, written
from parity.tests.fuzzing.fuzz import fuzz
from parity.tests.fuzzing.test_fuzzing import sound
from parity.tests.recording.test_artefacts import torch_files
from parity.trajectory import TrajectoryError


@pytest.mark.asks(question=torch_files, framework="torch")
def test_changed_checkpoints_and_logs_are_read_or_refused(answer: tuple[str, object]) -> None:
    trees = simple() | found_in(Path(answer[0]))
    found = fuzz(range(300), 7, make=lambda scratch: Artefacts(scratch, trees))
    sound(found)
    said = " ".join(found.verdicts)
    assert all(f"{kind} refused" in said for kind in ("pt", "npz", "csv", "jsonl", "hf", "safetensors", "trainer"))
    assert "pt read" in said


@pytest.mark.slow
def test_those_of_every_library_are_read_or_refused() -> None:
    def make(scratch: Path) -> Artefacts:
        (scratch / "written").mkdir()
        return Artefacts(scratch, written(scratch / "written"))

    sound(fuzz(range(500), 8, make=make))


def test_what_goes_wrong_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def painted(path: Path) -> None:
        raise TrajectoryError("\x1b[2J")

    monkeypatch.setattr(fuzzing, "read_artefact", painted)
    found = fuzz(range(5), 7, make=lambda scratch: Artefacts(scratch, simple()))
    assert len(found.crashes) == 5
    assert "an error that paints" in found.crashes[0]
