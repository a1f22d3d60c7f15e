"""No edit of anything that a run depends on leaves its earlier PASS, and where nothing changed nothing is run again."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from parity.recording.format import MANIFEST
from parity.recording.manifest import read_manifest
from parity.running.keys import harness_code
from parity.running.reading.dependencies import CHANGING, content, fresh, hash_of
from parity.running.versions import Versions
from parity.running.workers import pool
from parity.tests.command import Parity, Result
from parity.tests.suites import CASE, strict_json, write_suite

pytestmark = pytest.mark.slow  # each starts processes of its own

# Right as long as what it reads says 1.
SCALED = """
from dataclasses import replace
from parity.tests import toy
{top}

def build(case, dtype, device):
    {inner}
    optimizer = replace(case.optimizer, learning_rate=case.optimizer.learning_rate * scale)
    return toy.build(replace(case, optimizer=optimizer), dtype, device)
"""
ONE, OTHER = "scale = 1.0\n", "scale = 1.01\n"


def scaled(top: str = "", inner: str = "pass") -> str:
    return SCALED.format(top=top, inner=inner)


@dataclass(frozen=True)
class Edit:
    """How an implementation depends on something, and where: a file below the folder of the suite's package."""

    file: str
    top: str = ""
    inner: str = "pass"
    before: str | None = ONE
    after: str | None = OTHER
    more: dict[str, str] = field(default_factory=dict)
    variable: str = ""


