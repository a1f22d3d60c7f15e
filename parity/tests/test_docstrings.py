"""Every public name says what it takes, gives and refuses, and shows an example that works."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import parity

VOCABULARY = (
    *("recorder", "spec", "layout", "tolerance", "trainer"),
    *("dtypes", "frameworks", "schedules", "suite", "trajectory", "typing"),
    *(f"nn.{path.stem}" for path in sorted(Path(__file__).parent.glob("nn/families/[a-z]*.py"))),
)
"""The public modules. What stands elsewhere and is handed out by the package counts, too."""


@dataclass(frozen=True)
class Public:
    """A public name: where it stands, and what it is."""

    name: str
    value: Any


def defined_in(module: ModuleType) -> Iterator[Public]:
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__
        if not name.startswith("_") and own and isinstance(value, type | FunctionType):
            yield Public(f"{module.__name__}.{name}", value)


def public_names() -> list[Public]:
    found = [one for name in VOCABULARY for one in defined_in(importlib.import_module(f"parity.{name}"))]
    handed = [getattr(parity, name) for name in parity.__all__]
    handed = [value for value in handed if isinstance(value, type | FunctionType)]
    known = {id(one.value) for one in found}
    found += [
        Public(f"{value.__module__}.{value.__qualname__}", value)
        for value in handed
        if id(value) not in known and value.__module__.startswith("parity.")
    ]
    return found


NAMES = public_names()
EACH = pytest.mark.parametrize("public", NAMES, ids=[one.name for one in NAMES])
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Examples):$", re.MULTILINE)


def sections(value: Any) -> dict[str, str]:
    """The sections of a docstring by name; "" is what stands before them."""
    head, *rest = SECTION.split(inspect.getdoc(value) or "") if value.__doc__ else [""]
    return {"": head.strip(), **dict(zip(rest[::2], rest[1::2], strict=True))}


def listed(text: str) -> set[str]:
    """The names that a section of arguments or attributes explains."""
    return set(re.findall(r"^    \*{0,2}(\w+): \S", text, re.MULTILINE))


def tree(value: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def with_texts(body: list[ast.stmt]) -> set[str]:
    """The names that a body assigns or declares with a text below."""
    found = set()
    for here, after in itertools.pairwise(body):
        said = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if said and isinstance(here, ast.Assign | ast.AnnAssign):
            targets = here.targets if isinstance(here, ast.Assign) else [here.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def gaps_of_function(function: FunctionType, said: dict[str, str]) -> Iterator[str]:
    names = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    for name in set(names) - listed(said.get("Args", "")):
        yield f"does not explain {name} under Args"
    gives = function.__annotations__.get("return")
    if gives not in (None, "None", "NoReturn") and not {"Returns", "Yields"} & set(said):
        yield "does not say what it returns"
    raised = [node for node in ast.walk(tree(function)) if isinstance(node, ast.Raise)]
    if raised and "Raises" not in said:
        yield "does not say what it raises"


def gaps_of_class(kind: type) -> Iterator[str]:
    said = sections(kind)
    body = tree(kind)
    assert isinstance(body, ast.ClassDef)
    told = listed(said.get("Attributes", "")) | listed(said.get("Args", "")) | with_texts(body.body)
    if is_dataclass(kind):
        asked = {field.name for field in fields(kind) if field.name in kind.__annotations__}
    elif hasattr(kind, "_fields"):
        asked = set(kind._fields)
    else:
        start = vars(kind).get("__init__")
        own = start is not None and not getattr(kind, "_is_protocol", False)
        asked = set(inspect.signature(start).parameters) - {"self"} if own else set()
    for name in asked - told:
        yield f"does not explain {name}"
    for name, member in vars(kind).items():
        if name.startswith("_") or not isinstance(member, FunctionType | property):
            continue
        if not member.__doc__:
            yield f"{name} has no docstring"
        elif isinstance(member, FunctionType) and not as_elsewhere(member):
            yield from (f"{name} {gap}" for gap in gaps_of_function(member, sections(member)))


def as_elsewhere(method: FunctionType) -> bool:
    """Whether a method refers to the protocol whose verb it is, which explains it."""
    found = re.search(r", as ``(\w+)\.(\w+)`` says\.$", sections(method)[""])
    home = getattr(parity, found[1]) if found else None
    return home is not None and not list(gaps_of_class(home)) and found[2] == method.__name__


@EACH
def test_a_public_name_says_what_it_takes_gives_and_refuses(public: Public) -> None:
    said = sections(public.value)
    gaps = [] if said[""] else ["has no summary"]
    found = gaps_of_class(public.value) if isinstance(public.value, type) else gaps_of_function(public.value, said)
    gaps += found
    if ">>> " not in said.get("Examples", ""):
        gaps.append("has no example")
    assert not gaps, f"{public.name} {'; '.join(gaps)}"


@EACH
def test_an_example_works(public: Public, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = dict(vars(importlib.import_module(public.value.__module__)))
    runner = doctest.DocTestRunner(verbose=False)
    said: list[str] = []
    for test in doctest.DocTestFinder(recurse=False).find(public.value, public.name, globs=names):
        assert not any(doctest.SKIP in example.options for example in test.examples)
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).attempted
    assert not said, "\n".join(said)


@pytest.mark.parametrize("name", VOCABULARY)
def test_a_public_constant_is_explained_below(name: str) -> None:
    module = importlib.import_module(f"parity.{name}")
    body = ast.parse(inspect.getsource(module)).body
    targets = [
        target.id
        for node in body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name) and not target.id.startswith("_")
    ]
    assert set(targets) - {"T"} <= with_texts(body)


TRAINERS = sorted((Path(parity.__file__).parent / "trainers").glob("*_trainer.py"))


@pytest.mark.parametrize("path", TRAINERS, ids=lambda path: path.stem)
def test_a_trainer_explains_how_it_is_made(path: Path) -> None:
    # Read and not imported: each would bring its framework.
    nodes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    made = [node for node in nodes if re.fullmatch(r"[A-Z]\w*Trainer|[a-z]+_trainer", node.name)]
    assert made
    for node in made:
        inside = [one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"]
        arguments = (inside[0] if isinstance(node, ast.ClassDef) else node).args
        names = {one.arg for one in (*arguments.args, *arguments.kwonlyargs)} - {"self"}
        text = SECTION.split(ast.get_docstring(node) or "")
        assert "Args" in text, node.name
        assert names == listed(text[text.index("Args") + 1]), node.name


def test_the_check_sees_what_is_missing() -> None:
    def silent(rows: int) -> int:
        """Say nothing.

        Args:
            row: Misspelt.
        """
        if rows < 0:
            raise ValueError("negative")
        return rows

    assert list(gaps_of_function(silent, sections(silent))) == [
        "does not explain rows under Args",
        "does not say what it returns",
        "does not say what it raises",
    ]
