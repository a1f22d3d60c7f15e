"""The page that ``parity run`` writes, and when it is made anew."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from parity.cli import cases, recordings
from parity.judging.folder import recorded
from parity.judging.outcome import Outcome
from parity.report.current import fingerprint
from parity.suite import Suite
from parity.tests.report.runs import change
from parity.tests.suites import CASE
from parity.trajectory import TrajectoryError


def test_a_run_writes_the_page_and_leaves_it_where_nothing_changed(
    made: tuple[Suite, Path, list[Outcome]], copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(**options: Any) -> str:
        with pytest.raises(SystemExit) as ended:
            cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied, **options)
        assert ended.value.code == 0
        return capsys.readouterr().out

    page = copied / "report.html"
    assert "report:" not in run(page=False)
    assert not page.exists()
    assert run().endswith(f"report: {page}\n")
    written = page.stat().st_mtime_ns
    run()
    assert page.stat().st_mtime_ns == written
    # A call for one cell leaves the others on the page.
    assert "numpy-wrong" in page.read_text()
    run(dtype=["float64"])
    assert page.stat().st_mtime_ns == written
    shutil.rmtree(copied / CASE / "numpy-wrong-float32-cpu")
    run(dtype=["float64"])
    assert page.stat().st_mtime_ns != written


@pytest.mark.parametrize(
    "changed",
    [
        *("report/html.py", "report/page.py", "report/words.py", "report/report.html", "report/report.js"),
        *("judging/published.py", "suite.py", "toy/spec.py", "toy/toy_numpy_wrong.py"),
    ],
)
def test_a_page_is_made_anew_when_what_it_draws_from_changed(
    changed: str, made: tuple[Suite, Path, list[Outcome]], monkeypatch: pytest.MonkeyPatch
) -> None:
    some = [o for o in made[2] if o.implementation == "numpy-honest"]
    before, read_bytes = fingerprint(some), Path.read_bytes
    assert fingerprint(some) == before
    seen = []

    def edited(path: Path) -> bytes:
        if not path.as_posix().endswith(f"/{changed}"):
            return read_bytes(path)
        seen.append(path)
        return read_bytes(path) + b"\n"

    monkeypatch.setattr(Path, "read_bytes", edited)
    assert fingerprint(some) != before
    assert seen


def test_a_page_is_made_anew_when_a_run_says_other_things_of_itself(
    made: tuple[Suite, Path, list[Outcome]], copied: Path
) -> None:
    before = fingerprint(recorded(copied, made[0]))
    change(copied / CASE / "numpy-honest-float64-cpu", threads=7)
    assert fingerprint(recorded(copied, made[0])) != before


@pytest.mark.parametrize("package", ["jinja2", "plotly", "pygments"])
def test_without_what_a_page_needs_a_run_still_says_its_verdict(
    package: str,
    made: tuple[Suite, Path, list[Outcome]],
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as ended:
        cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied)
    assert ended.value.code == 0
    assert (
        f"no report: a page needs {package}, which is not installed: python -m pip install" in capsys.readouterr().out
    )
    assert not (copied / "report.html").exists()
    with pytest.raises(SystemExit) as ended:
        recordings.report(copied, suite=made[0].package)
    assert ended.value.code == 2


def test_a_disk_without_room_for_the_page_costs_the_page_and_not_the_verdict(
    made: tuple[Suite, Path, list[Outcome]],
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(path: Path, *arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("parity.recording.files.write_whole", no_room)
    with pytest.raises(SystemExit) as ended:
        cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied)
    assert ended.value.code == 0
    assert f"no report: cannot write {copied / 'report.html'}: No space left" in capsys.readouterr().out


def test_a_folder_that_cannot_be_read_costs_the_page_and_not_the_verdict(
    made: tuple[Suite, Path, list[Outcome]],
    copied: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreadable(*arguments: object) -> None:
        raise TrajectoryError("another case: cannot be read")

    monkeypatch.setattr("parity.judging.folder.whole_folder", unreadable)
    with pytest.raises(SystemExit) as ended:
        cases.run([CASE], ["numpy-honest"], suite=made[0].package, out=copied)
    assert ended.value.code == 0
    assert "no report: another case: cannot be read" in capsys.readouterr().out
