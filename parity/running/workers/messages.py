"""What travels between this process and a worker: a message a line, as JSON, every record of it under its type's name.

A record is a frozen dataclass whose fields hold numbers, texts, None, other records, members of enumerations, tuples of
these, and dicts of plain JSON. It comes out as it went in.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

from parity.running.executor import Job, Progress

TYPE = "__type__"
"""Under this key an object of JSON has the name of the record that it is, beside the record's fields."""


@dataclass(frozen=True)
class Task:
    """A job, and the number under which it is answered."""

    id: int
    job: Job[Any]


@dataclass(frozen=True)
class Told:
    """How far the job of that number is."""

    id: int
    progress: Progress


@dataclass(frozen=True)
class Done:
    """The job of that number has ended, with this result, and left its process changed: a line for each change."""

    id: int
    result: Any
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """The job of that number has failed: why, in a line, and the traceback; and left its process changed, or not.

    ``full``: a disk of its machine had no room left.
    """

    id: int
    message: str
    trace: str
    changed: tuple[str, ...] = ()
    full: bool = False


Answer = Told | Done | Failed


def write(message: Task | Answer) -> str:
    """A message as one line of JSON; TypeError for what cannot travel."""
    return json.dumps(plain(message)) + "\n"


def read(line: str) -> Any:
    """The message that ``write`` made a line of; ValueError for what is none.

    Every text in it can be written anywhere: whatever a worker says, no more than its own job can be lost for it.
    """
    try:
        return record(encodable(json.loads(line)))
    except (ImportError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{line[:80].strip()!r} is no message of ours: {error}") from error


def is_last(line: str) -> bool:
    """Whether a worker answers no more of a job after this line, which does not just say how far the job is."""
    return not line.startswith(_TOLD)


def plain(value: Any) -> Any:
    """A value as JSON has it; TypeError for what cannot travel."""
    if isinstance(value, Enum):
        return {TYPE: _name(value), "value": value.value}
    if is_dataclass(value) and not isinstance(value, type):
        return {TYPE: _name(value)} | {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, Path):
        raise TypeError(f"{value}: a path travels as text")
    return value


def record(value: Any) -> Any:
    """What ``plain`` was given; lists come back as tuples but for those within plain JSON."""
    if isinstance(value, list):
        return tuple(record(one) for one in value)
    if not isinstance(value, dict) or TYPE not in value:
        return value
    kind = _type(value[TYPE])
    return kind(**{name: record(one) for name, one in value.items() if name != TYPE})


def encodable(value: Any) -> Any:
    """A value of JSON whose texts can all be encoded: half a surrogate pair is written out."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, list):
        return [encodable(one) for one in value]
    if isinstance(value, dict):
        return {encodable(name): encodable(one) for name, one in value.items()}
    return value


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


_TOLD = json.dumps({TYPE: _name(Told(0, Progress()))}).removesuffix("}")


def _type(name: str) -> Any:
    module, _, qualified = name.partition(":")
    kind: Any = import_module(module)
    for part in qualified.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, Enum))):
        raise ValueError(f"{name} is no record")
    return kind
