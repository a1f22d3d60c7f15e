"""What a run has read beside what its key covers, and whether that is as it was: files and variables, as hashes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from parity.running.packages import Reach

LIMIT = 5000
"""A run that depends on more files and variables is never kept."""
ABSENT = "absent"
CHANGING = "changed meanwhile"


def fresh(depends: Any, variables: Mapping[str, str], folders: Sequence[str]) -> bool:
    """Whether all that a run depended on is as it was.

    ``depends`` is what ``parity.running.reads.Reads.of`` gave, or whatever stands in its place in a recording;
    ``variables`` are those that a worker would have, ``folders`` those in which it would look for a file.
    """
    if not isinstance(depends, dict):
        return False
    files, asked = depends.get("files"), depends.get("variables")
    if not isinstance(files, dict) or not isinstance(asked, dict) or len(files) + len(asked) > LIMIT:
        return False
    same = (hash_of(variables.get(name)) == known for name, known in asked.items())
    return all(same) and all(content(find(name, folders)) == known for name, known in files.items())


def content(path: str) -> str:
    """A hash of a file's content, or of the names in a folder; read once for each state that it is in."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter for a zero byte
        return ABSENT
    if stat.S_ISDIR(found.st_mode):
        return _listed(path)
    if not stat.S_ISREG(found.st_mode):
        return "no file"
    return _content(path, found.st_mtime_ns, found.st_size, found.st_ino)


@cache
def _content(path: str, *state: int) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError:
        return ABSENT


def _listed(folder: str) -> str:
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith((".", "__pycache__")))
    except OSError:
        return ABSENT
    return hash_of("\0".join(names))


def hash_of(value: str | None) -> str:
    """A hash of a variable's value, which may be a secret."""
    return ABSENT if value is None else hashlib.sha256(value.encode(errors="surrogateescape")).hexdigest()[:32]


def searched(reach: Reach) -> tuple[str, ...]:
    """The folders in which a worker looks for what is its suite's, the same on the way there and back."""
    beside = (os.path.dirname(folder) for folder in reach.packages.values())
    return tuple(dict.fromkeys(os.path.realpath(folder) for folder in (*beside, *reach.folders)))


def name_of(path: str, folders: Sequence[str]) -> str:
    """A file's path below one of the folders, or below the user's own, which holds on other machines; else as it is."""
    for folder, start in (*((folder, "") for folder in folders), (os.path.expanduser("~"), "~/")):
        name = start + path.removeprefix(os.path.join(folder, ""))
        if path.startswith(os.path.join(folder, "")) and find(name, folders) == path:
            return name
    return path


def find(name: str, folders: Sequence[str]) -> str:
    """Where a file of that name is now: in the first of the folders that has it, or would be in the first."""
    places = [os.path.join(folder, name) for folder in folders] if not name.startswith("~/") else []
    return next((place for place in places if os.path.exists(place)), (*places, os.path.expanduser(name))[0])
