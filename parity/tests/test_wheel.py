"""What is installed without a clone: the package alone. With it, two loops of one's own are compared and explained."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from parity.tests.command import make_run
from parity.tests.suites import HONEST, write_suite

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
LISTINGS = dict(re.findall(r'^```python title="(\w+\.py)"\n(.*?)^```', README, re.MULTILINE | re.DOTALL))
"""The README's scripts, by the files that it names."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network from a copy, so that nothing that an earlier one left gets into it."""
    copy = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("parity", "impls", "fixtures", "benchmarks"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.gz", "*.npz"))
    arguments = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(copy / "dist"), str(copy))
    pip(sys.executable, "wheel", *arguments)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of an environment that has the wheel, and at the end of its path all else that is installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip(sys.executable, "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", str(wheel))
    (site,) = folder.glob("lib/python*/site-packages")
    # What lies there to extend the path in turn, as an editable install of this clone does, is not read.
    others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    return folder / "bin"


def pip(python: str, *arguments: str) -> None:
    run(Path(python).parent, python, "-m", "pip", "--disable-pip-version-check", *arguments)


def run(folder: Path, *command: str | Path, status: int = 0) -> str:
    """What a command prints, which knows of no other packages than its environment does."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"parity"}
    assert len(tops) == 2
    # All of it, but for the tests of its wings.
    kept = {name for name in names if name.startswith("parity/")}
    whole = {path.relative_to(ROOT).as_posix() for path in (ROOT / "parity").rglob("*") if path.is_file()}
    whole = {name for name in whole if "/__pycache__/" not in name and "/." not in name}
    wings = {name for name in whole if re.match(r"parity/tests/\w+/", name)}
    assert wings
    assert kept == whole - wings
    assert "parity/tests/test_ladder.py" in kept


def test_the_two_loops_of_the_readme_are_recorded_compared_and_explained(installed: Path, tmp_path: Path) -> None:
    for name, listing in LISTINGS.items():
        (tmp_path / name).write_text(listing)
        run(tmp_path, installed / "python", name)
    runs = ("runs/torch", "runs/flax")
    assert run(tmp_path, installed / "parity", "diff", *runs, status=1).startswith("FAIL")
    said = run(tmp_path, installed / "parity", "explain", *runs, status=1)
    assert "1 (LayerNorm) ↔ LayerNorm_0 (LayerNorm): inputs agree" in said
    assert "epsilon 1e-05 against 1e-06" in said
    # Mended, they agree.
    mended = LISTINGS["in_flax.py"].replace("nn.LayerNorm()", "nn.LayerNorm(1e-5)")
    run(tmp_path, installed / "python", "-c", mended)
    assert run(tmp_path, installed / "parity", "diff", *runs).startswith("PASS")
    assert run(tmp_path, installed / "parity", "explain", *runs).startswith("PASS")


def test_what_a_clone_has_is_said_to_be_there_in_a_line(installed: Path, tmp_path: Path) -> None:
    for command, what in (
        ("run", "the documents' models"),
        ("list", "the documents' models"),
        ("bench", "the benchma"),
    ):
        (line,) = run(tmp_path, installed / "parity", command, status=2).splitlines()
        assert line.startswith(f"parity: {what}")
        assert "in a clone of the project" in line
        assert "'pip install -e .' there" in line
    # What was recorded is read without any suite.
    make_run(tmp_path / "runs" / "made-up" / "torch-float64-cpu", implementation="torch")
    said = run(tmp_path, installed / "parity", "report", "runs", "--format", "md", status=3)
    assert "holds no reference run" in said


def test_a_suite_of_ones_own_is_run_and_climbs_the_ladder(installed: Path, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=HONEST)
    said = run(tmp_path, installed / "parity", "run", "--suite", package, "--dtype", "float64", "--no-report")
    assert "2 cells: 2 PASS" in said
    ladder = ("--pyargs", "parity.tests.test_ladder", "--parity-suite", package, "-p", "no:cacheprovider", "-q")
    assert "24 passed" in run(tmp_path, installed / "python", "-m", "pytest", *ladder)
