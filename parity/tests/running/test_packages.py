"""What a process finds: its own interpreter's packages first, and of ours the suite and this package alone."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy
import pytest
import safetensors

from parity.recording.reader import read
from parity.running import packages
from parity.running.cells import Options
from parity.running.matrix import Matrix
from parity.running.packages import DOCUMENTS, HERE, Reach, find, reach_of
from parity.running.versions import Versions
from parity.suite import SuiteError, load_suite
from parity.tests.command import Parity, make_run
from parity.tests.suites import CASE, HONEST, write_suite

OTHER = "99.0"
# What an interpreter has under the name of a package that the harness needs: the real one, in another version.
SHIM = """
import sys
__version__ = {version!r}
__path__ = [{real!r}]
exec(compile(open({real!r} + "/__init__.py").read(), {real!r} + "/__init__.py", "exec"))
__version__ = {version!r}
"""
# Leaves what the worker sees beside itself.
SEES = """
import json
import sys
from importlib.metadata import version
from pathlib import Path
import safetensors
from parity.tests import toy

def build(case, dtype, device):
    found = {"imported": safetensors.__version__, "installed": version("safetensors"), "prefix": sys.prefix,
             "parity": sys.modules["parity"].__file__, "path": sys.path}
    Path(__file__).with_name("seen.json").write_text(json.dumps(found))
    return toy.build(case, dtype, device)
"""


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a second environment, which has another version of safetensors and a parity of its own."""
    folder = tmp_path_factory.mktemp("other")
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))
    shim = site / "safetensors"
    shim.mkdir()
    shim.joinpath("__init__.py").write_text(SHIM.format(version=OTHER, real=str(Path(safetensors.__file__).parent)))
    named = site / f"safetensors-{OTHER}.dist-info"
    named.mkdir()
    named.joinpath("METADATA").write_text(f"Metadata-Version: 2.1\nName: safetensors\nVersion: {OTHER}\n")
    stranger = site / "parity"
    stranger.mkdir()
    stranger.joinpath("__init__.py").write_text("raise ImportError('another parity than the one that was called')\n")
    # NumPy is the same in both, at the end of the path.
    site.joinpath("numpy.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")
    return folder / "bin" / "python"


def test_another_interpreter_keeps_its_own_packages(parity: Parity, tmp_path: Path, other: Path) -> None:
    package = write_suite(tmp_path, numpy_sees=SEES)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64", "--impl", "numpy-sees")
    result = parity(*command, "--python", f"numpy={other}")
    assert result.status == 0, result.out + result.err
    seen = json.loads((tmp_path / package / "toy" / "seen.json").read_text())
    assert seen["imported"] == seen["installed"] == OTHER
    assert seen["prefix"] == str(other.parents[1])
    assert seen["parity"] == str(HERE / "__init__.py")
    ours = set(sys.path) - {str(tmp_path), str(Path(numpy.__file__).parents[1])}
    # The standard library is the same in both environments here.
    standard = {path for path in ours if path.startswith(sys.base_prefix) and "site-packages" not in path}
    assert not set(seen["path"]) & (ours - standard)
    assert seen["path"][-1] == str(tmp_path)
    run = read(tmp_path / "out" / CASE / "numpy-sees-float64-cpu")
    assert run.meta["versions"]["safetensors"] == OTHER
    assert run.meta["versions"]["numpy"] == numpy.__version__


def test_a_search_path_of_the_caller_is_not_the_other_interpreters(
    tmp_path: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(safetensors.__file__).parents[1]))
    monkeypatch.syspath_prepend(tmp_path)
    suite = load_suite(write_suite(tmp_path, numpy_sees=SEES))
    options = Options(suite, tmp_path / "out", dtypes=("float64",), pythons={"numpy": str(other)})
    assert Versions(options.pythons).of("numpy")["safetensors"] == OTHER
    assert [outcome.judgement.verdict for outcome in Matrix(options).run()] == ["PASS", "PASS"]
    assert json.loads((tmp_path / suite.package / "toy" / "seen.json").read_text())["imported"] == OTHER


