"""What a suite's code reads in a worker: every file that it opens and every variable that it asks for.

Each belongs to the source that asked: what is read once, at an import or for a cache, belongs to every later run that
uses that source. A run depends on the sources that its implementation imports, directly or not, and on all that these
have read.

What belongs to an interpreter is left out, the harness too, which every key has whole. Of an installed package that a
source imports the file that names its version counts. What no Python code reads, as a framework's own reader of files,
is not seen.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from parity.running.dependencies import ABSENT, CHANGING, SYSTEM, content, fresh, hash_of, name_of, searched
from parity.running.installed import about
from parity.running.keys import harness
from parity.running.packages import Reach

_INTERPRETER = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_ARCHIVES = {os.path.realpath(entry) for entry in sys.path if entry.endswith(".zip")}
_STANDARD = os.path.join(sysconfig.get_paths()["stdlib"], "")


class Reads:
    """What the code of suites reads in this process, from the moment that this is made."""

    def __init__(self, reach: Reach) -> None:
        self._packages = tuple(os.path.join(os.path.realpath(folder), "") for folder in reach.packages.values())
        self._folders = searched(reach)
        self._owners: dict[str, str | None] = {}
        self._files: dict[str, set[str]] = defaultdict(set)
        self._variables: dict[str, dict[str, str]] = defaultdict(dict)
        self._hashes: dict[str, str] = {}
        self._written: set[str] = set()
        self._set: set[str] = set()
        self._busy = threading.local()
        _Environ.reads = self
        os.environ.__class__ = _Environ
        sys.addaudithook(self._hear)

    def of(self, sources: Iterable[Path]) -> dict[str, Any]:
        """What the code in these files, and in all that they import, has read until now: see ``fresh``."""
        modules = self._own_modules()
        found = self._closure((str(path) for path in sources), *modules)
        paths = found | {path for source in found for path in tuple(self._files[source])}
        files: dict[str, str] = {}
        variables: dict[str, str] = {}
        for path in paths - self._written:
            # What a run itself makes, or takes away, is not what it depends on.
            if self._counts(path) and (os.path.exists(path) or self._hash(path) in (ABSENT, CHANGING)):
                files[name_of(path, self._folders)] = self._hash(path)
        for path in self._installed(found, modules[1]):
            files[name_of(path, self._folders)] = self._hash(path)
        for source in found:
            variables |= self._variables[source]
        return {"files": dict(sorted(files.items())), "variables": dict(sorted(variables.items()))}

    def unchanged(self, depends: Any) -> bool:
        """Whether all that a run depended on is as it was, for a job of this process: see ``fresh``."""
        return fresh(depends, dict(os.environ), self._folders)

    def _closure(
        self, sources: Iterable[str], by_name: Mapping[str, str], by_path: Mapping[str, ModuleType]
    ) -> set[str]:
        """Every file of ours that the code in some files imports or loads, directly or not."""
        found: set[str] = set()
        new = {os.path.realpath(source) for source in sources}
        while new:
            found |= new
            reached: set[str] = set()
            for path in new:
                module = by_path.get(path)
                names = _imported(path, module) if module is not None else ()
                reached |= {by_name[name] for name in names if name in by_name}
                reached |= {one for one in tuple(self._files[path]) if one in by_path}
            new = {path for path in reached if self._counts(path)} - found
        return found

    def _own_modules(self) -> tuple[dict[str, str], dict[str, ModuleType]]:
        """The sources of the loaded modules that are somebody's own, by module, and the modules by source."""
        by_name: dict[str, str] = {}
        by_path: dict[str, ModuleType] = {}
        for name, module in list(sys.modules.items()):
            file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
            if isinstance(file, str) and not self._foreign(file):
                by_name[name] = _real(file)
                by_path[_real(file)] = module
        return by_name, by_path

    def _installed(self, sources: Iterable[str], by_path: Mapping[str, ModuleType]) -> set[str]:
        """The files that name the versions of the packages which these sources import."""
        modules = {path: by_path[path] for path in sources if path in by_path}
        names = {name for path, module in modules.items() for name in _imported(path, module) if "." not in name}
        files = {name: vars(sys.modules[name]).get("__file__") for name in names if name in sys.modules}
        found = {about(name) for name, file in files.items() if isinstance(file, str) and self._foreign(file)}
        return {path for path in found if path is not None}

    def _foreign(self, path: str) -> bool:
        """Whether a path, as it stands, is an interpreter's: nearly all that a framework opens, and quickly told."""
        if not path.startswith(_INTERPRETER) and f"{os.sep}site-packages{os.sep}" not in path:
            return False
        return not path.startswith(self._packages)

    def _counts(self, path: str) -> bool:
        """Whether a file is somebody's own: none of an interpreter's, nor of the harness's that every key has."""
        if path.startswith(SYSTEM) or path in _harness() or path in _ARCHIVES:
            return False
        if path.startswith(self._packages):
            return True
        return not (path.startswith(_INTERPRETER) or f"{os.sep}site-packages{os.sep}" in path)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self._note(event, arguments, sys._getframe(1))
        except (OSError, ValueError):
            pass  # what has no path that can be followed cannot be opened either
        finally:
            self._busy.now = False

    def _note(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        if event == "subprocess.Popen":
            paths = [one for one in arguments[1] if isinstance(one, str | bytes | os.PathLike)]
        else:
            path = arguments[1 if event == "import" else 0]
            if path is None or (isinstance(path, str) and self._foreign(path)):
                return
            paths = [path]
        if frame.f_code.co_filename.startswith(("<frozen importlib", "<frozen zipimport")) and event != "open":
            return
        listed = event in ("os.listdir", "os.scandir")
        for path in paths:
            if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
                continue
            target = os.path.realpath(os.fsdecode(path))
            if event == "open" and _writes(arguments[1], arguments[2]):
                self._written.add(target)
                continue
            opener = self._direct(frame) if listed else self._opener(frame)
            target = target + os.sep if listed else _of_source(target)
            if opener is not None and _worth(target, event):
                self._files[opener].add(target)
            if (opener is not None or target.endswith(".py")) and self._counts(target):
                self._hash(target)

    def asked(self, name: str, frame: FrameType | None) -> None:
        """A variable is asked for: noted where the suite's own code asks, not where a framework does."""
        while frame is not None and frame.f_code.co_filename in _BETWEEN:
            frame = frame.f_back
        asker = None if frame is None else self._owner(frame)
        if asker is not None and name not in self._set:
            self._variables[asker].setdefault(name, hash_of(_plain(name)))

    def gives(self, name: str) -> None:
        """A variable is set by this process itself: it then depends on it no more."""
        self._set.add(name)

    def _opener(self, frame: FrameType | None) -> str | None:
        """The innermost source of the suite's on the way to where something is read."""
        while frame is not None:
            owner = self._owner(frame)
            if owner is not None:
                return owner
            frame = frame.f_back
        return None

    def _direct(self, frame: FrameType | None) -> str | None:
        """The source of the suite's own that looks through a folder, and has no other package do so."""
        while frame is not None and frame.f_code.co_filename.startswith((_STANDARD, "<frozen")):
            frame = frame.f_back
        return None if frame is None else self._owner(frame)

    def _owner(self, frame: FrameType) -> str | None:
        """The file of the suite's own whose code runs there, if it is one."""
        file = frame.f_code.co_filename
        if file not in self._owners:
            # What has no file of its own is called <frozen os>, <string> and the like.
            path = os.path.realpath(file) if os.path.isabs(file) else ""
            self._owners[file] = path if path and not _of_parity(path) and self._counts(path) else None
        return self._owners[file]

    def _hash(self, path: str) -> str:
        """The content of a file when it was first read; something else where it has changed since."""
        now = content(path)
        if self._hashes.setdefault(path, now) != now:
            self._hashes[path] = CHANGING
        return self._hashes[path]


_OF_THIS_PROCESS: list[Reads] = []


def watch(reach: Reach) -> None:
    """Note from now on what suites read in this process, for as long as it lasts."""
    _OF_THIS_PROCESS.append(Reads(reach))


def read_by(sources: Iterable[Path]) -> dict[str, Any] | None:
    """What the code in these files has read in this process; None where nobody has watched."""
    return _OF_THIS_PROCESS[0].of(sources) if _OF_THIS_PROCESS else None


def unchanged(depends: Any) -> bool:
    """Whether all that a run depended on is as it was; False where nobody has watched what is read here."""
    return bool(_OF_THIS_PROCESS) and _OF_THIS_PROCESS[0].unchanged(depends)


class _Environ(os._Environ):  # type: ignore[type-arg]
    """The variables, which say who asks for which."""

    reads: Reads

    def __getitem__(self, key: str) -> str:
        if not isinstance(key, _Listed):
            self.reads.asked(key, sys._getframe(1))
        value: str = super().__getitem__(key)
        return value

    def __setitem__(self, key: str, value: str) -> None:
        self.reads.gives(key)
        super().__setitem__(key, value)

    def __iter__(self) -> Iterator[str]:
        # Whoever copies all of them, as for a process, asks for none.
        return map(_Listed, super().__iter__())


class _Listed(str):
    __slots__ = ()


def _plain(name: str) -> str | None:
    try:
        return os._Environ.__getitem__(os.environ, name)
    except KeyError:
        return None


def _imported(path: str, module: ModuleType) -> set[str]:
    """The modules that a source names in its imports, wherever they stand in it, and the packages that they are in."""
    package = module.__package__ or ""
    found = {module.__name__}
    for level, base, names in _statements(path, content(path)):
        parts = package.split(".")
        start = ".".join(parts[: len(parts) - level + 1]) if level else ""
        whole = f"{start}.{base}".strip(".")
        found |= {whole, *(f"{whole}.{name}".strip(".") for name in names)}
    return {".".join(parts[:end]) for name in found for parts in [name.split(".")] for end in range(1, len(parts) + 1)}


@cache
def _statements(path: str, state: str) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """Each import in a source: how many packages up it begins, the module, and the names that are taken from it."""
    try:
        tree = ast.parse(Path(path).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return ()
    found: list[tuple[int, str, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append((node.level, node.module or "", tuple(alias.name for alias in node.names)))
    return tuple(found)


_real = cache(os.path.realpath)


@cache
def _harness() -> frozenset[str]:
    return frozenset(os.path.realpath(path) for path in harness())


@cache
def _of_parity(file: str) -> bool:
    """Whether a source is this package's own, and none of its tests', which are models of a user's."""
    root = Path(os.path.realpath(__file__)).parents[1]
    path = Path(os.path.realpath(file))
    return path.is_relative_to(root) and "tests" not in path.relative_to(root).parts


def _writes(mode: Any, flags: Any) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _of_source(path: str) -> str:
    """The source that a compiled file was made of; any other file itself."""
    if path.endswith(".pyc"):
        try:
            return source_from_cache(path)
        except ValueError:
            return path
    return path


def _worth(path: str, event: str) -> bool:
    """Whether something was looked for: an argument of a process may be any word."""
    return event == "open" or os.path.exists(path)


_EVENTS = ("open", "os.listdir", "os.scandir", "import", "ctypes.dlopen", "subprocess.Popen")
_BETWEEN = (__file__, os.__file__, "<frozen os>", "<frozen _collections_abc>")
"""What stands between whoever asks for a variable and the answer."""
