"""The pytest plugin as others meet it: unnoticed where nobody asks for it, and the ladder where somebody does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import parity
from parity.tests.suites import CASE, write_suite

CONFTEST = """
import sys
import pytest

OPTIONS = ("suite", "case", "impl", "framework", "gpu-device")

def pytest_addoption(parser):
    for name in OPTIONS:
        parser.addoption(f"--{name}", default="theirs")

def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: theirs")
    config.addinivalue_line("markers", "slow: theirs")

@pytest.fixture(params=["one", "two"])
def cell(request):
    return request.param

@pytest.fixture
def hold(cell):
    return f"held {cell}"

@pytest.fixture(scope="session")
def climbs():
    return "theirs"

def pytest_terminal_summary(terminalreporter):
    loaded = sorted(name for name in sys.modules if name.split(".")[0] in LOOKED_FOR)
    terminalreporter.write_line("loaded: " + " ".join(loaded))

LOOKED_FOR = {"parity", "impls", "numpy", "torch", "tensorflow", "keras", "jax", "flax", "safetensors"}
"""
RUNS = re.compile(r"loaded: |.*\bin \d+\.\d+s")
TESTS = """
import pytest

def test_their_fixtures(cell, hold, climbs, request):
    assert hold == f"held {cell}"
    assert climbs == "theirs"

@pytest.mark.parametrize("cell", [1, 2, 3])
def test_their_parameters(cell):
    assert cell in (1, 2, 3)

@pytest.mark.parametrize("name", ["suite", "case", "impl", "framework", "gpu_device"])
def test_their_options(name, request):
    assert getattr(request.config.option, name) == "theirs"

@pytest.mark.gpu
def test_their_gpu():
    pass

@pytest.mark.slow
def test_their_slow():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that has never heard of this one and uses the very names that the plugin once had."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_theirs.py").write_text(TESTS)
    (tmp_path / "temporary").mkdir()
    return folder


def pytest_in(folder: Path, *arguments: str, ours: bool = True, path: tuple[str, ...] = (), status: int = 0) -> str:
    """What pytest prints in a folder of its own, with no plugin but ours, or none at all."""
    plugin = ("-p", "parity.pytest_plugin") if ours else ()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "pytest", *plugin, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": os.pathsep.join([*path, *(entry for entry in sys.path if entry)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(folder.parent / "temporary"),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--strict-markers", "--strict-config", "-p", "no:cacheprovider"),
        ("-m", "gpu or slow"),
        tuple(f"--{name}=theirs" for name in ("suite", "case", "impl", "framework", "gpu-device")),
    ],
    ids=["plainly", "strictly", "by marks", "with options"],
)
def test_a_run_that_asks_for_nothing_of_ours_is_as_without_it(arguments: tuple[str, ...], project: Path) -> None:
    without = outcome(pytest_in(project, "-v", *arguments, ours=False))
    made = files(project.parent)
    shutil.rmtree(project / ".pytest_cache", ignore_errors=True)
    said = pytest_in(project, "-v", *arguments)
    assert outcome(said) == without
    assert files(project.parent) == made
    assert "loaded: parity parity.pytest_plugin\n" in said


def outcome(said: str) -> list[str]:
    """Every test with what became of it."""
    found = [line.split("[ ")[0].strip() for line in said.splitlines() if "::" in line]
    assert found
    return found


def test_it_is_loaded_where_the_package_is_installed_and_can_be_left_out_by_name() -> None:
    project = tomllib.loads((Path(parity.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"parity": "parity.pytest_plugin"}


def added(project: Path, *arguments: str) -> list[str]:
    """The lines that pytest prints with the plugin alone; it may take none away."""
    # What a run says of itself: which modules it loaded, and how long it took.
    without, said = (
        [line for line in pytest_in(project, *arguments, ours=ours).splitlines() if not RUNS.match(line)]
        for ours in (False, True)
    )
    assert not set(without) - set(said)
    return [line for line in said if line not in without]


def test_the_help_has_one_group_more_and_every_option_in_it_is_prefixed(project: Path) -> None:
    title, *lines = added(project, "--help")
    assert title == "cross-framework parity:"
    options = [line for line in lines if line.startswith("  -")]
    assert len(options) == 5
    assert all(line.startswith("  --parity-") for line in options)
    assert all(line.startswith("   ") for line in lines if line not in options), "a line outside of the group"


def test_fixtures_are_prefixed_and_no_marker_is_claimed(project: Path) -> None:
    named = [line for line in added(project, "--fixtures", "-q") if not line.startswith(" ")]
    assert {line.split()[0] for line in named if not line.startswith("-")} == {
        "parity_climbs",
        "parity_executor",
        "parity_figures",
        "parity_hold",
    }
    assert added(project, "--markers") == []


def test_a_suite_of_ones_own_climbs_the_ladder_beside_ones_own_tests(project: Path, tmp_path: Path) -> None:
    package = write_suite(tmp_path)
    suite = ("--parity-suite", package, "--parity-case", CASE, "--parity-impl", "numpy")
    ladder = ("--strict-markers", "--pyargs", "parity.tests.test_ladder", "test_theirs.py")
    said = pytest_in(project, "-p", "no:cacheprovider", *suite, *ladder, path=(str(tmp_path),))
    # Six rungs in two dtypes, for its source printed no figures, and the tests that are theirs, the marks that mean
    # something else here included.
    assert " 24 passed, 1 deselected" in said
    assert "skipped" not in said
    assert not list((tmp_path / "temporary").glob("parity-*")), "what was recorded there is left behind"


def test_a_suite_that_is_not_there_is_said_in_a_line(project: Path) -> None:
    said = pytest_in(project, "--parity-suite", "no_such_suite", "--pyargs", "parity.tests.test_ladder", status=2)
    assert "suite 'no_such_suite' cannot be imported: ModuleNotFoundError: No module named 'no_such_suite'" in said
    assert "Traceback" not in said
    assert "pytest_plugin.py" not in said
