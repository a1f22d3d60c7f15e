"""Modules and classes as they were imported: a job that puts something else in their places has changed its process.

Of an interpreter's modules, and of a framework's, the names are held: functions, their defaults, constants, what is
added to a class, hooks. What a framework puts in place itself, as torch does a step of its optimizers, is no job's
doing. Of the modules of a suite, and of the harness, the values themselves are held: see
``parity.running.workers.values``.
"""

from __future__ import annotations

import gc
import sys
import warnings
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from parity.running.workers.values import PLAIN, UNSAID, Words, words

HARNESS = __name__.partition(".")[0]
NOISE = frozenset(
    f"__{name}__"
    for name in ("abstractmethods", "annotations", "builtins", "cached", "doc", "file", "loader", "path", "slotnames")
) | {"__spec__", "__warningregistry__", "_abc_impl", "__annotations_cache__"}
"""Names that Python itself sets, and that change nothing that is computed."""
ALLOWED = frozenset({"sys", "signal", "threading", "gc", "__main__", "__mp_main__"})
"""Modules whose attributes are held one by one, or that are nobody's."""
_parts = attrgetter("__code__", "__defaults__", "__kwdefaults__")
Namespace = dict[str, Any]


class Held:
    """What the modules of this process hold, from the moment that each was imported.

    Args:
        own: Whether a source, by its path, is somebody's own and no interpreter's.
    """

    def __init__(self, own: Callable[[str], bool]) -> None:
        self._own = own
        # Apart from each other, so that all of them are compared at once: there are tens of thousands.
        self._labels: dict[int, str] = {}
        self._spaces: dict[int, Any] = {}
        self._befores: dict[int, Namespace] = {}
        self._functions: dict[FunctionType, str] = {}
        self._parts: dict[FunctionType, tuple[Any, ...]] = {}
        self._new: list[FunctionType] = []
        # What functions refer to, for each and for all of those that were held at once.
        self._chunks: list[tuple[list[FunctionType], list[list[Any]], list[Any]]] = []
        self._keywords: list[dict[str, Any]] = []
        self._kept_keywords: list[dict[str, Any]] = []
        self._hooks: dict[int, tuple[str, Any, list[Any]]] = {}
        self._modules: dict[str, ModuleType] = {}
        self._open: set[str] = set()
        self._importing = False
        self._values: dict[str, dict[str, Words]] = {}

    def hold(self, names: Iterable[str]) -> None:
        """Hold modules as they are now, by their names, but for those that are held already."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some classes warn when they are looked at
            for name in names:
                module = sys.modules.get(name)
                if name in self._modules or not isinstance(module, ModuleType) or name in ALLOWED:
                    continue
                if name.partition(".")[0] == HARNESS or self._mine(module):
                    self.hold_own(module)
                else:
                    self._modules[name] = module
                    self._hold_space(name, module)
        if self._new:
            functions, self._new = self._new, []
            referents = [gc.get_referents(function) for function in functions]
            self._chunks.append((functions, referents, list(chain.from_iterable(referents))))

    def note(self) -> None:
        """Note what is not as it was before an installed package is imported, which may itself change others.

        It may be put back before the job ends: until then it is held as it was.
        """
        self._open = {label for label, _ in self._changed_names(lambda label: False)}
        self._importing = True

    def hold_imported(self, names: Iterable[str]) -> None:
        """Hold modules that have just been imported, and what they have changed in others as it is now."""
        if self._importing:
            self._changed_names(lambda label: label not in self._open)
            self._importing = False
        self.hold(names)

    def hold_own(self, module: ModuleType) -> None:
        """Hold the values of a module of a suite's or of the harness's."""
        self._modules[module.__name__] = module
        self._values[module.__name__] = dict(_values(module))

    def changed(self) -> list[str]:
        """Name what is not as it was, a line each."""
        # So many objects are made here that their collection would take most of the time.
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._changed()
        finally:
            if collecting:
                gc.enable()

    def _changed(self) -> list[str]:
        found = [
            f"the module {name} was replaced"
            for name, module in self._modules.items()
            if name in self._values and sys.modules.get(name) is not module
        ]
        found += [f"{label} {how}" for label, how in self._changed_names(lambda label: True)]
        for name, values in list(self._values.items()):
            now_values = dict(_values(self._modules[name]))
            if now_values != values:
                found += [f"{name}.{attribute} {how}" for attribute, how in self._revalued(name, values, now_values)]
                self._values[name] = now_values
        return list(dict.fromkeys(found))

    def _changed_names(self, settled: Callable[[str], bool]) -> list[tuple[str, str]]:
        """What is not as it was in the modules of an interpreter, by label, and how.

        From now on it counts as it is now, if its label is settled.
        """
        found = list(self._changed_spaces(settled))
        found += [(label, "was changed") for label in self._changed_functions(settled)]
        for key, (label, hooks, before) in list(self._hooks.items()):
            if not _same_items(_items(hooks), before):
                found.append((label, "was changed"))
                if settled(label):
                    self._hooks[key] = label, hooks, _items(hooks)
        return found

    def _changed_spaces(self, settled: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
        before = list(self._befores.values())
        if _same(list(map(vars, self._spaces.values())), before):
            return

        @cache
        def known() -> set[int]:
            # Asked only where something has changed: each identity that is taken is an audit event as well.
            return {id(value) for names in before for value in names.values()}

        for key, space in list(self._spaces.items()):
            names, now = self._befores[key], dict(vars(space))
            if not _same(names, now):
                for name, how in list(self._parted(names, now, known, space)):
                    label = f"{self._labels[key]}.{name}"
                    yield label, how
                    if not settled(label):
                        if name in names:
                            now[name] = names[name]
                        else:
                            del now[name]
                self._befores[key] = now

    def _changed_functions(self, settled: Callable[[str], bool]) -> Iterator[str]:
        # Asking each function for its parts takes long, as each time an audit event tells of it.
        for functions, referents, flat in self._chunks:
            if _same(gc.get_referents(*functions), flat):
                continue
            for place, function in enumerate(functions):
                now = gc.get_referents(function)
                if not _same_items(now, referents[place]):
                    yield from self._changed_function(function, settled)
                    if settled(self._functions[function]):
                        referents[place] = now
            flat[:] = chain.from_iterable(referents)
        if not _same(self._keywords, self._kept_keywords):
            for function in self._functions:
                yield from self._changed_function(function, settled)
            if all(map(settled, self._functions.values())):
                self._kept_keywords = list(map(dict, self._keywords))

    def _changed_function(self, function: FunctionType, settled: Callable[[str], bool]) -> Iterator[str]:
        code, defaults, keywords = _parts(function)
        if not _same((code, defaults, keywords), self._parts[function]):
            label = self._functions[function]
            yield label
            if settled(label):
                self._parts[function] = code, defaults, keywords and dict(keywords)

    def _hold_space(self, label: str, space: Any) -> None:
        if id(space) in self._spaces:
            return
        names = dict(vars(space))
        self._spaces[id(space)], self._befores[id(space)], self._labels[id(space)] = space, names, label
        for name, value in names.items():
            for function in _functions(value):
                if function not in self._functions:
                    code, defaults, keywords = _parts(function)
                    self._functions[function] = f"{label}.{name}"
                    self._parts[function] = code, defaults, keywords and dict(keywords)
                    self._new.append(function)
                    if keywords:
                        self._keywords.append(keywords)
                        self._kept_keywords.append(dict(keywords))
            if isinstance(value, type) and id(value) not in self._spaces and isinstance(space, ModuleType):
                if not self._mine(sys.modules.get(str(value.__module__))):
                    self._hold_space(f"{value.__module__}.{value.__qualname__}", value)
            elif "hook" in name and isinstance(value, dict | list):
                self._hooks[id(value)] = f"{label}.{name}", value, _items(value)

    def _parted(
        self, before: Namespace, now: Namespace, known: Callable[[], set[int]], space: Any
    ) -> Iterator[tuple[str, str]]:
        """The names in a module or a class of an interpreter's that a job has given another meaning."""
        nothing, of_class = object(), isinstance(space, type)
        # A class of another kind may fill itself, as one of protobuf does with the values of its enumerations.
        fills_itself = of_class and type(space) not in (type, ABCMeta)
        for name in (*before, *(name for name in now if name not in before)):
            old, new = before.get(name, nothing), now.get(name, nothing)
            if old is new or name in NOISE or isinstance(new, ModuleType) or isinstance(old, ModuleType):
                continue
            public = not name.startswith("_")
            if old is nothing:
                if self._strange(new, known, of_class) or (public and _plain(new) and not fills_itself):
                    yield name, "was added"
            elif new is nothing:
                if public and (callable(old) or _plain(old)):
                    yield name, "was taken away"
            elif callable(old) or _functions(old) or (old is not None and _functions(new)):
                if not self._belongs(new, known):
                    yield name, "was replaced"
            elif "hook" in name or (public and _plain(old)):
                # A class of a framework's may number its objects. A name without a value is filled in as it is needed.
                counts = of_class and type(old) is type(new) is int and new > old
                if not counts and not _equal(old, new):
                    yield name, "was replaced"

    def _belongs(self, value: Any, known: Callable[[], set[int]]) -> bool:
        """Whether something in another's place was put there by those who wrote that: it is theirs, and new."""
        functions = _functions(value)
        if functions and not all(self._theirs(function) for function in functions):
            return False
        if id(value) in known():
            return False
        return bool(functions) or (isinstance(value, type) and not self._mine(sys.modules.get(str(value.__module__))))

    def _strange(self, value: Any, known: Callable[[], set[int]], to_class: bool) -> bool:
        """Whether something that was added is none of an interpreter's, or a known function at another place."""
        functions = _functions(value)
        if functions:
            return not all(self._theirs(function) for function in functions) or (to_class and id(value) in known())
        if isinstance(value, type):
            return self._mine(sys.modules.get(str(value.__module__)))
        return to_class and (isinstance(value, BuiltinFunctionType) or (callable(value) and id(value) in known()))

    def _theirs(self, function: FunctionType) -> bool:
        file = function.__code__.co_filename
        return not file.startswith("<") and not self._own(file)

    def _mine(self, module: Any) -> bool:
        file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
        return isinstance(file, str) and self._own(file)

    def _revalued(self, module: str, before: dict[str, Words], now: dict[str, Words]) -> Iterator[tuple[str, str]]:
        space = vars(self._modules[module])
        for name in (*before, *(name for name in now if name not in before)):
            if name not in now:
                yield name, "was taken away"
            elif name not in before:
                # What the harness loads late is its own.
                if not (
                    module.startswith(HARNESS) and str(getattr(_at(space, name), "__module__", "")).startswith(HARNESS)
                ):
                    yield name, "was added"
            elif before[name] != now[name]:
                yield name, "was replaced" if callable(_at(space, name)) else "was changed"


