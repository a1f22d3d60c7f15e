"""What is imported when, and by whom: frameworks stay out of the harness and out of each other's processes."""

from __future__ import annotations

import ast
import graphlib
import importlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import parity
from parity.frameworks import FRAMEWORKS
from parity.suite import load_suite
from parity.tests.warm import PACKAGES, begin

ROOT = Path(parity.__file__).parent
FOREIGN = PACKAGES - {"numpy"}

# Rooms from the ground up. What stands on one floor may import each other, but never in a circle. The package's own
# face hands out names of many rooms and loads none: it has a test of its own.
GROUPS = (
    ("typing", "dtypes", "frameworks"),
    ("trajectory", "layout", "rules", "schedules"),
    ("spec", "tolerance"),
    ("trainer",),
    ("suite", "nn"),
    ("trainers", "recording"),
    ("recorder",),
    ("judging",),
    ("watching",),
    ("mistakes",),
    ("explaining",),
    ("running",),
    ("proving",),
    ("report",),
    ("cli", "pytest_plugin"),
    ("__main__",),
)
FLOOR = {name: floor for floor, names in enumerate(GROUPS) for name in names}


def loaded(code: str, environment: dict[str, str] | None = None, arguments: list[str] | None = None) -> set[str]:
    """Which of the frameworks, NumPy among them, a fresh interpreter holds after it ran ``code``."""
    lines = (code, "import json, sys", "print(json.dumps(sorted(sys.modules)), file=sys.stderr)")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines), *(arguments or [])],
        capture_output=True,
        text=True,
        env=environment or {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return PACKAGES & {name.split(".")[0] for name in json.loads(done.stderr.splitlines()[-1])}


def sources(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if "tests" not in path.relative_to(folder).parts]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def test_importing_the_package_loads_no_framework_and_not_numpy() -> None:
    assert loaded("import parity") == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["diff", "--help"]], ids=" ".join)
def test_help_loads_no_framework_and_not_numpy(arguments: list[str]) -> None:
    code = "from parity.cli.main import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code"
    assert loaded(code, arguments=arguments) == set()


def test_importing_the_harness_loads_no_framework() -> None:
    modules = [module_of(path) for path in sources(ROOT) if not knows_a_framework(path)]
    assert len(modules) > 15
    # Importing __main__ would run the command.
    lines = [f"import {name}" for name in modules if name != "parity.__main__"]
    assert loaded("\n".join(lines)) == {"numpy"}


