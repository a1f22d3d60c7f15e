"""The functions of a framework as it was imported: a job that puts another in one's place has changed its process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any

DEPTH = 3
"""Modules as deep as ``torch.nn.functional`` are looked at; a framework has thousands below, which nobody patches."""
Functions = dict[str, Any]
"""Functions and methods by their full names."""


def functions(packages: set[str]) -> Functions:
    """List what can be called in the public modules and classes of some packages, as far as they are loaded.

    Args:
        packages: The packages' top-level modules.

    Returns:
        Each function by its full name, as ``numpy.linalg.norm`` or ``torch.nn.modules.linear.Linear.forward``.
    """
    found: Functions = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some classes warn when they are looked at
        for name, module in list(sys.modules.items()):
            parts = name.split(".")
            public = len(parts) <= DEPTH and not any(part.startswith("_") for part in parts)
            if parts[0] in packages and public and isinstance(module, ModuleType):
                found.update(_within(name, module, packages))
    return found


def _within(name: str, module: ModuleType, packages: set[str]) -> Iterator[tuple[str, Any]]:
    for attribute, value in list(vars(module).items()):
        if not isinstance(value, type):
            if callable(value):
                yield f"{name}.{attribute}", value
        elif str(value.__module__).split(".")[0] in packages:
            for method, function in list(vars(value).items()):
                if isinstance(function, FunctionType):
                    yield f"{value.__module__}.{value.__qualname__}.{method}", function


def patched(before: Functions, now: Functions, packages: set[str]) -> list[str]:
    """Name the functions in whose places others stand now. What was loaded since is none of them.

    A framework changes functions of its own, as torch does a step of its optimizers: what is written in one of the
    ``packages`` and stood in no other place is no job's doing.
    """
    changed = [name for name, function in before.items() if now.get(name, function) is not function]
    if not changed:
        return []
    known = {id(function) for function in before.values()}
    folders = tuple(folder for package in packages for folder in getattr(sys.modules.get(package), "__path__", ()))

    def own(function: Any) -> bool:
        code = getattr(function, "__code__", None)
        return code is not None and code.co_filename.startswith(folders) and id(function) not in known

    return [name for name in changed if not own(now[name])]
