"""What a run has read beside what its key covers, and whether that is as it was: files and variables, as hashes."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parity.recording.files import reopened
from parity.recording.limits import Budget, LimitError
from parity.running.packages import Reach
from parity.trajectory import TrajectoryError

LIMIT = 5000
"""A run that depends on more files and variables is never kept."""
ABSENT = "absent"
CHANGING = "changed meanwhile"
SYSTEM = ("/proc/", "/sys/", "/dev/")
"""What lies there is no file of anyone's: no run depends on it, and reading it may wait for ever."""
BLOCK = 1 << 20
ALL = "*"
"""In the place of a variable's name: all of them."""
UNSTEADY = frozenset({"_", "COLUMNS", "LC_CTYPE", "LINES", "OLDPWD", "PWD", "PYTEST_CURRENT_TEST", "SHLVL"})
"""Variables that a shell, a terminal or Python itself sets anew for each process: whoever reads all depends on none."""
KIND, LINK = "/.", "/@"
"""After a path: of what kind it is and of what size, and where it leads, in the place of its content."""


def fresh(
    depends: Any,
    variables: Mapping[str, str],
    folders: Sequence[str],
    known: dict[str, str] | None = None,
    budget: Budget | None = None,
) -> bool:
    """Whether all that a run depended on is as it was.

    ``depends`` is what ``parity.running.reading.reads.Reads.of`` gave, or whatever stands in its place in a recording;
    ``variables`` are those that a worker would have, ``folders`` those in which it would look for a file. ``known``
    keeps what files are like for the next run that is asked about at the same moment and in the same folders.
    ``budget`` is what reading the files may take: a run that depends on more is made again.
    """
    if not isinstance(depends, dict):
        return False
    files, asked = depends.get("files"), depends.get("variables")
    if not isinstance(files, dict) or not isinstance(asked, dict) or len(files) + len(asked) > LIMIT:
        return False
    if any(
        hash_of(everything(variables) if name == ALL else variables.get(name)) != was for name, was in asked.items()
    ):
        return False
    known = {} if known is None else known
    budget = budget or Budget()
    try:
        with budget.reading():
            for name, was in files.items():
                if name not in known:
                    path = find(name, folders)
                    if _leads(path).startswith(SYSTEM):
                        return False
                    known[name] = content(path, budget)
                if known[name] != was:
                    return False
    except LimitError:
        return False
    return True


def everything(variables: Mapping[str, str]) -> str:
    """All variables in one word, but for those that no two processes share."""
    return "\0".join(f"{name}={value}" for name, value in sorted(variables.items()) if name not in UNSTEADY)


def _leads(path: str) -> str:
    """The file that a path leads to."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # the latter for a zero byte
        return path


def content(path: str, budget: Budget | None = None) -> str:
    """A hash of a file's content, or of the names in a folder; read once for each state that it is in.

    After a path ``KIND`` and ``LINK`` ask for something else of it. LimitError if a ``budget`` is given and the file is
    more than is left of it.
    """
    if path.endswith((KIND, LINK)):
        return _kind(path.removesuffix(KIND)) if path.endswith(KIND) else _link(path.removesuffix(LINK))
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # the latter for a zero byte
        return ABSENT
    if stat.S_ISDIR(found.st_mode):
        return _listed(path)
    if not stat.S_ISREG(found.st_mode):
        return "no file"
    # However the file is called, as by several links.
    state = found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
    if state not in _HASHES:
        if budget is not None:
            budget.spend(Path(path), size=found.st_size)
        try:
            _HASHES[state] = _hashed(path, found.st_size, budget)
        except (OSError, TrajectoryError) as error:
            if isinstance(error, LimitError):
                raise
            return ABSENT
    return _HASHES[state]


_HASHES: dict[tuple[int, ...], str] = {}
"""Of each file that was read, in the state that it was in."""


def _hashed(path: str, size: int, budget: Budget | None) -> str:
    digest = hashlib.sha256()
    with reopened(Path(os.path.realpath(path))) as file:
        # Where the budget counts its size, no more of a file is read that grows meanwhile.
        while block := file.read(BLOCK):
            digest.update(block)
            if budget is not None:
                budget.spend(Path(path), size=max(0, file.tell() - size))
    return digest.hexdigest()[:32]


def _kind(path: str) -> str:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return ABSENT
    return f"{found.st_size} bytes" if stat.S_ISREG(found.st_mode) else f"kind {stat.S_IFMT(found.st_mode):o}"


def _link(path: str) -> str:
    try:
        if os.path.lexists(path):
            there = os.path.realpath(path)
            return hash_of(there) if there != os.path.abspath(path) else "no link"
    except (OSError, ValueError):
        pass  # what cannot be followed is not there
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


def plain(path: str) -> str:
    """A path without what is asked of it."""
    return path.removesuffix(KIND).removesuffix(LINK)


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
    return next((one for one in places if os.path.exists(plain(one))), (*places, os.path.expanduser(name))[0])