P, A = "{package}", "{other}"
READ = "Path(__file__).parents[2].joinpath({name!r}).read_text()"
BESIDE = "float(Path(__file__).with_name('rate.txt').read_text())"
IMPORTS = "import json, os, sys\nfrom pathlib import Path\n"
EDITS = {
    # Sources, wherever they lie.
    "a helper beside the implementation": Edit(f"{P}/toy/rates.py", f"from {P}.toy.rates import scale"),
    "a helper that is imported relatively": Edit(f"{P}/toy/rates.py", "from .rates import scale"),
    "a helper in the suite": Edit(f"{P}/rates.py", f"from {P}.rates import scale"),
    "a helper in a folder of the suite": Edit(f"{P}/common/rates.py", f"from {P}.common.rates import scale"),
    "a package's own file": Edit(f"{P}/common/__init__.py", f"from {P}.common import scale"),
    "the file of a package on the way": Edit(
        f"{P}/common/__init__.py",
        f"import {P}.common.inner\nscale = {P}.common.scale",
        more={f"{P}/common/inner.py": ""},
    ),
    "the suite's own file": Edit(f"{P}/__init__.py", f"import {P}\nscale = {P}.scale"),
    "the model's own file": Edit(f"{P}/toy/__init__.py", f"from {P}.toy import scale"),
    "the spec": Edit(
        f"{P}/toy/spec.py",
        f"from {P}.toy import spec\nscale = spec.scale",
        before="SPEC\n" + ONE,
        after="SPEC\n" + OTHER,
    ),
    "another implementation": Edit(
        f"{P}/toy/toy_numpy_b.py", f"from {P}.toy.toy_numpy_b import scale", before="B\n" + ONE, after="B\n" + OTHER
    ),
    "a helper in another model's package": Edit(
        f"{P}/second/rates.py",
        f"from {P}.second.rates import scale",
        more={f"{P}/second/spec.py": "SPEC2", f"{P}/second/second_numpy.py": "B", f"{P}/second/__init__.py": ""},
    ),
    "a helper in a folder of another model's": Edit(
        f"{P}/second/inner/rates.py",
        f"from {P}.second.inner.rates import scale",
        more={f"{P}/second/spec.py": "SPEC2", f"{P}/second/second_numpy.py": "B"},
    ),
    "an implementation of another model": Edit(
        f"{P}/second/second_numpy.py",
        f"from {P}.second.second_numpy import scale",
        before="B\n" + ONE,
        after="B\n" + OTHER,
        more={f"{P}/second/spec.py": "SPEC2"},
    ),
    "a module beside the suite": Edit("{other}_rates.py", "from {other}_rates import scale"),
    "another package": Edit(f"{A}/rates.py", f"from {A}.rates import scale"),
    "another package's own file": Edit(f"{A}/__init__.py", f"from {A} import scale"),
    "a helper's helper": Edit(
        f"{A}/deep.py", f"from {A}.rates import scale", more={f"{A}/rates.py": f"from {A}.deep import scale"}
    ),
    "a helper of a helper that is imported as it is called": Edit(
        f"{A}/deep.py",
        f"from {A} import rates\nscale = rates.find()",
        more={f"{A}/rates.py": f"def find():\n    from {A}.deep import scale\n    return scale\n"},
    ),
    "what a star brings": Edit(f"{A}/rates.py", f"from {A}.rates import *"),
    "any file named mistakes.py": Edit(
        f"{P}/toy/mistakes.py",
        f"from {P}.toy.mistakes import scale",
        before="RULES = ()\n" + ONE,
        after="RULES = ()\n" + OTHER,
    ),
    "mistakes.py elsewhere": Edit(f"{A}/mistakes.py", f"from {A}.mistakes import scale"),
    "what is imported in a function": Edit(f"{A}/rates.py", inner=f"from {A}.rates import scale"),
    "what is imported by name": Edit(
        f"{A}/rates.py", f"from importlib import import_module\nscale = import_module('{A}.rates').scale"
    ),
    "what is imported by name in a function": Edit(
        f"{A}/rates.py", "import importlib", f"scale = importlib.import_module('{A}.rates').scale"
    ),
    "a source that is run from its path": Edit(
        "run/rates.py",
        "import runpy\nfrom pathlib import Path\n"
        "scale = runpy.run_path(str(Path(__file__).parents[2] / 'run/rates.py'))['scale']",
    ),
    "a source that is loaded from its path": Edit(
        "run/rates.py",
        "from importlib.util import module_from_spec, spec_from_file_location\nfrom pathlib import Path\n"
        "spec = spec_from_file_location('by_path', Path(__file__).parents[2] / 'run/rates.py')\n"
        "module = module_from_spec(spec)\nspec.loader.exec_module(module)\nscale = module.scale",
    ),
    "a source that is executed": Edit(
        "run/rates.py",
        IMPORTS + f"space = {{}}\nexec({READ.format(name='run/rates.py')}, space)\nscale = space['scale']",
    ),
    "a module of a folder on the path": Edit(
        "lib/{other}_lib.py",
        IMPORTS
        + "sys.path.append(str(Path(__file__).parents[2] / 'lib'))\nfrom {other}_lib import scale\nsys.path.pop()",
    ),
    "a namespace package": Edit("{other}_space/inner/rates.py", "from {other}_space.inner.rates import scale"),
    "what comes before another of its name": Edit(
        f"{P}/toy/fast.py",
        f"try:\n    from {P}.toy.fast import scale\nexcept ImportError:\n    scale = 1.0",
        before=None,
    ),
    # Files.
    "a JSON file": Edit(
        "rates.json", IMPORTS + f"scale = json.loads({READ.format(name='rates.json')})", before="1.0", after="1.01"
    ),
    "a JSON file that is read in the build": Edit(
        "rates.json", IMPORTS, f"scale = json.loads({READ.format(name='rates.json')})", before="1.0", after="1.01"
    ),
    "a file that another package reads": Edit(
        f"{A}/rate.txt",
        f"from {A} import scale",
        more={f"{A}/__init__.py": f"from pathlib import Path\nscale = {BESIDE}"},
        before="1.0",
        after="1.01",
    ),
    "a file that is read once for all": Edit(
        f"{A}/rate.txt",
        f"from {A} import find",
        "scale = find()",
        more={
            f"{A}/__init__.py": "from functools import cache\nfrom pathlib import Path\n\n"
            f"@cache\ndef find():\n    return {BESIDE}\n"
        },
        before="1.0",
        after="1.01",
    ),
    "a file that NumPy reads": Edit(
        "rates.txt",
        IMPORTS + "import numpy as np\nscale = float(np.loadtxt(Path(__file__).parents[2] / 'rates.txt'))",
        before="1.0",
        after="1.01",
    ),
    "a file of fixtures": Edit(
        "fixtures_of_mine/rate.csv",
        IMPORTS + f"scale = float({READ.format(name='fixtures_of_mine/rate.csv')})",
        before="1.0",
        after="1.01",
    ),
    "a file that was not there": Edit(
        "rate.txt",
        IMPORTS
        + f"try:\n    scale = float({READ.format(name='rate.txt')})\nexcept FileNotFoundError:\n    scale = 1.0",
        before=None,
        after="1.01",
    ),
    "a file that goes": Edit(
        "rate.txt",
        IMPORTS
        + f"try:\n    scale = float({READ.format(name='rate.txt')})\nexcept FileNotFoundError:\n    scale = 1.01",
        before="1.0",
        after=None,
    ),
    "a file that is found in a folder": Edit(
        "rates/b.txt",
        IMPORTS + "scale = float(sorted((Path(__file__).parents[2] / 'rates').iterdir())[-1].read_text())",
        before=None,
        after="1.01",
        more={"rates/a.txt": "1.0"},
    ),
    "a file through a link": Edit(
        "there/rate.txt",
        IMPORTS + f"scale = float({READ.format(name='linked/rate.txt')})",
        before="1.0",
        after="1.01",
        more={"linked": "-> there"},
    ),
    "the version of an installed package": Edit(
        "site-packages/{other}_one-1.dist-info/METADATA",
        IMPORTS + "sys.path.append(str(Path(__file__).parents[2] / 'site-packages'))\nfrom {other}_one import scale",
        before="Metadata-Version: 2.1\nName: {other}_one\nVersion: 1.0\n",
        after="Metadata-Version: 2.1\nName: {other}_one\nVersion: 1.01\n",
        more={
            "site-packages/{other}_one.py": "from importlib.metadata import version\nscale = float(version(__name__))"
        },
    ),
    # Variables.
    "a variable": Edit(
        "", IMPORTS + "scale = float(os.environ['MY_SCALE'])", before="1.0", after="1.01", variable="MY_SCALE"
    ),
    "a variable that was not set": Edit(
        "", IMPORTS + "scale = float(os.environ.get('MY_SCALE', 1))", before=None, after="1.01", variable="MY_SCALE"
    ),
    "a variable that is asked for in the build": Edit(
        "", IMPORTS, "scale = float(os.getenv('MY_SCALE', 1.01))", before="1.0", after=None, variable="MY_SCALE"
    ),
    "a variable of another package": Edit(
        "",
        f"from {A} import scale",
        more={f"{A}/__init__.py": "import os\nscale = 1.01 if 'MY_SCALE' in os.environ else 1.0"},
        before=None,
        after="",
        variable="MY_SCALE",
    ),
}
MADE_OF = IMPORTS + "ROOT = Path(__file__).parents[2]\n"
STARTED = "scale = float(subprocess.check_output({command!r}, shell=True, cwd=ROOT, text=True))"
PACKAGE = "Metadata-Version: 2.1\nName: {other}_one\nVersion: "
ON_PATH = MADE_OF + "sys.path.append(str(ROOT / 'site-packages'))\n"
METADATA = {
    "before": PACKAGE + "1.0\n",
    "after": PACKAGE + "1.01\n",
}
READS_VERSION = "from importlib.metadata import version\nscale = float(version('{other}_one'))\n"
EDITS |= {
    # Asked about without being opened.
    "whether a file is there": Edit(
        "flag", MADE_OF + "scale = 1.01 if (ROOT / 'flag').exists() else 1.0", before=None, after=""
    ),
    "how long a file is": Edit(
        "flag", MADE_OF + "scale = 1.01 if (ROOT / 'flag').stat().st_size > 1 else 1.0", before="x", after="xx"
    ),
    "where a link leads": Edit(
        "flag", MADE_OF + "scale = float(os.readlink(ROOT / 'flag'))", before="-> 1.0", after="-> 1.01"
    ),
    # Opened otherwise.
    "a file that is opened to be changed": Edit(
        "rate.txt", MADE_OF + "scale = float((ROOT / 'rate.txt').open('r+').read())", before="1.0", after="1.01"
    ),
    "a file that a thread of a pool reads": Edit(
        "rate.txt",
        MADE_OF + "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(1) as pool:\n"
        "    scale = float(pool.submit((ROOT / 'rate.txt').read_text).result())",
        before="1.0",
        after="1.01",
    ),
    "a file that another process reads": Edit(
        "rate.txt",
        MADE_OF + "import subprocess\n" + STARTED.format(command="cat rate.txt"),
        before="1.0",
        after="1.01",
    ),
    # Variables.
    "all variables": Edit(
        "",
        MADE_OF + "scale = float(dict(os.environ).get('MY_SCALE', 1))",
        before=None,
        after="1.01",
        variable="MY_SCALE",
    ),
    "a copy of the variables": Edit(
        "",
        MADE_OF + "scale = float(os.environ.copy().get('MY_SCALE', 1))",
        before=None,
        after="1.01",
        variable="MY_SCALE",
    ),
    "a variable of bytes": Edit(
        "",
        MADE_OF + "scale = float(os.environb.get(b'MY_SCALE', b'1'))",
        before=None,
        after="1.01",
        variable="MY_SCALE",
    ),
    "a variable that another process reads": Edit(
        "",
        MADE_OF + "import subprocess\n" + STARTED.format(command="echo $MY_SCALE"),
        before="1.0",
        after="1.01",
        variable="MY_SCALE",
    ),
    # Packages.
    "a version that is asked for alone": Edit(
        "site-packages/{other}_one-1.dist-info/METADATA", ON_PATH + READS_VERSION, **METADATA
    ),
    "the version of a package that is imported by name": Edit(
        "site-packages/{other}_one-1.dist-info/METADATA",
        ON_PATH + "scale = __import__('{other}_one').scale",
        more={"site-packages/{other}_one.py": READS_VERSION},
        **METADATA,
    ),
    "the version of a package that another imports": Edit(
        "site-packages/{other}_one-1.dist-info/METADATA",
        ON_PATH + "from {other}_two import scale",
        more={
            "site-packages/{other}_one.py": READS_VERSION,
            "site-packages/{other}_two.py": "from {other}_one import scale\n",
        },
        **METADATA,
    ),
}
# Whoever starts another process is made again each time.
NEVER_KEPT = ("a file that another process reads", "a variable that another process reads")
QUICK = ("a module beside the suite", "a JSON file")
BUILD = "from parity.tests.toy import build\n"
SOURCES = {
    "SPEC": "from parity.tests import toy\nCASES = (toy.MOMENTUM,)\n",
    "SPEC2": "from dataclasses import replace\nfrom parity.tests import toy\n"
    "CASES = (replace(toy.MOMENTUM, name='second'),)\n",
    "B": BUILD,
}


