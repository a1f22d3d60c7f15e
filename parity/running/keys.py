"""What a recorded run or a noise floor depends on, as a hash: under the same key it need not be made again."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import Enum
from functools import cache, partial
from pathlib import Path
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from parity import __version__
from parity.recording.format import batch_order_hash
from parity.rules import said_fields
from parity.spec import Case
from parity.suite import Entry, Suite, SuiteError

ROOMS = (".", "judging", "nn", "recording", "running", "trainers", "watching")
"""The rooms of the harness that a run depends on, whole: a worker imports no module of another to record one."""
ORDERED_EPOCHS = 2
"""So many epochs' batch order is part of a key: in the second a schedule shows whether it shuffles again."""
GRID_BITS = 30
"""The bits to which floats count in the mark of a shipped noise floor, below the largest of an array."""


def harness() -> list[Path]:
    """The sources of the harness's part in training."""
    root = Path(__file__).parent.parent
    return [path for room in ROOMS for path in sorted((root / room).glob("*.py" if room == "." else "**/*.py"))]


@cache
def harness_code(*paths: Path) -> str:
    """A hash of the sources that a run's result depends on: the harness's part in training, and the given files."""
    digest = hashlib.sha256(__version__.encode())
    for path in (*harness(), *paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(case: Case, epochs: int, exact: bool = True) -> str:
    """What a run of the case depends on beside code and versions, as a SHA-256 in hexadecimal.

    A schedule counts by what it says and by the order that it gives the first epochs. SuiteError where data cannot be
    had, or where something of the case has no words for its value.

    ``exact`` covers every byte of the data and of the initial parameters. Without it they count as ``steady`` gives
    them, which is the same on machines whose sine differs in the last bit.
    """
    digest = hashlib.sha256()
    try:
        data = case.data()
    except (OSError, ValueError) as error:
        raise SuiteError(f"the data of {case.name}: {error}") from error
    arrays = {"x": data.x, "y": data.y, "x_test": data.x_test, "y_test": data.y_test, **case.initial()}
    for name, array in arrays.items():
        if array is None:
            continue
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data if exact else steady(array))
    parts = tuple(hyper_parameters(case).values())
    order = _order(case, len(data.x), min(epochs, ORDERED_EPOCHS))
    digest.update(repr((case.name, *parts, order, case.every, epochs)).encode())
    if case.buffers:
        digest.update(repr(case.buffers).encode())
    if case.metrics:  # a noise floor holds theirs, too
        digest.update(repr([(metric.name, metric.split) for metric in case.metrics]).encode())
    return digest.hexdigest()


def _order(case: Case, rows: int, epochs: int) -> str:
    """A hash of the first epochs' batch order; SuiteError where the schedule gives none."""
    try:
        return batch_order_hash(case.schedule, rows, epochs)
    except ValueError as error:
        raise SuiteError(f"the batch order of {case.name}: {error}") from error


def steady(array: np.ndarray[Any, Any]) -> bytes:
    """An array's values, in their order, as bytes that are the same on every machine.

    Whole numbers are taken as they are. Floats are rounded to a grid of ``GRID_BITS`` below their largest: draws, sines
    and logarithms come from a platform's mathematical library and may differ in the last of 53 bits, which crosses a
    boundary of the grid once in some 10⁷ such values. Whatever moves a value by 2e-9 of the largest is seen.
    """
    if array.dtype.kind != "f":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    values = array.astype(np.float64)
    finite = np.isfinite(values)
    _, exponent = np.frexp(np.max(np.abs(values), where=finite, initial=0.0))
    rounded = np.rint(np.ldexp(np.where(finite, values, 0.0), GRID_BITS - exponent)) + 0.0  # -0.0 becomes 0.0
    rounded = np.where(finite, rounded, np.where(np.isnan(values), np.nan, values))
    return str(exponent).encode() + rounded.astype("<f8").tobytes()


def hyper_parameters(case: Case) -> dict[str, str]:
    """Loss, optimizer and schedule in words, as ``said`` has them."""
    return {part: said(getattr(case, part), f"the {part} of {case.name}") for part in ("loss", "optimizer", "schedule")}


