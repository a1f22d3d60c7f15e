"""No edit of anything that a run depends on leaves its earlier PASS, and where nothing changed nothing is run again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from parity.recording.format import MANIFEST
from parity.recording.reader import read_manifest
from parity.running import pool
from parity.running.dependencies import ABSENT, CHANGING, content, fresh, hash_of
from parity.running.keys import harness_code
from parity.tests.command import Parity
from parity.tests.suites import CASE, strict_json, write_suite

# Right as long as what it reads says 1.
SCALED = """
from dataclasses import replace
from parity.tests import toy
{top}

def build(case, dtype, device):
    {inner}
    return toy.build(replace(case, optimizer=replace(case.optimizer, learning_rate=case.optimizer.learning_rate * scale)), dtype, device)
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


P, O = "{package}", "{other}"
READ = "Path(__file__).parents[2].joinpath({name!r}).read_text()"
IMPORTS = "import json, os, sys\nfrom pathlib import Path\n"
EDITS = {
    # Sources, wherever they lie.
    "a helper beside the implementation": Edit(f"{P}/toy/rates.py", f"from {P}.toy.rates import scale"),
    "a helper that is imported relatively": Edit(f"{P}/toy/rates.py", "from .rates import scale"),
    "a helper in the suite": Edit(f"{P}/rates.py", f"from {P}.rates import scale"),
    "a helper in a folder of the suite": Edit(f"{P}/common/rates.py", f"from {P}.common.rates import scale"),
    "a package's own file": Edit(f"{P}/common/__init__.py", f"from {P}.common import scale"),
    "the file of a package on the way": Edit(
        f"{P}/common/__init__.py", f"import {P}.common.inner\nscale = {P}.common.scale", more={f"{P}/common/inner.py": ""}
    ),
    "the suite's own file": Edit(f"{P}/__init__.py", f"import {P}\nscale = {P}.scale"),
    "the model's own file": Edit(f"{P}/toy/__init__.py", f"from {P}.toy import scale"),
    "the spec": Edit(f"{P}/toy/spec.py", f"from {P}.toy import spec\nscale = spec.scale", before="SPEC\n" + ONE, after="SPEC\n" + OTHER),
    "another implementation": Edit(f"{P}/toy/toy_numpy_b.py", f"from {P}.toy.toy_numpy_b import scale", before="B\n" + ONE, after="B\n" + OTHER),
    "a helper in another model's package": Edit(
        f"{P}/second/rates.py", f"from {P}.second.rates import scale", more={f"{P}/second/spec.py": "SPEC2", f"{P}/second/second_numpy.py": "B", f"{P}/second/__init__.py": ""}
    ),
    "a helper in a folder of another model's": Edit(
        f"{P}/second/inner/rates.py", f"from {P}.second.inner.rates import scale", more={f"{P}/second/spec.py": "SPEC2", f"{P}/second/second_numpy.py": "B"}
    ),
    "an implementation of another model": Edit(
        f"{P}/second/second_numpy.py", f"from {P}.second.second_numpy import scale", before="B\n" + ONE, after="B\n" + OTHER, more={f"{P}/second/spec.py": "SPEC2"}
    ),
    "a module beside the suite": Edit("{other}_rates.py", "from {other}_rates import scale"),
    "another package": Edit(f"{O}/rates.py", f"from {O}.rates import scale"),
    "another package's own file": Edit(f"{O}/__init__.py", f"from {O} import scale"),
    "a helper's helper": Edit(f"{O}/deep.py", f"from {O}.rates import scale", more={f"{O}/rates.py": f"from {O}.deep import scale"}),
    "a helper of a helper that is imported as it is called": Edit(
        f"{O}/deep.py", f"from {O} import rates\nscale = rates.find()", more={f"{O}/rates.py": f"def find():\n    from {O}.deep import scale\n    return scale\n"}
    ),
    "what a star brings": Edit(f"{O}/rates.py", f"from {O}.rates import *"),
    "any file named mistakes.py": Edit(f"{P}/toy/mistakes.py", f"from {P}.toy.mistakes import scale", before="RULES = ()\n" + ONE, after="RULES = ()\n" + OTHER),
    "mistakes.py elsewhere": Edit(f"{O}/mistakes.py", f"from {O}.mistakes import scale"),
    "what is imported in a function": Edit(f"{O}/rates.py", inner=f"from {O}.rates import scale"),
    "what is imported by name": Edit(f"{O}/rates.py", f"from importlib import import_module\nscale = import_module('{O}.rates').scale"),
    "what is imported by name in a function": Edit(f"{O}/rates.py", "import importlib", f"scale = importlib.import_module('{O}.rates').scale"),
    "a source that is run from its path": Edit(
        "run/rates.py", "import runpy\nfrom pathlib import Path\nscale = runpy.run_path(str(Path(__file__).parents[2] / 'run/rates.py'))['scale']"
    ),
    "a source that is loaded from its path": Edit(
        "run/rates.py",
        "from importlib.util import module_from_spec, spec_from_file_location\nfrom pathlib import Path\n"
        "spec = spec_from_file_location('by_path', Path(__file__).parents[2] / 'run/rates.py')\n"
        "module = module_from_spec(spec)\nspec.loader.exec_module(module)\nscale = module.scale",
    ),
    "a source that is executed": Edit(
        "run/rates.py", IMPORTS + f"space = {{}}\nexec({READ.format(name='run/rates.py')}, space)\nscale = space['scale']"
    ),
    "a module of a folder on the path": Edit(
        "lib/{other}_lib.py", IMPORTS + "sys.path.append(str(Path(__file__).parents[2] / 'lib'))\nfrom {other}_lib import scale\nsys.path.pop()"
    ),
    "a namespace package": Edit("{other}_space/inner/rates.py", "from {other}_space.inner.rates import scale"),
    "what comes before another of its name": Edit(
        f"{P}/toy/fast.py",
        f"try:\n    from {P}.toy.fast import scale\nexcept ImportError:\n    scale = 1.0",
        before=None,
    ),
    # Files.
    "a JSON file": Edit("rates.json", IMPORTS + f"scale = json.loads({READ.format(name='rates.json')})", before="1.0", after="1.01"),
    "a JSON file that is read in the build": Edit(
        "rates.json", IMPORTS, f"scale = json.loads({READ.format(name='rates.json')})", before="1.0", after="1.01"
    ),
    "a file that another package reads": Edit(
        f"{O}/rate.txt", f"from {O} import scale", more={f"{O}/__init__.py": "from pathlib import Path\nscale = float(Path(__file__).with_name('rate.txt').read_text())"}, before="1.0", after="1.01"
    ),
    "a file that is read once for all": Edit(
        f"{O}/rate.txt",
        f"from {O} import find",
        "scale = find()",
        more={f"{O}/__init__.py": "from functools import cache\nfrom pathlib import Path\n\n@cache\ndef find():\n    return float(Path(__file__).with_name('rate.txt').read_text())\n"},
        before="1.0",
        after="1.01",
    ),
    "a file that NumPy reads": Edit("rates.txt", IMPORTS + "import numpy as np\nscale = float(np.loadtxt(Path(__file__).parents[2] / 'rates.txt'))", before="1.0", after="1.01"),
    "a file of fixtures": Edit("fixtures_of_mine/rate.csv", IMPORTS + f"scale = float({READ.format(name='fixtures_of_mine/rate.csv')})", before="1.0", after="1.01"),
    "a file that was not there": Edit(
        "rate.txt",
        IMPORTS + f"try:\n    scale = float({READ.format(name='rate.txt')})\nexcept FileNotFoundError:\n    scale = 1.0",
        before=None,
        after="1.01",
    ),
    "a file that goes": Edit(
        "rate.txt",
        IMPORTS + f"try:\n    scale = float({READ.format(name='rate.txt')})\nexcept FileNotFoundError:\n    scale = 1.01",
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
        "there/rate.txt", IMPORTS + f"scale = float({READ.format(name='linked/rate.txt')})", before="1.0", after="1.01", more={"linked": "-> there"}
    ),
    # Variables.
    "a variable": Edit("", IMPORTS + "scale = float(os.environ['MY_SCALE'])", before="1.0", after="1.01", variable="MY_SCALE"),
    "a variable that was not set": Edit("", IMPORTS + "scale = float(os.environ.get('MY_SCALE', 1))", before=None, after="1.01", variable="MY_SCALE"),
    "a variable that is asked for in the build": Edit(
        "", IMPORTS, "scale = float(os.getenv('MY_SCALE', 1.01))", before="1.0", after=None, variable="MY_SCALE"
    ),
    "a variable of another package": Edit(
        "", f"from {O} import scale", more={f"{O}/__init__.py": "import os\nscale = 1.01 if 'MY_SCALE' in os.environ else 1.0"}, before=None, after="", variable="MY_SCALE"
    ),
}
QUICK = ("a helper in another model's package", "a module beside the suite", "a JSON file", "a variable", "any file named mistakes.py")
BUILD = "from parity.tests.toy import build\n"
SOURCES = {
    "SPEC": "from parity.tests import toy\nCASES = (toy.MOMENTUM,)\n",
    "SPEC2": "from dataclasses import replace\nfrom parity.tests import toy\nCASES = (replace(toy.MOMENTUM, name='second'),)\n",
    "B": BUILD,
}


