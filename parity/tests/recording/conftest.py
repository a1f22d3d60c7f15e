"""A recorded run that a test may damage."""

from pathlib import Path

import pytest

from parity.tests.recording.runs import make, save_run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_run(tmp_path / "run", make(), cuts=(1, 4))
    return tmp_path / "run"
