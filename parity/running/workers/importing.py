"""Imports of a worker as they happen: whose module has just been carried out, when those of others are complete."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Imports:
    """A finder that finds nothing itself: it has the others find, and tells what becomes of it.

    Args:
        own: Whether a source, by its path, is somebody's own and no interpreter's.
        on_own: Called with a module of theirs as soon as its code has been carried out, before its importer goes on.
        before_others: Called before an installed package is imported: what it changes elsewhere is no job's doing.
        on_others: Called with the names of an interpreter's modules, once the first of them and all that it imports are
            complete: until then they change each other.
        on_loaded: What to do with single modules of an interpreter as soon as they are loaded, by name.
    """

    def __init__(
        self,
        own: Callable[[str], bool],
        on_own: Callable[[ModuleType], None],
        before_others: Callable[[], None],
        on_others: Callable[[list[str]], None],
        on_loaded: Mapping[str, Callable[[ModuleType], None]],
    ) -> None:
        self._own, self._on_own, self._on_others, self._on_loaded = own, on_own, on_others, on_loaded
        self._before_others = before_others
        self._local = threading.local()
        self._names: list[str] = []
        self._depth = 0

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        looking = self._local.__dict__.setdefault("looking", set())
        if name in looking:
            return None
        looking.add(name)
        try:
            found = _found(self, name, path, target)
        finally:
            looking.discard(name)
        if found is not None and found.loader is not None and hasattr(found.loader, "exec_module"):
            self._follow(name, found, found.loader)
        return found

    def _follow(self, name: str, spec: ModuleSpec, loader: Any) -> None:
        after = []
        if spec.has_location and spec.origin is not None and self._own(spec.origin):
            after.append(self._on_own)
        else:
            self._names.append(name)
            if name in self._on_loaded:
                after.append(self._on_loaded[name])
            if not isinstance(loader, type) and self._depth == 0:
                standard = name.partition(".")[0] in sys.stdlib_module_names
                _around(loader, self._enter if standard else self._enter_installed, self._leave)
        for call in after:
            _around(loader, lambda: None, call)

    def _enter(self) -> None:
        self._depth += 1

    def _enter_installed(self) -> None:
        if self._depth == 0:
            self._before_others()
        self._depth += 1

    def _leave(self, module: ModuleType) -> None:
        self._depth -= 1
        if self._depth == 0:
            names, self._names = self._names, []
            self._on_others(names)


def _found(asking: object, name: str, path: Sequence[str] | None, target: ModuleType | None) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        find = None if finder is asking else getattr(finder, "find_spec", None)
        if find is not None and (found := find(name, path, target)) is not None:
            return found if isinstance(found, ModuleSpec) else None
    return None


def _around(loader: Any, before: Callable[[], None], after: Callable[[ModuleType], None]) -> None:
    execute = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        before()
        try:
            execute(module)
        finally:
            after(module)

    with contextlib.suppress(AttributeError):  # a loader without room for it
        loader.exec_module = exec_module
