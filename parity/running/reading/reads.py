"""What a suite's code reads in a worker: every file that it opens and every variable that it asks for.

Each belongs to the source that asked: what is read once, at an import or for a cache, belongs to every later run that
uses that source. A run depends on the sources that its implementation imports, directly or not, and on all that these
have read.

What belongs to an interpreter is left out, the harness too, which every key has whole. Of every installed package that
the process has loaded the file that names its version counts. What is read by code that is no Python is seen where its
way in is known, as ``READERS`` has them; what another process reads is not, so that a run whose sources start one is
never as it was.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache, wraps
from importlib import import_module
from importlib.util import source_from_cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

from parity.running.packages import Reach
from parity.running.reading.dependencies import (
    ABSENT,
    ALL,
    CHANGING,
    KIND,
    LINK,
    SYSTEM,
    content,
    everything,
    fresh,
    hash_of,
    name_of,
    plain,
    searched,
)
from parity.running.reading.installed import is_version, versions_of
from parity.running.reading.sources import imported, names_at_run_time
from parity.running.reading.whose import of_every_key, of_framework, of_interpreter, of_parity, standard

_realpath = os.path.realpath
_real = cache(_realpath)
_ARCHIVES = {_realpath(entry) for entry in sys.path if entry.endswith(".zip")}
ANYONE = ""
"""In the place of a source: what is read where none is on the way, as in a thread of a pool, any may have asked for."""
ELSEWHERE = "what a process that it started has read"
"""In the place of a file's name: it is never as it was."""
READERS = {
    "safetensors._safetensors_rust": ("safe_open", "_safe_open_handle"),
    "h5py.h5f": ("open",),
    "tensorflow.python.lib.io._pywrap_file_io": ("BufferedInputStream",),
}
"""Functions that read files in code that is no Python, by module; the first argument is the path."""


