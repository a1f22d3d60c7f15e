"""Hostile recordings: every command ends, soon and with little memory, and none of them passes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from parity.recording.format import MANIFEST
from parity.tests.hostile import CASE, HOSTILE, hostile_folder, hostile_run
from parity.tests.recording.runs import make, save_run

SECONDS = 60
MEMORY = 512 << 20
"""The memory that a command may take, with Python and NumPy."""
SCRIPT = """
import sys
from parity.cli.main import main
sys.argv = ["parity", *sys.argv[1:]]
try:
    main()
finally:
    from parity.tests.memory import peak
    print("peak", peak(), file=sys.stderr)
"""


def called(folder: Path, *arguments: str) -> tuple[int, bytes]:
    """The command's status and all that it says, in a process of its own, which must stay small."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    said, _, peak = done.stderr.rpartition(b"peak ")
    assert int(peak) < MEMORY
    assert b"Traceback" not in said, said.decode(errors="replace")
    assert b"\x1b" not in done.stdout + said
    assert b"root:" not in done.stdout + said
    return done.returncode, done.stdout + said


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if number < 1 else pytest.mark.slow) for number, name in enumerate(HOSTILE)]
)
def test_no_hostile_recording_passes_against_the_honest_one(tmp_path: Path, name: str) -> None:
    save_run(tmp_path / "honest", make())
    run = hostile_run(tmp_path / "runs", name)
    for command in ("diff", "explain"):
        for pair in ((run, tmp_path / "honest"), (tmp_path / "honest", run)):
            status, said = called(tmp_path, command, *map(str, pair))
            # What differs in words alone agrees in what counts.
            agrees = name in ("painting", "lenient", "silent-beginning")
            assert status in ((0,) if agrees else (1, 2, 3)), said.decode(errors="replace")


@pytest.mark.slow
def test_a_folder_of_hostile_recordings_is_reported_in_every_form(tmp_path: Path) -> None:
    root = hostile_folder(tmp_path / "runs")
    for form in ("html", "md", "junit", "json"):
        status, said = called(tmp_path, "report", "runs", "--format", form)
        assert status == 3, said.decode(errors="replace")
    cells = json.loads(called(tmp_path, "report", "runs", "--format", "json")[1])["cells"]
    assert not [cell for cell in cells if cell["verdict"] == "PASS"]
    assert {cell["implementation"] for cell in cells if cell["case"] == CASE} >= set(HOSTILE)
    (root / "report.html").read_text(encoding="utf-8")
    assert called(tmp_path, "diff", "runs", "runs")[0] == 2
    assert not (root / "report.html").is_symlink()
    assert (root / CASE / "numpy-float64-cpu" / MANIFEST).is_file()
