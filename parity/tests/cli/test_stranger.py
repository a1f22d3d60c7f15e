"""A folder from a stranger: no command writes through its links, waits for its pipes, or tells what lies elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from parity.judging.floors.floor import Floor, save
from parity.recording.files import write_whole
from parity.recording.places import EXPLANATION, failure_path
from parity.tests.command import Parity, complaint, contents, make_run
from parity.tests.suites import CASE, write_suite

SECRET = b"a line that is not to be told\n"
CASE_FOLDER = "made-up"
A, B = "numpy-float64-cpu", "torch-float64-cpu"


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the user's own, elsewhere."""
    path = tmp_path_factory.mktemp("elsewhere") / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of two runs that part, with the floors that they name."""
    root = tmp_path / "runs"
    run = make_run(root / CASE_FOLDER / A, floor="mark")
    make_run(root / CASE_FOLDER / B, lambda run: run.update(loss=run["loss"] + 1), floor="mark")
    floor = Floor(np.full((4, 3), 1e-9), {"dense/kernel": np.full(5, 1e-9), "dense/bias": np.full(5, 1e-9)})
    save({"float64": floor}, root / "floors" / f"{CASE_FOLDER}.safetensors", "mark")
    assert run.is_dir()
    return root


READING = {
    "report": ("report", "runs"),
    "report md": ("report", "runs", "--format", "md"),
    "report json": ("report", "runs", "--format", "json"),
    "diff": ("diff", f"runs/{CASE_FOLDER}/{A}", f"runs/{CASE_FOLDER}/{B}"),
    "diff folders": ("diff", "runs", "runs"),
    "explain": ("explain", f"runs/{CASE_FOLDER}/{A}", f"runs/{CASE_FOLDER}/{B}"),
}
# Where a folder can hold something else than the file that it should hold.
PLACES = {
    "failed": f"{CASE_FOLDER}/{failure_path(Path(A)).name}",
    "failed of none": f"{CASE_FOLDER}/{failure_path(Path('jax-float64-cpu')).name}",
    "floors": f"floors/{CASE_FOLDER}.safetensors",
    "explanation": f"{CASE_FOLDER}/{B}/{EXPLANATION}",
    "manifest": f"{CASE_FOLDER}/{A}/trajectory.json",
    "shard": f"{CASE_FOLDER}/{A}/00000.safetensors",
    "page": "report.html",
    "unfinished": f"{CASE_FOLDER}/.{A}.partial/trajectory.json",
}


def fifo(place: Path, secret: Path) -> None:
    os.mkfifo(place)


def link(place: Path, secret: Path) -> None:
    place.symlink_to(secret)


def link_to_nothing(place: Path, secret: Path) -> None:
    place.symlink_to(secret.parent / "nothing")


def device(place: Path, secret: Path) -> None:
    place.symlink_to("/dev/zero")


def folder(place: Path, secret: Path) -> None:
    place.mkdir()


def loop(place: Path, secret: Path) -> None:
    place.symlink_to(place.name)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "put",
    [fifo, link, *(pytest.param(put, marks=pytest.mark.slow) for put in (link_to_nothing, device, folder, loop))],
    ids=lambda put: put.__name__,
)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_whatever_lies_where_a_file_should_no_command_waits_or_tells_it(
    parity: Parity, runs: Path, secret: Path, place: str, put: Callable[[Path, Path], None]
) -> None:
    there = runs / place
    there.parent.mkdir(exist_ok=True)
    there.unlink(missing_ok=True)
    put(there, secret)
    before = sorted(os.listdir(secret.parent))
    for name, command in READING.items():
        result = parity(*command)
        assert result.status in (0, 1, 2, 3), (name, result)
        assert SECRET.decode().strip() not in result.out + result.err
    assert secret.read_bytes() == SECRET
    assert sorted(os.listdir(secret.parent)) == before
    page = runs / "report.html"
    assert page.is_symlink() or not page.is_file() or SECRET not in page.read_bytes()


def test_a_page_goes_where_the_user_says_and_through_no_link(parity: Parity, runs: Path, secret: Path) -> None:
    # Scratch files once had these names.
    for name in (".report.html.partial", ".report.html.tmp"):
        (runs / name).symlink_to(secret)
    assert parity("report", "runs").status == 3
    assert (runs / "report.html").is_file()
    (runs / "report.html").unlink()
    (runs / "report.html").symlink_to(secret)
    assert "is a link, and nothing is written through one" in complaint(parity("report", "runs"))
    assert parity("report", "runs", "--output", "page.html").status == 3
    assert (runs.parent / "page.html").is_file()
    assert secret.read_bytes() == SECRET


@pytest.mark.parametrize("option", ["--json", "--output"])
def test_no_output_takes_the_place_of_a_device_or_a_link(parity: Parity, runs: Path, secret: Path, option: str) -> None:
    command = ("report", "runs", "--format", "json") if option == "--output" else READING["diff"]
    Path("link").symlink_to(secret)
    os.mkfifo("pipe")
    for name, why in (("link", "is a link"), ("pipe", "no regular file"), ("runs", "is a folder")):
        assert why in parity(*command, option, name).err
    assert parity(*command, option, "/dev/null").status == 2
    assert secret.read_bytes() == SECRET
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize("name", ["floors", CASE])
def test_a_run_does_not_write_through_a_link_of_its_folder(
    parity: Parity, tmp_path: Path, secret: Path, name: str
) -> None:
    package, out = write_suite(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / name).symlink_to(secret.parent)
    result = parity("run", "--suite", package, "--out", "out", "--dtype", "float64", "--no-report")
    assert result.status == 2
    assert "is a link that leaves out" in complaint(result)
    assert os.listdir(secret.parent) == ["secret"]


def test_a_run_does_not_write_through_planted_scratch_files(parity: Parity, tmp_path: Path, secret: Path) -> None:
    package, out = write_suite(tmp_path), tmp_path / "out"
    for place in (
        f"floors/.{CASE}.safetensors.partial",
        f"{CASE}/.numpy-float64-cpu.failed",
        ".writable",
        ".report.html.partial",
    ):
        (out / place).parent.mkdir(parents=True, exist_ok=True)
        (out / place).symlink_to(secret)
    parity("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert secret.read_bytes() == SECRET
    assert (out / CASE / "numpy-float64-cpu").is_dir()
    assert (out / "floors" / f"{CASE}.safetensors").is_file()


def test_runs_that_a_link_leads_elsewhere_to_are_not_reported(parity: Parity, runs: Path, secret: Path) -> None:
    shutil.move(runs / CASE_FOLDER / B, secret.parent / B)
    (runs / CASE_FOLDER / B).symlink_to(secret.parent / B)
    (runs / "other").symlink_to(runs.parent)
    result = parity("report", "runs", "--format", "md")
    assert result.status == 3
    assert "is a link that leaves the folder" in result.out


def test_a_mark_of_failure_counts_though_it_says_nothing(parity: Parity, runs: Path) -> None:
    write_whole(runs / PLACES["failed"], b"")
    result = parity(*READING["diff"])
    assert result.status == 3
    assert "is empty: its reason could not be written" in result.out


@pytest.mark.parametrize("command", ["report", "diff", "explain"])
def test_reading_recordings_downloads_nothing(
    parity: Parity, runs: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a suite's data are asked for meanwhile, they are asked for under the variable that forbids downloads."""
    monkeypatch.delenv("PARITY_OFFLINE", raising=False)
    package = write_suite(runs.parent)
    asked = runs.parent / package / "asked"
    spec = f"""
import os
from dataclasses import replace
from pathlib import Path
from parity.tests import toy

def data():
    with Path({str(asked)!r}).open("a") as file:
        print(os.environ.get("PARITY_OFFLINE"), file=file)
    raise ConnectionError("the network")

CASES = (replace(toy.MOMENTUM, name="{CASE_FOLDER}", data=data),)
"""
    (runs.parent / package / "toy" / "spec.py").write_text(spec)
    (runs.parent / package / "__init__.py").write_text("from pathlib import Path\nFLOORS = Path(__file__).parent\n")
    shutil.copy(runs / PLACES["floors"], runs.parent / package)
    for name in (A, B):
        about = {"implementation": name.partition("-")[0], "floor": "another mark"}
        make_run(runs / CASE_FOLDER / name, lambda run: run.update(loss=run["loss"] * 2), **about)
    result = parity(*READING[command], "--suite", package)
    assert result.status in (1, 2, 3)
    assert "Traceback" not in result.out + result.err
    assert set(asked.read_text().split()) == {"1"}
    assert "PARITY_OFFLINE" not in os.environ
    assert contents(runs)