class Reads:
    """What the code of suites reads in this process, from the moment that this is made."""

    def __init__(self, reach: Reach) -> None:
        self._packages = tuple(os.path.join(_realpath(folder), "") for folder in reach.packages.values())
        self._folders = searched(reach)
        self._owners: dict[str, str | None] = {}
        self._files: dict[str, set[str]] = defaultdict(set)
        self._variables: dict[str, dict[str, str]] = defaultdict(dict)
        self._hashes: dict[str, str] = {}
        self._written: dict[str, set[str]] = defaultdict(set)
        self._starters: set[str] = set()
        self._set: set[str] = set()
        self._environment = dict(os.environ)
        # What comes with the interpreter, as what finds its editable packages, is loaded by nobody.
        self._earlier = {name.partition(".")[0] for name in sys.modules}
        self._busy = threading.local()
        _Environ.reads = self
        os.environ.__class__ = _Environ
        if hasattr(os, "environb"):
            os.environb.__class__ = _Environ
        self._look_at_questions()
        sys.addaudithook(self._hear)

    def of(self, sources: Iterable[Path]) -> dict[str, Any]:
        """What the code in these files, and in all that they import, has read until now: see ``fresh``."""
        found = self._closure((str(path) for path in sources), *self._own_modules()) | {ANYONE}
        paths = (found | {path for source in found for path in tuple(self._files[source])}) - {ANYONE}
        written = {path for source in found for path in self._written[source]}
        files: dict[str, str] = {}
        variables: dict[str, str] = {}
        for path in paths:
            # What a run itself makes, or takes away, is not what it depends on.
            if plain(path) in written or not (self._counts(plain(path)) or is_version(path)):
                continue
            if os.path.lexists(plain(path)) or self._hash(path) in (ABSENT, CHANGING):
                files[name_of(path, self._folders)] = self._hash(path)
        for path in versions_of(self._installed()):
            files[name_of(path, self._folders)] = self._hash(path)
        for source in found:
            variables |= self._variables[source]
        if found & self._starters:
            files[ELSEWHERE] = CHANGING
        return {"files": dict(sorted(files.items())), "variables": dict(sorted(variables.items()))}

    def unchanged(self, depends: Any) -> bool:
        """Whether all that a run depended on is as it was, for a job of this process: see ``fresh``."""
        return fresh(depends, self._environment, self._folders)

    def _closure(
        self, sources: Iterable[str], by_name: Mapping[str, str], by_path: Mapping[str, ModuleType]
    ) -> set[str]:
        """Every file of ours that the code in some files imports or loads, directly or not."""
        found: set[str] = set()
        new = {_realpath(source) for source in sources}
        while new:
            found |= new
            reached: set[str] = set()
            for path in new:
                module = by_path.get(path)
                names = imported(path, module) if module is not None else ()
                reached |= {by_name[name] for name in names if name in by_name}
                reached |= {one for one in tuple(self._files[path]) if one in by_path}
                if module is not None and names_at_run_time(path, content(path)):
                    reached |= {one for one in by_path if not of_parity(one)}
            new = {path for path in reached if self._counts(path)} - found
        return found

    def _own_modules(self) -> tuple[dict[str, str], dict[str, ModuleType]]:
        """The sources of the loaded modules that are somebody's own, by module, and the modules by source."""
        by_name: dict[str, str] = {}
        by_path: dict[str, ModuleType] = {}
        for name, module in list(sys.modules.items()):
            file = vars(module).get("__file__") if isinstance(module, ModuleType) else None
            if isinstance(file, str) and not self.foreign(file):
                by_name[name] = _real(file)
                by_path[_real(file)] = module
        return by_name, by_path

    def _installed(self) -> frozenset[tuple[str, str]]:
        """The top-level modules of installed packages that are loaded, each with the folder that it lies in."""
        found = set()
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            if top in self._earlier or top in sys.stdlib_module_names or not isinstance(module, ModuleType):
                continue
            file = vars(module).get("__file__")
            if isinstance(file, str) and self.foreign(file):
                # As many folders up as there are packages on the way.
                ups = name.count(".") + (os.path.basename(file).startswith("__init__.")) + 1
                found.add((top, os.path.join(*([os.sep, *file.split(os.sep)[1:-ups]]))))
        return frozenset(found)

    def foreign(self, path: str) -> bool:
        """Whether a path, as it stands, is an interpreter's: nearly all that a framework opens, and quickly told."""
        return of_interpreter(path) and not path.startswith(self._packages)

    def _counts(self, path: str) -> bool:
        """Whether a file is somebody's own: none of an interpreter's, nor of the harness's that every key has."""
        if path.startswith(SYSTEM) or path in of_every_key() or path in _ARCHIVES:
            return False
        return path.startswith(self._packages) or not of_interpreter(path)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and not getattr(self._busy, "now", False):
            self._quietly(self._note, event, arguments, sys._getframe(1))

    def _quietly(self, do: Callable[..., None], *arguments: Any) -> None:
        """Do something that may itself open files, which nobody has asked for."""
        self._busy.now = True
        try:
            do(*arguments)
        except (OSError, ValueError):
            pass  # what has no path that can be followed cannot be opened either
        finally:
            self._busy.now = False

    def _note(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        if event in _STARTS:
            self._note_start(event, frame)
            if event != "subprocess.Popen":
                return
            paths = [one for one in arguments[1] if isinstance(one, str | bytes | os.PathLike)]
        elif event in _MAKES:
            self._note_writing(arguments[_MAKES[event]], frame)
            return
        else:
            path = arguments[1 if event == "import" else 0]
            if path is None or (isinstance(path, str) and self.foreign(path) and not is_version(path)):
                return
            paths = [_database(path) if event == "sqlite3.connect" else path]
        if frame.f_code.co_filename.startswith(("<frozen importlib", "<frozen zipimport")) and event != "open":
            return
        for path in paths:
            if not isinstance(path, str | bytes | os.PathLike) or not os.fspath(path):
                continue
            if event == "open" and _writes(arguments[1], arguments[2]):
                self._note_writing(path, frame)
            elif event == "open" and is_version(os.fsdecode(path)):
                self._add({self._direct(frame)}, _realpath(os.fsdecode(path)))
            else:
                self._note_reading(os.fsdecode(path), event, frame)

    def _note_reading(self, path: str, event: str, frame: FrameType) -> None:
        listed = event in ("os.listdir", "os.scandir")
        target = _realpath(path)
        openers = {self._direct(frame)} if listed else self._openers(frame)
        target = target + os.sep if listed else _of_source(target)
        if _worth(target, event):
            self._add(openers, target)
            if not listed and target != os.path.abspath(path) and not target.endswith(".py"):
                self._add(openers, os.path.abspath(path) + LINK)
        if target.endswith(".py") and self._counts(target):
            self._hash(target)

    def _add(self, sources: Iterable[str | None], path: str) -> None:
        known = [source for source in sources if source is not None]
        for source in known:
            self._files[source].add(path)
        if known and (self._counts(plain(path)) or is_version(path)):
            self._hash(path)

    def _note_writing(self, path: Any, frame: FrameType) -> None:
        if isinstance(path, str | bytes | os.PathLike) and os.fspath(path):
            for source in self._openers(frame):
                self._written[source].add(_realpath(os.fsdecode(path)))

    def _note_start(self, event: str, frame: FrameType | None) -> None:
        """Another process is started: noted where the suite's own code has it done, not where a framework does.

        A copy of this process is what the framework's own loaders of data make to have that code called there.
        """
        while frame is not None:
            file = frame.f_code.co_filename
            owner = self._owner(frame)
            if owner is not None:
                self._starters.add(owner)
                return
            if file.startswith("<frozen importlib") or (event != "os.fork" and of_framework(file)):
                return
            frame = frame.f_back

    def opens(self, path: Any, frame: FrameType) -> None:
        """A file is read by code that is no Python, called from there."""
        if not getattr(self._busy, "now", False) and isinstance(path, str | bytes | os.PathLike):
            self._quietly(self._note_reading, os.fsdecode(path), "open", frame)

    def wrap(self, module: ModuleType) -> None:
        """Have the functions of a module in ``READERS`` say what they read."""
        for name in READERS[module.__name__]:
            if hasattr(module, name):
                setattr(module, name, _telling(getattr(module, name), self.opens))

    def _look_at_questions(self) -> None:
        """Have the functions that ask about a file without opening it say for whom: no audit event does."""
        for name, what in (("stat", KIND), ("lstat", LINK), ("access", KIND), ("readlink", LINK)):
            asks = getattr(os, name)
            wrapped = _telling(asks, self._asks(what))
            setattr(os, name, wrapped)
            for ways in (os.supports_follow_symlinks, os.supports_dir_fd, os.supports_fd, os.supports_effective_ids):
                if asks in ways:
                    ways.add(wrapped)
        os.path.realpath = _telling(os.path.realpath, self._asks(LINK))
        with suppress(ImportError):
            # As multiprocessing begins a process, which no audit event tells of.
            starts: Any = import_module("_posixsubprocess")
            starts.fork_exec = _telling(starts.fork_exec, lambda _, frame: self._note_start("os.fork", frame))

    def _asks(self, what: str) -> Callable[[Any, FrameType], None]:
        def ask(path: Any, frame: FrameType) -> None:
            # A path is followed one link after the other, each of which is asked about.
            if getattr(self._busy, "now", False) or frame.f_code.co_name == "_joinrealpath":
                return
            asker = self._direct(frame)
            if asker is not None and isinstance(path, str | bytes | os.PathLike) and os.fspath(path):
                self._quietly(self._note_question, asker, os.fsdecode(path), what)

        return ask

    def _note_question(self, asker: str, path: str, what: str) -> None:
        path = os.path.abspath(path)
        if what == KIND:
            self._add([asker], _realpath(path) + KIND)
        if _realpath(path) != path or what == LINK:
            self._add([asker], path + LINK)

    def asked(self, name: str | bytes, frame: FrameType | None) -> None:
        """A variable is asked for: noted where the suite's own code asks, not where a framework does."""
        asker = self._direct(frame)
        if asker is not None:
            word = os.fsdecode(name)
            value = everything(self._environment) if word == ALL else _plain(word)
            if word not in self._set:
                self._variables[asker].setdefault(word, hash_of(value))

    def gives(self, name: str | bytes) -> None:
        """A variable is set by this process itself: it then depends on it no more."""
        self._set.add(os.fsdecode(name))

    def _openers(self, frame: FrameType | None) -> set[str]:
        """Every source of the suite's on the way to where something is read: each may keep it for another.

        ``ANYONE`` where none is, and none of the harness's either.
        """
        found: set[str] = set()
        harness = False
        while frame is not None:
            owner = self._owner(frame)
            if owner is not None:
                found.add(owner)
            harness = harness or of_parity(frame.f_code.co_filename)
            frame = frame.f_back
        return found or (set() if harness else {ANYONE})

    def _direct(self, frame: FrameType | None) -> str | None:
        """The source of the suite's own that asks for something itself, and has no other package do so."""
        while frame is not None and _standard(frame.f_code.co_filename):
            frame = frame.f_back
        return ANYONE if frame is None else self._owner(frame)

    def _owner(self, frame: FrameType) -> str | None:
        """The file of the suite's own whose code runs there, if it is one."""
        file = frame.f_code.co_filename
        if file not in self._owners:
            # What has no file of its own is called <frozen os>, <string> and the like.
            path = _realpath(file) if os.path.isabs(file) else ""
            self._owners[file] = path if path and not of_parity(path) and self._counts(path) else None
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


def wrap_reader(module: ModuleType) -> None:
    """Have the functions of a module that is in ``READERS`` say what they read."""
    if _OF_THIS_PROCESS:
        _OF_THIS_PROCESS[0].wrap(module)


def own(file: str) -> bool:
    """Whether a module's file is somebody's own and no interpreter's."""
    return not (_OF_THIS_PROCESS[0].foreign(file) if _OF_THIS_PROCESS else of_interpreter(file))


def _telling(asks: Callable[..., Any], tell: Callable[[Any, FrameType], None]) -> Callable[..., Any]:
    """The same function, which first says what it is asked about, and from where."""

    @wraps(asks)
    def told(path: Any, *more: Any, **named: Any) -> Any:
        tell(path, sys._getframe(1))
        return asks(path, *more, **named)

    return told


class _Environ(os._Environ):  # type: ignore[type-arg]
    """The variables, which say who asks for which."""

    reads: Reads

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, _Listed | _ListedBytes):
            self.reads.asked(key, sys._getframe(1))
        return super().__getitem__(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.reads.gives(key)
        super().__setitem__(key, value)

    def __iter__(self) -> Iterator[Any]:
        self.reads.asked(ALL, sys._getframe(1))
        return (_ListedBytes(key) if isinstance(key, bytes) else _Listed(key) for key in super().__iter__())


class _Listed(str):
    __slots__ = ()


class _ListedBytes(bytes):
    __slots__ = ()


def _database(name: Any) -> Any:
    """The file of a database, which may be named by a URI."""
    text = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    if text.startswith("file:"):
        return unquote(urlsplit(text).path)
    return None if text == ":memory:" else text


def _plain(name: str) -> str | None:
    try:
        return os._Environ.__getitem__(os.environ, name)
    except KeyError:
        return None


def _standard(file: str) -> bool:
    """Whether code is the standard library's, or stands here between whoever asks and what is asked."""
    return file == __file__ or standard(file)


def _writes(mode: Any, flags: Any) -> bool:
    """Whether a file is opened so that nothing that was in it can be read."""
    if isinstance(mode, str):
        return "w" in mode or "x" in mode or ("a" in mode and "+" not in mode)
    if not isinstance(flags, int):
        return False
    anew = flags & (os.O_TRUNC | os.O_EXCL)
    return bool(flags & os.O_WRONLY or (flags & os.O_RDWR and anew))


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


_STARTS = frozenset(
    f"os.{name}" for name in ("exec", "fork", "forkpty", "posix_spawn", "spawn", "startfile", "system")
) | {"subprocess.Popen", "pty.spawn"}
_MAKES = {"os.mkdir": 0, "os.rename": 1, "os.symlink": 1, "os.link": 1}
"""What makes a file or a folder, and which argument names it."""
_EVENTS = {"open", "os.listdir", "os.scandir", "import", "ctypes.dlopen", "sqlite3.connect", *_STARTS, *_MAKES}