def put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if text.startswith("-> "):
        path.unlink(missing_ok=True)
        path.symlink_to(text.removeprefix("-> "))
        return
    first, newline, rest = text.partition("\n")
    path.write_text(SOURCES.get(first, first + newline) + rest)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in EDITS]
)
def test_no_edit_leaves_an_earlier_pass(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    edit = EDITS[what]
    package = write_suite(tmp_path, numpy_b=BUILD)
    monkeypatch.delenv("MY_SCALE", raising=False)

    def named(text: str) -> str:
        return text.replace("{package}", package).replace("{other}", f"other_{package}")

    def change(state: str | None) -> None:
        if edit.variable and state is None:
            monkeypatch.delenv(edit.variable, raising=False)
        elif edit.variable:
            monkeypatch.setenv(edit.variable, state or "")
        else:
            put(tmp_path / named(edit.file), state if state is None else named(state))

    for file, text in edit.more.items():
        put(tmp_path / named(file), named(text))
    change(edit.before)
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(named(scaled(edit.top, edit.inner)))
    command = ("run", "toy-sgd", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    harness_code.cache_clear()
    assert verdicts(parity(*command)) == {"numpy": "PASS", "numpy-mine": "PASS", "numpy-b": "PASS"}
    if what not in NEVER_KEPT:
        with monkeypatch.context() as patch:
            patch.setattr(pool, "_Worker", None)  # Whoever starts one fails.
            assert parity(*command).status == 0, "nothing has changed"
    change(edit.after)
    harness_code.cache_clear()  # A process reads its sources once.
    assert verdicts(parity(*command))["numpy-mine"] == "FAIL"
    change(edit.before)
    harness_code.cache_clear()
    assert verdicts(parity(*command))["numpy-mine"] == "PASS"


BINARY = {
    "safetensors": (
        "from safetensors.numpy import load_file\nscale = float(load_file(ROOT / 'w')['s'][0])",
        "from safetensors.numpy import save_file; import numpy as np; save_file({{'s': np.array([{value}])}}, 'w')",
    ),
    "safe_open": (
        "from safetensors import safe_open\nwith safe_open(str(ROOT / 'w'), 'numpy') as f:\n"
        "    scale = float(f.get_tensor('s')[0])",
        "from safetensors.numpy import save_file; import numpy as np; save_file({{'s': np.array([{value}])}}, 'w')",
    ),
    "h5py": (
        "import h5py\nwith h5py.File(ROOT / 'w') as f:\n    scale = float(f['s'][()])",
        "import h5py; f = h5py.File('w', 'w'); f['s'] = {value}; f.close()",
    ),
    "sqlite3": (
        "import sqlite3\nscale = sqlite3.connect(ROOT / 'w').execute('select s from t').fetchone()[0]",
        "import sqlite3, os; os.path.exists('w') and os.remove('w'); c = sqlite3.connect('w'); "
        "c.execute('create table t(s real)'); c.execute('insert into t values({value})'); c.commit()",
    ),
}


@pytest.mark.parametrize("kind", BINARY)
def test_no_edit_of_a_file_that_is_read_by_no_python_leaves_an_earlier_pass(
    parity: Parity, tmp_path: Path, kind: str
) -> None:
    reads, writes = BINARY[kind]
    package = write_suite(tmp_path, numpy_mine=scaled(MADE_OF + reads))
    command = ("run", "toy-sgd", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    for value, verdict in ((1.0, "PASS"), (1.01, "FAIL")):
        subprocess.run([sys.executable, "-c", writes.format(value=value)], cwd=tmp_path, check=True, timeout=120)
        assert verdicts(parity(*command)) == {"numpy": "PASS", "numpy-mine": verdict}


SECOND = {
    "import_module": ("from importlib import import_module", "scale = import_module('{rates}').scale"),
    "__import__": ("", "scale = __import__('{rates}').scale"),
    "exec": ("", "space = {{}}; exec('from {rates} import scale', space); scale = space['scale']"),
    "sys.modules": (
        "import importlib, sys",
        "importlib.import_module('{rates}'); scale = sys.modules['{rates}'].scale",
    ),
}


@pytest.mark.parametrize("how", SECOND)
def test_the_second_cell_of_a_worker_depends_on_a_module_that_the_first_has_loaded(
    parity: Parity, tmp_path: Path, how: str
) -> None:
    top, inner = (text.format(rates=f"rates_for_{tmp_path.name}") for text in SECOND[how])
    package = write_suite(tmp_path, numpy_a=scaled(top, inner), numpy_b=scaled(top, inner))
    command = ("run", "toy-sgd", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-", "--jobs", "1")
    for value, verdict in ((1.0, "PASS"), (1.01, "FAIL")):
        (tmp_path / f"rates_for_{tmp_path.name}.py").write_text(f"scale = {value}\n")
        assert verdicts(parity(*command)) == {"numpy": "PASS", "numpy-a": verdict, "numpy-b": verdict}


@pytest.mark.parametrize("variable", ["JAX_DEFAULT_MATMUL_PRECISION", "TORCH_LOGS", "NPY_DISABLE_CPU_FEATURES"])
def test_a_variable_that_frameworks_read_by_themselves_makes_a_run_anew(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    monkeypatch.delenv(variable, raising=False)
    assert parity(*command).status == 0
    manifest = tmp_path / "out" / CASE / "numpy-float64-cpu" / MANIFEST
    before = manifest.stat().st_mtime_ns
    monkeypatch.setenv(variable, "")
    assert parity(*command).status == 0
    assert manifest.stat().st_mtime_ns > before


def verdicts(result: Result) -> dict[str, str]:
    return {cell["implementation"]: cell["verdict"] for cell in strict_json(result.out, "run")["cells"]}


def test_a_file_that_changes_while_it_is_read_is_never_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    known = {"files": {str(tmp_path / "a"): content(str(tmp_path / "a"))}, "variables": {}}
    assert fresh(known, {}, ())
    assert not fresh({**known, "files": {str(tmp_path / "a"): CHANGING}}, {}, ())
    (tmp_path / "a").write_text("two")
    assert not fresh(known, {}, ())
    (tmp_path / "a").unlink()
    assert not fresh(known, {}, ())


def test_a_file_is_looked_for_where_packages_are(tmp_path: Path) -> None:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
    (tmp_path / "second" / "a").write_text("one")
    folders = [str(tmp_path / folder) for folder in ("first", "second")]
    known = {"files": {"a": content(str(tmp_path / "second" / "a"))}, "variables": {}}
    assert fresh(known, {}, folders)
    # What comes before it would be read in its place.
    (tmp_path / "first" / "a").write_text("two")
    assert not fresh(known, {}, folders)


def test_a_variable_is_known_by_a_hash_for_its_value_may_be_a_secret() -> None:
    known = {"files": {}, "variables": {"KEY": hash_of("a secret"), "NONE": hash_of(None)}}
    assert "secret" not in repr(known)
    assert fresh(known, {"KEY": "a secret"}, ())
    for other in ({}, {"KEY": "another"}, {"KEY": "a secret", "NONE": ""}):
        assert not fresh(known, other, ())


@pytest.mark.parametrize("depends", [None, [], {}, {"files": {}}, {"files": 1, "variables": {}}, {"variables": {}}])
def test_a_run_that_does_not_say_what_it_has_read_is_made_again(depends: Any) -> None:
    assert not fresh(depends, {}, ())


def test_a_fifo_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    assert not fresh({"files": {str(tmp_path / "a"): "0" * 32}, "variables": {}}, {}, ())


WRITES = """
from pathlib import Path
from parity.tests import toy

def build(case, dtype, device):
    path = Path(__file__).with_name("log")
    path.write_text(path.read_text() + "again" if path.exists() else "first")
    return toy.build(case, dtype, device)
"""


def test_what_a_run_writes_itself_is_not_what_it_depends_on(parity: Parity, tmp_path: Path) -> None:
    package = write_suite(tmp_path, numpy_mine=WRITES)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    assert parity(*command).status == 0
    assert (tmp_path / package / "toy" / "log").read_text() == "first"


def test_nothing_of_the_machine_is_in_what_is_compared(parity: Parity, tmp_path: Path) -> None:
    assert parity("run", "iris-logistic", "--impl", "numpy", "--out", "out", "--dtype", "float64").status == 0
    depends = read_manifest(tmp_path / "out" / "iris-logistic" / "numpy-float64-cpu")["depends"]
    assert depends["variables"] == {}
    assert set(depends["files"]) >= {"fixtures/data/iris.data", "impls/logistic/logistic_numpy.py"}
    assert not [name for name in depends["files"] if not name.startswith(("impls/", "fixtures/"))]


def test_another_version_of_python_makes_a_run_anew(
    parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write_suite(tmp_path)
    command = ("run", "--suite", package, "--out", "out", "--dtype", "float64")
    assert parity(*command).status == 0
    manifest = tmp_path / "out" / CASE / "numpy-float64-cpu" / MANIFEST
    before = manifest.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(Versions, "python", lambda self, implementation: "3.99.0")
        assert parity(*command).status == 0
    assert manifest.stat().st_mtime_ns > before