def _at(space: dict[str, Any], name: str) -> Any:
    first, _, rest = name.partition(".")
    return vars(space[first]).get(rest) if rest else space.get(first)


def _values(module: ModuleType) -> Iterator[tuple[str, Words]]:
    """The values of a module, and of the classes that it defines, in words.

    Of what the harness keeps for itself plain values and functions alone: it notes there what a worker does.
    """
    home = module.__name__
    harness = home.partition(".")[0] == HARNESS

    def named(names: Any, before: str) -> Iterator[tuple[str, Words]]:
        for name, value in list(names.items()):
            if name in NOISE or name in UNSAID or isinstance(value, ModuleType):
                continue
            whole = before + name
            private = harness and any(part.startswith("_") for part in whole.split(".")) and not name.endswith("__")
            if private and not (_plain(value) or isinstance(value, FunctionType | type)):
                continue
            yield whole, words(value, home)
            if isinstance(value, type) and value.__module__ == home and not before:
                yield from named(vars(value), f"{name}.")

    yield from named(vars(module), "")


def _functions(value: Any) -> list[FunctionType]:
    """The functions of Python's that an attribute consists of."""
    kind = type(value)
    if kind is FunctionType:
        return [value]
    inside = _INSIDE.get(kind.__name__)
    if inside is None:
        return []
    found = [getattr(value, name, None) for name in inside]
    return [one for one in found if isinstance(one, FunctionType)]


_INSIDE = {
    "staticmethod": ("__func__",),
    "classmethod": ("__func__",),
    "property": ("fget", "fset"),
    "_ArrayFunctionDispatcher": ("__wrapped__",),  # NumPy's
}
"""Where attributes of other kinds than a function keep functions."""


def _items(hooks: Any) -> list[Any]:
    return list(hooks.values()) if isinstance(hooks, dict) else list(hooks)


def _same_items(one: list[Any], other: list[Any]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))


def _same(before: Any, now: Any) -> bool:
    """Whether names have the same values, as far as it can be said at once."""
    try:
        return bool(before == now)
    except Exception:
        return False


def _plain(value: Any) -> bool:
    return isinstance(value, PLAIN)


def _equal(one: Any, other: Any) -> bool:
    return type(one) is type(other) and (one == other or repr(one) == repr(other))