def said(value: Any, what: str) -> str:
    """A value in words that mean it in every process: of a record of plain values they are its ``repr``.

    Of any other object they are its class's name and its public attributes. SuiteError where ``what`` holds something
    that has no such words, as a lambda and a random generator have none.
    """
    try:
        return _said(value)
    except (ValueError, RecursionError) as error:
        kind = type(value).__qualname__
        raise SuiteError(
            f"{what}, a {kind}, cannot be told from another: {error}; make it a dataclass of plain values"
        ) from error


def _said(value: Any) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | range | slice | np.generic):
        return repr(value)
    if isinstance(value, Path | np.dtype):
        return f"{type(value).__qualname__}({str(value)!r})"
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise ValueError("it holds an array of objects")
        data = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        return f"array({value.dtype}, {value.shape}, {data})"
    if isinstance(value, tuple):
        return f"({', '.join(map(_said, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_said, value))}]"
    if isinstance(value, set | frozenset):
        return f"{type(value).__qualname__}({', '.join(sorted(map(_said, value)))})"
    if isinstance(value, dict):
        pairs = sorted(f"{_said(key)}: {_said(one)}" for key, one in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, partial):
        return f"partial({_said(value.func)}, {_said(value.args)}, {_said(value.keywords)})"
    if isinstance(value, type | FunctionType | BuiltinFunctionType):
        if "<" in value.__qualname__:
            raise ValueError(f"it holds {value.__qualname__}, and a function is known by its name alone")
        return f"{value.__module__}.{value.__qualname__}"
    parts = ", ".join(f"{name}={_said(one)}" for name, one in _parts(value))
    return f"{type(value).__qualname__}({parts})"


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a record, or an object's public attributes; ValueError where it can have none."""
    if is_dataclass(value):
        yield from said_fields(value).items()
        return
    # What is copied in a way of its own, as a generator is, has more to it than its attributes.
    own = any(getattr(type(value), way) is not getattr(object, way) for way in ("__reduce__", "__getstate__"))
    slots = [name for kind in type(value).__mro__ for name in _slots(kind)]
    if own or not (hasattr(value, "__dict__") or slots):
        raise ValueError(
            f"it holds a {type(value).__module__}.{type(value).__qualname__}, which says nothing of itself"
        )
    names = {
        name for name in (*getattr(value, "__dict__", ()), *slots) if not name.startswith("_") and hasattr(value, name)
    }
    yield from ((name, getattr(value, name)) for name in sorted(names))


def _slots(kind: type) -> tuple[str, ...]:
    found = vars(kind).get("__slots__", ())
    return (found,) if isinstance(found, str) else tuple(found)


def mark(suite: Suite, entry: Entry, epochs: int) -> str:
    """What a noise floor of the case bears: a hash of what it is measured on, with the reference's own code.

    That is every value of the data and of the initial parameters, at its place, and the order of all batches. It is not
    the harness's part in a floor, ``parity.tolerance`` and the trainer: whoever changes how floors are measured calls
    'parity floor --fresh'. What is shipped must fit on other machines: there values are taken as ``steady`` gives them.
    """
    shipped = suite.floors is not None and entry.file is None
    digest = hashlib.sha256(fingerprint(entry.case, epochs, exact=not shipped).encode())
    digest.update(_order(entry.case, len(entry.case.data().x), epochs).encode())
    for path in entry.sources(suite.reference) if suite.reference in entry.implementations else ():
        # The spec counts by what it says, in the fingerprint.
        if path != entry.spec and path.name != "__init__.py":
            digest.update(source_code(path.read_bytes()))
    return digest.hexdigest()


def source_code(source: bytes) -> bytes:
    """What a source says to the interpreter: without comments, docstrings and layout, in every version of Python alike.

    As it stands where it is no Python.
    """

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            texts = [isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in node]
            return [plain(one) for one, text in zip(node, texts, strict=True) if not text]
        if not isinstance(node, ast.AST):
            return node
        # Versions differ in which empty fields they have.
        return type(node).__name__, [(k, plain(v)) for k, v in ast.iter_fields(node) if v is not None and v != []]

    try:
        return repr(plain(ast.parse(source))).encode()
    except (SyntaxError, ValueError, RecursionError):  # no Python, or more deeply nested than a function can go
        return source
