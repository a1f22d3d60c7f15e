"""The value of something that a module holds, in words that are equal as long as nobody has changed it."""

from __future__ import annotations

import itertools
import marshal
import random
import sys
import zlib
from collections import deque
from collections.abc import Callable
from functools import cache
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from parity.running.reading.reads import own

PLAIN = (bool, int, float, complex, str, bytes)
DEEP = 20
"""Values are looked into so deep; what lies deeper counts as the object that it is."""
Words = Any
"""What can be compared with ``==``."""
LONG = 256
"""Values of more bytes count by their checksum."""
_ATOMS = frozenset({bool, int, str})
_OPAQUE = frozenset({ModuleType, BuiltinFunctionType, CodeType, MethodWrapperType, WrapperDescriptorType})
_CONTAINERS = frozenset({float, complex, bytes, bytearray, tuple, list, set, frozenset, dict})
UNSAID = frozenset({"__dict__", "__weakref__", "__doc__", "__module__", "_abc_impl", "__abstractmethods__"})


class Same:
    """An object by its identity. It is kept, so that no other gets its place."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def words(value: Any, home: str = "", depth: int = 0) -> Words:
    """Say what a value is, and what is in it.

    Containers, arrays, random generators, functions with their defaults, and objects of classes that the suites define
    are looked into; so are the parameters of models. Any other object is the one that it is.

    Args:
        value: The value.
        home: The module that holds it. A function that another module has defined is looked into there.
        depth: How deep in another value it lies.

    Returns:
        What is equal to the words of a later moment where nothing has changed.
    """
    kind = type(value)
    if value is None or kind in _ATOMS:
        return kind, value
    if depth > DEEP:
        return Same(value)
    if kind is FunctionType:
        return _of_function(value, home, depth) if value.__module__ == home else Same(value)
    if isinstance(value, type):
        return Same(value)
    if kind in _OPAQUE:
        return Same(value)
    if kind in _CONTAINERS:
        try:
            return kind, _short(marshal.dumps(value, 2))
        except (ValueError, TypeError):
            pass  # it holds something that is not plain
    if isinstance(value, list | tuple | deque | set | frozenset):
        return kind, tuple([words(one, home, depth + 1) for one in value])
    if isinstance(value, dict):
        return kind, tuple([(words(key, home, depth + 1), words(one, home, depth + 1)) for key, one in value.items()])
    if isinstance(value, staticmethod | classmethod):
        return kind, words(value.__func__, home, depth)
    if isinstance(value, property):
        return kind, words(value.fget, home, depth), words(value.fset, home, depth)
    return _of_object(value, home, depth)


def _short(data: bytes) -> Any:
    return data if len(data) <= LONG else (len(data), zlib.crc32(data))


def _of_function(value: FunctionType, home: str, depth: int) -> Words:
    # What a decorator of the standard library has written is its class's.
    cells = () if value.__code__.co_filename.startswith("<") else value.__closure__ or ()
    inside = {name: one for name, one in vars(value).items() if name != "__wrapped__"}
    if not cells and not inside and not value.__defaults__ and not value.__kwdefaults__:
        return Same(value), Same(value.__code__)
    closure = tuple([_cell(cell, home, depth) for cell in cells])
    parts = value.__defaults__, value.__kwdefaults__, inside
    return Same(value), Same(value.__code__), closure, words(parts, home, depth + 1)


def _cell(cell: Any, home: str, depth: int) -> Words:
    try:
        return words(cell.cell_contents, home, depth + 1)
    except ValueError:  # it is empty
        return None


def _of_object(value: Any, home: str, depth: int) -> Words:
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray) and not value.dtype.hasobject:
            return value.dtype.str, value.shape, zlib.crc32(value.tobytes())
        if isinstance(value, numpy.random.Generator):
            return Same(value), words(value.bit_generator.state, home, depth + 1)
        if isinstance(value, numpy.random.RandomState):
            return Same(value), words(value.get_state(legacy=False), home, depth + 1)
    if isinstance(value, random.Random):
        return Same(value), words(value.getstate(), home, depth + 1)
    if isinstance(value, itertools.count):
        return Same(value), repr(value)
    for way in ("state_dict", "get_weights"):
        if callable(getattr(type(value), way, None)):
            return Same(value), _asked(getattr(value, way), home, depth)
    if callable(getattr(type(value), "numpy", None)):
        if callable(getattr(type(value), "detach", None)):
            return Same(value), _asked(lambda: value.detach().cpu().double().numpy(), home, depth)
        if callable(getattr(type(value), "assign", None)):
            return Same(value), _asked(value.numpy, home, depth)
    if _looked_into(type(value)):
        slots = (name for kind in type(value).__mro__ for name in _slots(kind))
        inside = {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(
            getattr(value, "__dict__", {})
        )
        return Same(value), words(inside, home, depth + 1)
    return Same(value)


def _asked(tell: Callable[[], Any], home: str, depth: int) -> Words:
    """What a framework's object says that it holds; that it says nothing, where it does not."""
    try:
        return words(tell(), home, depth + 1)
    except Exception as error:
        return type(error)


def _slots(kind: type) -> tuple[str, ...]:
    found = vars(kind).get("__slots__", ())
    return (found,) if isinstance(found, str) else tuple(found)


def _looked_into(kind: type) -> bool:
    """Whether a class is one of a suite's or of the harness's: what others keep in their objects is theirs."""
    module = sys.modules.get(str(kind.__module__))
    file = getattr(module, "__file__", None)
    if not isinstance(file, str):
        return False
    return _own(file)


_own = cache(own)