TRAP = """
from pathlib import Path
with (Path(__file__).parents[{above}] / "sprung").open("a") as file:
    print(__name__, file=file)
raise ImportError("this is the file of a stranger")
"""
SCRIPT = "from parity.cli.main import main\nmain()\n"


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """A folder that somebody else filled: runs, and files with the names of packages."""
    folder = tmp_path / "downloaded"
    for name in ("numpy-float64-cpu", "torch-float64-cpu"):
        make_run(folder / "runs" / "made-up" / name)
    for name in ("pygments", "bz2", "typer", "jinja2", "safetensors", "benchmarks"):
        (folder / f"{name}.py").write_text(TRAP.format(above=0))
    for name in (DOCUMENTS, "parity", "fixtures"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(TRAP.format(above=1))
    return folder


def called(
    folder: Path, *arguments: str, module: bool = False, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, as its script or as ``python -m parity``, with ``path`` among the folders of its interpreter."""
    script = folder.parent / "bin" / "parity"
    script.parent.mkdir(exist_ok=True)
    script.write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, *(("-m", "parity") if module else (str(script),)), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (HERE.parent, path))))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


RUNS = [f"runs/made-up/{name}-float64-cpu" for name in ("numpy", "torch")]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["diff", *RUNS], 0),
        (["explain", *RUNS], 0),
        (["report", "runs"], 3),
        (["diff", "runs", "runs"], 0),
        (["report", "runs", "--format", "junit"], 3),
        *(
            pytest.param(arguments, status, marks=pytest.mark.slow)
            for arguments, status in (
                (["list"], 0),
                (["run", "no-such-case"], 2),
                (["explain", "no-such-case"], 2),
                (["floor", "no-such-case"], 2),
                (["show", "no-such-case"], 2),
                (["sample", "no-such-case"], 2),
                (["prove", "--page", "nowhere/page.html"], 2),
                (["bench", "--against", "nowhere.json"], 2),
            )
        ),
        # In a worker, too.
        (["run", "iris-logistic", "--impl", "numpy", "--dtype", "float64", "--epochs", "1", "--out", "out"], 0),
    ],
    ids=lambda value: " ".join(value[:4]) if isinstance(value, list) else "",
)
def test_nothing_is_imported_from_the_current_folder(downloaded: Path, arguments: list[str], status: int) -> None:
    done = called(downloaded, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert not (downloaded / "sprung").exists(), (downloaded / "sprung").read_text()


def test_nothing_is_imported_from_the_current_folder_as_a_module_either(downloaded: Path) -> None:
    # Where that folder has a package of the very name, Python itself has taken it before anything of ours runs.
    (downloaded / "parity" / "__init__.py").unlink()
    (downloaded / "parity").rmdir()
    for name in ("typing", "__future__", "signal", "json"):
        (downloaded / f"{name}.py").write_text(TRAP.format(above=0))
    for arguments, status in ((["diff", *RUNS], 0), (["report", "runs"], 3)):
        done = called(downloaded, *arguments, module=True)
        assert done.returncode == status, done.stdout + done.stderr
    assert not (downloaded / "sprung").exists(), (downloaded / "sprung").read_text()


def test_a_suite_that_is_asked_for_is_found_there_after_all_else(downloaded: Path) -> None:
    """In a worker, too."""
    package = write_suite(downloaded, numpy_mine=HONEST.replace("from", "import bz2\nfrom", 1))
    done = called(downloaded, "run", "--suite", package, "--dtype", "float64", "--out", "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 cells: 2 PASS" in done.stdout
    assert not (downloaded / "sprung").exists(), (downloaded / "sprung").read_text()


def test_a_suite_that_is_found_elsewhere_brings_nothing_of_the_current_folder(downloaded: Path) -> None:
    package = write_suite(downloaded.parent, numpy_mine=HONEST.replace("from", "import only_here\nfrom", 1))
    (downloaded / "only_here.py").write_text(TRAP.format(above=0))
    (downloaded / package).mkdir()
    (downloaded / package / "__init__.py").write_text(TRAP.format(above=1))
    command = ("run", "--suite", package, "--dtype", "float64", "--out", "out")
    done = called(downloaded, *command, path=downloaded.parent)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "No module named 'only_here'" in done.stdout
    assert not (downloaded / "sprung").exists(), (downloaded / "sprung").read_text()


def test_the_documents_suite_is_the_clones_whoever_else_has_one(downloaded: Path) -> None:
    done = called(downloaded, "list", "--suite", DOCUMENTS)
    assert done.returncode == 0, done.stderr
    assert "iris-logistic" in done.stdout
    assert not (downloaded / "sprung").exists()


def test_a_package_is_found_where_it_is_known_to_lie_and_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("first", "second"):
        folder = tmp_path / place / "package_in_two_places"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(f"PLACE = {place!r}\n")
        (folder / "inner.py").write_text("from package_in_two_places import PLACE as PLACE\n")
    monkeypatch.syspath_prepend(tmp_path / "first")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    Reach({"package_in_two_places": str(tmp_path / "second" / "package_in_two_places")}).extend()
    assert importlib.import_module("package_in_two_places.inner").PLACE == "second"


def test_what_a_process_must_know_of_a_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    package = write_suite(tmp_path)
    assert reach_of(package) == Reach({package: str(tmp_path / package)}, (str(tmp_path),))
    # One that was installed: the packages beside it are its interpreter's.
    installed = tmp_path / "site-packages"
    (installed / "installed_suite_of_a_user").mkdir(parents=True)
    (installed / "installed_suite_of_a_user" / "__init__.py").touch()
    monkeypatch.syspath_prepend(installed)
    name = "installed_suite_of_a_user"
    assert reach_of(name) == Reach({name: str(installed / name)}, ())
    # A part of a namespace, which has no folder of its own.
    inner = tmp_path / "namespace_of_a_user" / "suite"
    inner.mkdir(parents=True)
    (inner / "__init__.py").touch()
    assert reach_of("namespace_of_a_user.suite") == Reach({}, (str(tmp_path),))
    everything = reach_of(DOCUMENTS)
    assert {"impls", "fixtures", "benchmarks", "parity"} <= set(everything.packages)
    assert everything.folders == ()


def test_without_a_clone_a_suite_must_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "HERE", tmp_path / "site-packages" / "parity")
    with pytest.raises(SuiteError, match=r"the documents' models are in a clone of the project, and .* name a suite"):
        find(None)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert find("mine") == "mine"
    assert sys.path[-1] == str(tmp_path)
