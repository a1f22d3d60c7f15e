"""Calls that write to one folder; a folder that is full, read-only or taken away; a reader that stops reading."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from parity.cli.output import UNHEARD
from parity.recording import lock
from parity.recording.lock import alone, tidy
from parity.recording.places import failure_path, keep_failure, kept_failure
from parity.running import keyring
from parity.running.keys import harness_code
from parity.running.workers import pool
from parity.tests import suites
from parity.tests.command import Parity, contents, make_run
from parity.tests.suites import CASE, HONEST, strict_json, write_suite

pytestmark = pytest.mark.slow  # each starts processes of its own

# One at a time


def test_a_place_is_written_by_one_at_a_time(tmp_path: Path) -> None:
    place, heard, order = tmp_path / "run", threading.Event(), []

    def other() -> None:
        with alone(place, heard.set, pause=0.01) as waited:
            order.append(("other", waited))

    thread = threading.Thread(target=other)
    with alone(place) as waited:
        assert not waited
        thread.start()
        assert heard.wait(10)
        order.append(("first", waited))
    thread.join(10)
    assert order == [("first", False), ("other", True)]
    assert not list(tmp_path.iterdir())


HOLDS = """
import sys, time
from pathlib import Path
from parity.recording.lock import alone

with alone(Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    place = tmp_path / "run"
    command = [sys.executable, "-c", HOLDS, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=path()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        tidy(place)
        assert (tmp_path / ".run.lock").exists(), "it is held"
        process.kill()
        process.wait(10)
    with alone(place) as waited:
        assert not waited
    assert not list(tmp_path.iterdir())


def path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_where_files_cannot_be_locked_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*arguments: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(lock.fcntl, "flock", cannot)
    with alone(tmp_path / "a"), alone(tmp_path / "a"):
        pass


@pytest.mark.slow
def test_calls_side_by_side_in_one_folder_pass_and_make_each_run_once(tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_a=suites.COUNTED, numpy_b=suites.COUNTED, numpy_slow=suites.SLOW)
    command = [sys.executable, "-m", "parity", "run", "--suite", package, "--out", "out", "--no-report", "--json", "-"]
    started = [
        subprocess.Popen(command, cwd=tmp_path, env=path(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    ended = [process.communicate(timeout=240) for process in started]
    for process, (out, err) in zip(started, ended, strict=True):
        assert process.returncode == 0, out + err
        assert {cell["verdict"] for cell in strict_json(out)["cells"]} == {"PASS"}
    assert any("waits for another process that makes the same" in err for _, err in ended)
    # Two implementations in two dtypes.
    assert len((tmp_path / package / "toy" / "pids").read_text().split()) == 4
    hidden = [path.name for path in (tmp_path / "out").rglob(".*")]
    assert not hidden


# A folder that is full, read-only or gone


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No byte can be written; files of no bytes can be made."""

    def no_room(path: Path, *arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("parity.recording.places.write_whole", no_room)


def test_a_failure_on_a_full_disk_is_one_still(tmp_path: Path, full: None) -> None:
    keep_failure(tmp_path / "run", "the worker died")
    assert failure_path(tmp_path / "run").stat().st_size == 0
    assert "its reason could not be written" in kept_failure(tmp_path / "run")
    keep_failure(tmp_path / "run", "")
    assert kept_failure(tmp_path / "run") == ""


@pytest.mark.parametrize("there", [True, False])
def test_no_mark_is_left_through_a_link(tmp_path: Path, full: None, there: bool) -> None:
    mine = tmp_path / "mine"
    if there:
        mine.write_text("of mine")
    failure_path(tmp_path / "run").symlink_to(mine)
    keep_failure(tmp_path / "run", "the worker died")
    assert mine.exists() == there
    assert not failure_path(tmp_path / "run").is_symlink()
    assert "its reason could not be written" in kept_failure(tmp_path / "run")


def test_nothing_is_removed_where_no_mark_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*arguments: Any, **named: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "unlink", read_only)
    keep_failure(tmp_path / "run", "")
    failure_path(tmp_path / "run").touch()
    with pytest.raises(OSError, match="Read-only"):
        keep_failure(tmp_path / "run", "")


def test_a_mark_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    assert kept_failure(tmp_path / "run") == ""
    assert kept_failure(tmp_path / ("x" * 300)) == ""
    failure_path(tmp_path / "run").mkdir()
    assert "is no regular file" in kept_failure(tmp_path / "run")


def test_a_run_beside_an_empty_mark_is_not_judged(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=HONEST)
    assert parity("run", "--suite", package, "--out", "out", "--dtype", "float64").status == 0
    failure_path(tmp_path / "out" / CASE / "numpy-mine-float64-cpu").touch()
    result = parity("report", "out", "--suite", package, "--format", "json")
    assert result.status == 3
    (doubt,) = [cell["reason"] for cell in strict_json(result.out)["cells"] if cell["verdict"] != "PASS"]
    assert "the last run failed" in doubt


SHIPS = "from pathlib import Path\nFLOORS = Path(__file__).parent / 'floors'\n"


def test_no_room_for_a_floor_is_said_of_the_cells_that_need_it(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_suite(tmp_path)
    (tmp_path / package / "__init__.py").write_text(SHIPS)
    assert parity("floor", "--suite", package, "--out", "out").status == 0

    def no_room(self: keyring.Keyring, *arguments: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/floors/a.safetensors")

    monkeypatch.setattr(keyring.Keyring, "floor", no_room)
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    assert result.status == 3
    (cell,) = strict_json(result.out)["cells"]
    assert cell["reason"] == "its floor: it cannot be copied to out/floors/a.safetensors: No space left on device"


def test_read_only_results_serve_a_run_that_needs_nothing_written(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_suite(tmp_path, numpy_mine=HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--no-report")
    assert parity(*command).status == 0
    before = contents(tmp_path / "out")
    scratch = tempfile.TemporaryFile

    def read_only(*arguments: Any, **named: Any) -> Any:
        if "dir" in named:  # the results', and not the system's own
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return scratch(*arguments, **named)

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_Worker", None)  # Whoever starts one fails.
        assert parity(*command).status == 0
    assert contents(tmp_path / "out") == before
    # One that needs more ends before it has made anything.
    result = parity(*command, "--epochs", "3")
    assert result.status == 2
    assert result.err.splitlines()[-1].startswith("parity: cannot write to out: Read-only file system")
    assert contents(tmp_path / "out") == before


REMOVES = """
import shutil
from pathlib import Path
from parity.recording.writer import Writer
from parity.tests import toy

def build(case, dtype, device):
    finish = Writer.finish
    def removing(self, **meta):
        finish(self, **meta)
        shutil.rmtree(self.folder.parents[1])
    Writer.finish = removing
    return toy.build(case, dtype, device)
"""


def test_a_folder_that_is_taken_away_is_not_blamed_on_a_floor(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    assert parity(*command).status == 0
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(REMOVES)
    harness_code.cache_clear()  # A process reads its sources once.
    result = parity(*command)
    assert result.status == 3, result.err
    reasons = {cell["implementation"]: cell["reason"] for cell in strict_json(result.out)["cells"]}
    assert reasons["numpy-mine"] == f"{tmp_path / 'out'} was taken away while its runs were made: run it again"


def test_a_folder_that_was_made_again_is_not_blamed_on_the_reference(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=HONEST)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--jobs", "1", "--json", "-")
    assert parity(*command).status == 0
    again = "        shutil.copytree(self.folder, self.folder.with_name('aside'))\n"
    again += "        aside = self.folder.parents[2] / 'aside'\n        shutil.move(self.folder, aside)\n"
    again += "        shutil.rmtree(self.folder.parents[1])\n        shutil.move(aside, self.folder)\n"
    removes = REMOVES.replace("        shutil.rmtree(self.folder.parents[1])\n", again)
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(removes)
    harness_code.cache_clear()  # A process reads its sources once.
    result = parity(*command)
    assert result.status == 3, result.err
    reasons = {cell["implementation"]: cell["reason"] for cell in strict_json(result.out)["cells"]}
    assert "was there and is not any more" in reasons["numpy-mine"]
    assert "taken away and made again" in reasons["numpy-mine"]


# A reader that stops reading


@pytest.mark.parametrize("command", ["diff", "report"])
def test_who_is_not_read_to_the_end_says_neither_yes_nor_no(tmp_path: Path, command: str) -> None:
    runs = [str(make_run(tmp_path / "runs" / "made-up" / f"{name}-float64-cpu")) for name in ("numpy", "torch")]
    arguments = ["diff", *runs] if command == "diff" else ["report", str(tmp_path / "runs"), "--format", "md"]
    process = subprocess.Popen([sys.executable, "-m", "parity", *arguments], stdout=subprocess.PIPE, env=path())
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(60) == UNHEARD
