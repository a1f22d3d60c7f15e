"""Files that a job finds and leaves on a machine that does not share the folder of results: they travel in pieces."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.recording.files import files_in, inside, remove, state_of
from parity.recording.lock import alone
from parity.recording.places import partial_path, put_in_place

PIECE = 8 << 20
"""The most bytes of a file that travel at once."""


@dataclass(frozen=True)
class Piece:
    """Bytes of a file: its path below the folder of results, and whether they are its first."""

    path: str
    data: bytes
    first: bool


def named(task: str, root: str) -> tuple[str, ...]:
    """The paths below the folder ``root`` that a task names, relative to it."""
    start = os.path.join(root, "")
    found = (text.removeprefix(start) for text in _texts(json.loads(task)) if text.startswith(start))
    return tuple(dict.fromkeys(path for path in found if path))


def moved(task: str, old: str, new: str) -> str:
    """A task whose paths below the folder ``old`` lie below ``new``."""
    start = os.path.join(old, "")

    def change(value: Any) -> Any:
        if isinstance(value, str):
            return os.path.join(new, value.removeprefix(start)) if value.startswith(start) else value
        if isinstance(value, list):
            return [change(one) for one in value]
        return {name: change(one) for name, one in value.items()} if isinstance(value, dict) else value

    return json.dumps(change(json.loads(task))) + "\n"


def states(root: Path, names: Iterable[str]) -> dict[str, object]:
    """What lies at these paths, each a file or a folder, and in what state, by path.

    Files beside them count too, but for hidden ones: a job of several floors names the first alone.
    """
    found: dict[str, object] = {}
    for path in (root / name for name in names):
        beside = (one for one in path.parent.iterdir() if one.is_file()) if path.parent.is_dir() else ()
        for one in (path, *sorted(beside)):
            if not one.name.startswith(".") and (state := state_of(one)):
                found[one.relative_to(root).as_posix()] = state
    return found


def changed(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What of ``states`` is new or has become another."""
    return [path for path, state in now.items() if before.get(path) != state]


def pieces(root: Path, paths: Iterable[str]) -> Iterator[Piece]:
    """All files of these, each a file or a folder; what is not there is left out."""
    for path in paths:
        for file in files_in(root / path):
            first = True
            with file.open("rb") as opened:
                while (data := opened.read(PIECE)) or first:
                    yield Piece(file.relative_to(root).as_posix(), data, first)
                    first = False


def put(root: Path, piece: Piece) -> None:
    """Write a piece below ``root``; ValueError for a path that leads out of it."""
    target = root / inside(piece.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb" if piece.first else "ab") as file:
        file.write(piece.data)


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A folder below ``root`` for what is not whole yet."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".brought-") as folder:
        os.chmod(folder, 0o700)
        yield Path(folder)


def settle(stage: Path, root: Path, names: Iterable[str]) -> None:
    """Move what has been brought to its place, whole: a reader sees the old file or folder, or the new one."""
    for name in states(stage, names):
        source, target = stage / name, root / name
        for file in files_in(source):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        with alone(target):
            put_in_place(source, target)
            remove(partial_path(target))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)