ALLOWED = {
    "numpy": {"numpy"},
    "torch": {"numpy", "torch"},
    # TensorFlow itself imports Keras, and JAX where that is installed.
    "tensorflow": {"numpy", "tensorflow", "keras", "jax", "jaxlib"},
    "keras": {"numpy", "tensorflow", "keras", "jax", "jaxlib"},
    "jax": {"numpy", "jax", "jaxlib", "optax"},
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "framework" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--parity-framework") or list(ALLOWED)
        metafunc.parametrize("framework", [name for name in ALLOWED if name in chosen])


@pytest.mark.asks(question=begin)
def test_an_implementation_loads_its_own_framework_alone(framework: str, answer: dict[str, list[str]]) -> None:
    """The first that a worker does here is to import them all, those of flax last: raw JAX must do without it."""
    assert answer
    needed = next(known for known in FRAMEWORKS if known.name == framework).packages
    for module, found in answer.items():
        words = module.rpartition(".")[2].split("_")
        foreign = set(found) - ALLOWED[framework]
        assert foreign <= ({"flax"} if "flax" in words else set()), (module, foreign)
        # What its label says that it needs: a module that imports less is of another framework than it says.
        (label,) = needed.keys() & words
        assert set(needed[label]) <= set(found), (module, found)


@cache
def imports(path: Path, runtime: bool = True) -> set[str]:
    """The modules that a source imports, at its top or within functions; ``runtime``: not those for types alone."""
    found = set()
    tree = ast.parse(path.read_text())
    if runtime:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            module = node.module or ""
            # "from parity import compare" imports a module.
            found |= {f"{module}.{alias.name}" if is_module(module, alias.name) else module for alias in node.names}
    return found


def is_module(package: str, name: str) -> bool:
    return ROOT.parent.joinpath(*package.split("."), f"{name}.py").exists()


def knows_a_framework(path: Path) -> bool:
    """Whether a module is one framework's own: its trainer, what looks into its users' objects, the field's runs."""
    names = [name.replace("tensorflow", "tf1") for name in ALLOWED]
    if path.parent.parent == ROOT / "watching":
        return path.parent.name in names
    own = room(module_of(path)) == "trainers" or path.parent == ROOT / "proving" / "field"
    return own and path.stem.split("_")[0] in names


def room(module: str) -> str:
    """The part of the harness that a module belongs to: its file, or the folder that it lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def own(modules: set[str]) -> set[str]:
    known = {module_of(path) for path in sources(ROOT)}
    return {name for name in modules if name.split(".")[0] == "parity" and name in known}


FACE = ROOT / "__init__.py"


def test_the_face_imports_for_types_alone_what_it_hands_out_lazily() -> None:
    named = re.findall(r"^    from (\S+) import (\S+) as (\S+)$", FACE.read_text(), re.MULTILINE)
    assert all(name == again for _, name, again in named)
    found = {name: module for module, name, _ in named}
    assert set(found) == set(parity.__all__) - {"__version__"}
    for name, module in found.items():
        assert getattr(parity, name) is getattr(importlib.import_module(module), name)
    assert imports(FACE) <= {"__future__", "typing", "importlib"}
    assert set(parity.__all__) <= set(dir(parity))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        parity.nothing  # noqa: B018


def test_a_public_name_loads_no_framework() -> None:
    assert loaded("from parity import *") == {"numpy"}


@pytest.mark.parametrize("path", sources(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_harness_takes_the_version_alone_from_the_face(path: Path) -> None:
    taken = [
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "parity"
        for alias in node.names
    ]
    assert not set(taken) & (set(parity.__all__) - {"__version__"})


@pytest.mark.parametrize(
    "path", [path for path in sources(ROOT) if path != FACE], ids=lambda path: str(path.relative_to(ROOT))
)
def test_an_import_never_goes_up(path: Path) -> None:
    here = room(module_of(path))
    assert here in FLOOR, f"{path.name} stands on no floor yet: give it one in GROUPS"
    above = {name for name in own(imports(path, runtime=False)) if FLOOR.get(room(name), 0) > FLOOR[here]}
    assert not above


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {module_of(path): own(imports(path, runtime=False)) - {"parity"} for path in sources(ROOT)}
    order = list(graphlib.TopologicalSorter(graph).static_order())
    assert order.index("parity.spec") < order.index("parity.judging.ladder") < order.index("parity.running.matrix")


def test_the_check_for_imports_sees_them(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        "from typing import TYPE_CHECKING\nimport a.b\nfrom parity.running import matrix\n"
        "if TYPE_CHECKING:\n    import c\ndef f():\n    from d import e\n"
    )
    assert imports(source) == {"typing", "a.b", "parity.running.matrix", "d"}
    assert own(imports(source)) == {"parity.running.matrix"}


@pytest.mark.parametrize("path", sources(ROOT), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_harness_knows_no_model_and_only_trainers_know_a_framework(path: Path) -> None:
    named = {name.split(".")[0] for name in imports(path, runtime=False)}
    assert "impls" not in named
    if not knows_a_framework(path):
        assert not named & FOREIGN


NAMED = re.compile(r"gru|lstm|mnist|iris|dogecoin|fixtures", re.I)
"""Models and data of the documents' suite, and the package that holds the data."""


def said(path: Path) -> set[str]:
    """The identifiers and strings of a source, without its docstrings."""
    tree = ast.parse(path.read_text())
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    nodes = [node for node in ast.walk(tree) if id(node) not in texts]
    found = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return found | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


# A mistake refers to the issues of others' models. What layers mean, how each framework lays out the weights of one,
# and the small models of the field are said by the names that they have.
NAMED_ROOMS = ("catalogue", "replayed", "nn", "carry", "field")
NAMELESS = [path for path in sources(ROOT) if path.parent.name not in NAMED_ROOMS]


@pytest.mark.parametrize("path", NAMELESS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_harness_names_no_model_and_no_data(path: Path) -> None:
    assert not {text for text in said(path) if NAMED.search(text)}


IMPLS = Path(load_suite("impls").entries["iris-logistic"].spec).parent.parent


@pytest.mark.parametrize("path", sources(IMPLS), ids=lambda path: str(path.relative_to(IMPLS)))
def test_a_model_file_uses_only_what_a_user_may_use(path: Path) -> None:
    names = imports(path, runtime=False)
    # A family of layers whose name is that of its function is had as a module.
    offered = {"parity", "parity.nn", "parity.nn.attention", "parity.spec", "parity.layout"}
    if path.stem == "spec":
        offered |= {"parity.trajectory"}  # what a published figure's function is given
        assert not {name.split(".")[0] for name in names} & FOREIGN
    if path.stem == "mistakes":
        # A mistake of a user's own is an implementation wrapped: it names the types of both.
        # The function ``in_torch`` has its module's name.
        offered |= {"parity.mistakes", "parity.mistakes.in_torch", "parity.trainer"}
    used = {name for name in names if name.split(".")[0] == "parity"}
    trainers = {name for name in used if name.startswith("parity.trainers.")}
    assert len(trainers) <= 1
    assert used - trainers <= offered