def put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if text.startswith("-> "):
        path.symlink_to(text.removeprefix("-> "))
        return
    first, newline, rest = text.partition("\n")
    path.write_text(SOURCES.get(first, first + newline) + rest)


@pytest.mark.parametrize("what", [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in EDITS])
def test_no_edit_leaves_an_earlier_pass(parity: Parity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
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
            put(tmp_path / named(edit.file), state)

    for file, text in edit.more.items():
        put(tmp_path / named(file), named(text))
    change(edit.before)
    (tmp_path / package / "toy" / "toy_numpy_mine.py").write_text(named(scaled(edit.top, edit.inner)))
    command = ("run", "toy-sgd", "--suite", package, "--out", "out", "--dtype", "float64", "--json", "-")
    harness_code.cache_clear()
    assert verdicts(parity(*command)) == {"numpy": "PASS", "numpy-mine": "PASS", "numpy-b": "PASS"}
    with monkeypatch.context() as patch:
        patch.setattr(pool, "_Worker", None)  # Whoever starts one fails.
        assert parity(*command).status == 0, "nothing has changed"
    change(edit.after)
    harness_code.cache_clear()  # A process reads its sources once.
    assert verdicts(parity(*command))["numpy-mine"] == "FAIL"
    change(edit.before)
    harness_code.cache_clear()
    assert verdicts(parity(*command))["numpy-mine"] == "PASS"


def verdicts(result: object) -> dict[str, str]:
    return {cell["implementation"]: cell["verdict"] for cell in strict_json(result.out, "run")["cells"]}  # type: ignore[attr-defined]
