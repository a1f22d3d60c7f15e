"""The modules that a source takes, by what stands in it: its import statements, and whether it may take others."""

from __future__ import annotations

import ast
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType

from parity.running.reading.dependencies import content

AT_RUN_TIME = frozenset(
    ("__import__", "eval", "exec", "import_module", "importlib", "modules", "pkgutil", "runpy", "__builtins__")
)
"""A source in which none of these words stands takes no module but those that its import statements name."""


def imported(path: str, module: ModuleType) -> set[str]:
    """The modules that a source names in its imports, wherever they stand in it, and the packages that they are in."""
    package = module.__package__ or ""
    found = {module.__name__}
    for level, base, names in _statements(path, content(path)):
        parts = package.split(".")
        start = ".".join(parts[: len(parts) - level + 1]) if level else ""
        whole = f"{start}.{base}".strip(".")
        found |= {whole, *(f"{whole}.{name}".strip(".") for name in names)}
    return {".".join(parts[:end]) for name in found for parts in [name.split(".")] for end in range(1, len(parts) + 1)}


@lru_cache(1)  # both who ask, ask of one source after the other
def _nodes(path: str, state: str) -> list[ast.AST] | None:
    """All that a source consists of; None if it is none."""
    try:
        return list(ast.walk(ast.parse(Path(path).read_bytes())))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return None


@cache
def _statements(path: str, state: str) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Each import in a source: how many packages up it begins, the module, and the names that are taken from it."""
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in _nodes(path, state) or ():
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return tuple(found)


@cache
def names_at_run_time(path: str, state: str) -> bool:
    """Whether a source may take modules that no import statement in it names."""
    nodes = _nodes(path, state)
    if nodes is None:
        return True
    words = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Attribute):
            words.add(node.attr)
        elif isinstance(node, ast.alias):
            words |= set(node.name.split("."))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    return bool(words & AT_RUN_TIME)
