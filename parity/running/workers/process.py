"""What a process keeps from one job to the next, held against its start: no job may find what another has left.

A worker that a job has changed does no other. What differs is said in words, so that the job's cell can be named.
Random numbers are no difference: drawing some is nobody's fault, and every job begins with the same ones.
"""

from __future__ import annotations

import contextlib
import decimal
import gc
import locale
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from parity.frameworks import FRAMEWORKS
from parity.running.executor import Environment
from parity.running.reading.reads import READERS, own, wrap_reader
from parity.running.workers.importing import Imports
from parity.running.workers.patched import Held

if TYPE_CHECKING:
    from parity.spec import Case, Dataset
    from parity.typing import Array, Params

try:
    import resource
except ImportError:  # where there are no such limits
    LIMITS: dict[str, int] = {}
else:
    LIMITS = {name: getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}

State = dict[str, Any]
"""What is looked at, in words, to its value."""
SEED = 0
"""Every job begins with the random numbers that follow from this."""


class Process:
    """This process as it was when it began, and when it had just imported its framework.

    The framework's trainer has two functions for this: ``settle(device)`` gives a run the settings that every run
    begins with, ``process_state()`` says what else the framework keeps. Both are looked for once the framework itself
    has been imported, by whomever: an import that changes something is no job's doing.
    """

    def __init__(self, environment: Environment) -> None:
        self._framework = next(known for known in FRAMEWORKS if known.name == environment.framework)
        self._device = environment.device
        self._trainer: ModuleType | None = None
        self._held, self._modules = Held(own), 0
        hears = dict.fromkeys(READERS, wrap_reader)
        sys.meta_path.insert(0, Imports(own, self._held.hold_own, self._held.note, self._held.hold_imported, hears))
        with contextlib.suppress(ImportError):
            import_module("numpy")
        packages = {package for each in self._framework.packages.values() for package in each} - {"numpy"}
        if packages:
            sys.meta_path.insert(0, _Watch({*packages, self._framework.trainer}, self._before, self._after))
        self._hold()
        self._start = self._state()
        self._earlier: set[str] = set()

    def begin(self) -> None:
        """Let a job begin as every other does."""
        random.seed(SEED)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(SEED)
        if self._trainer is not None:
            self._trainer.settle(self._device)
        self._hold()

    def changed(self) -> tuple[str, ...]:
        """What is not as it was at the start, a line each."""
        return (*differences(self._start, self._state()).values(), *self._held.changed())

    def _hold(self) -> None:
        """Hold what was loaded otherwise than by an import, as it is now."""
        if len(sys.modules) != self._modules:
            self._modules = len(sys.modules)
            self._held.hold(list(sys.modules))

    def _state(self) -> State:
        return own_state() | (self._trainer.process_state() if self._trainer is not None else {})

    def _before(self) -> None:
        self._earlier = set(differences(self._start, self._state()))

    def _after(self) -> None:
        if self._trainer is None:
            try:
                self._trainer = import_module(self._framework.trainer)
            except ImportError:  # it needs more than the implementation does
                return
            self.begin()
        now = self._state()
        # What had been changed before the import is no work of it.
        self._start = {name: value for name, value in now.items() if name not in self._earlier} | {
            name: self._start[name] for name in self._earlier if name in self._start
        }


class _Watch:
    """Tells when the first of some packages begins to be imported, and when it has been, with all that it imports."""

    def __init__(self, names: set[str], before: Callable[[], None], after: Callable[[], None]) -> None:
        self._names, self._before, self._after = names, before, after
        self._depth, self._looking = 0, False

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self._names or self._looking:
            return None
        found = None
        self._looking = True
        try:
            for finder in sys.meta_path:
                if finder is not self and (found := finder.find_spec(name, path, target)) is not None:
                    break
        finally:
            self._looking = False
        if found is not None and found.loader is not None:
            self._wrap(found.loader)
        return found

    def _wrap(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if not self._depth:
                self._before()
            self._depth += 1
            try:
                execute(module)
            finally:
                self._depth -= 1
            if not self._depth:
                self._names = set()
                self._after()

        loader.exec_module = exec_module


def differences(before: State, now: State) -> dict[str, str]:
    """What differs between two states, and how, by its name."""
    nothing = object()
    found = {}
    for name in (*before, *(name for name in now if name not in before)):
        old, new = before.get(name, nothing), now.get(name, nothing)
        if old is nothing or new is nothing:
            found[name] = f"{name} was {'not there' if old is nothing else 'taken away'}"
        elif old != new:
            # A variable's value may be a secret.
            how = "was changed" if name.startswith("the variable ") else f"was {old!s:.60} and is {new!s:.60}"
            found[name] = f"{name} {how}"
    return found


def own_state() -> State:
    """What Python, NumPy and the system keep for a process."""
    found: State = {
        "the working directory": _folder(),
        "the mask of new files": _mask(),
        "the locale": locale.setlocale(locale.LC_ALL),
        # Any other filter changes nothing but what is printed.
        "warnings that are errors": sorted(repr(one[1:]) for one in warnings.filters if one[0] == "error"),
        "the recursion limit": sys.getrecursionlimit(),
        "the garbage collector": gc.isenabled(),
        "tracing": [
            way() is not None for way in (sys.gettrace, sys.getprofile, threading.gettrace, threading.getprofile)
        ],
        # What an installed package adds when it is imported is the same for every job.
        "the search path": [entry for entry in sys.path if own(os.path.join(entry, ""))],
        "the finders of modules": [_name(type(one)) for one in sys.meta_path if _of_own_class(one)],
        "the streams": [getattr(sys, name) is getattr(sys, f"__{name}__") for name in ("stdin", "stdout", "stderr")],
        "what is called for an error": _name(sys.excepthook),
        "what is called for a value": _name(sys.displayhook),
        "the longest number in digits": sys.get_int_max_str_digits(),
        "the switch between threads": sys.getswitchinterval(),
        "the decimal context": repr(decimal.getcontext()).rpartition(", flags=")[0],
        "the time zone": (time.tzname, time.timezone),
        "the processors": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "the priority": os.nice(0) if hasattr(os, "nice") else 0,
        "the timer": signal.getitimer(signal.ITIMER_REAL) != (0.0, 0.0) if hasattr(signal, "getitimer") else False,
        "the threads": sorted(thread.name for thread in threading.enumerate() if thread.is_alive()),
        "the processes that it started": sorted(_children()),
        "the rounding of numbers": _rounding(),
        "room for open files": _room(),
    }
    found |= {f"the variable {name}": value for name, value in dict(os.environ).items()}
    found |= {f"the handler of {number.name}": _handler(number) for number in signal.valid_signals() if _named(number)}
    found |= {f"the limit {name}": resource.getrlimit(number) for name, number in LIMITS.items()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "geterr"):
        found["NumPy's treatment of errors"] = numpy.geterr()
        found["NumPy's handler of errors"] = _name(numpy.geterrcall())
        found["NumPy's print options"] = {name: str(value) for name, value in numpy.get_printoptions().items()}
        found["NumPy's buffer"] = numpy.getbufsize()
    return found


def _of_own_class(value: Any) -> bool:
    module = sys.modules.get(type(value).__module__ if not isinstance(value, type) else value.__module__)
    file = getattr(module, "__file__", None)
    return type(value) is object or (isinstance(file, str) and own(file))


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return "gone"


def _mask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _children() -> Iterator[str]:
    """The processes that this one has started and that have not ended, where the system says so."""
    for task in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for pid in task.read_text().split():
                with contextlib.suppress(OSError):
                    if Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                        yield pid


def _room() -> bool:
    """Whether many more files can be opened."""
    try:
        return not LIMITS or 2 * len(os.listdir("/proc/self/fd")) < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    except FileNotFoundError:  # where the system does not say
        return True
    except OSError:
        return False


def _named(number: int) -> bool:
    return isinstance(number, signal.Signals)


def _handler(number: int) -> str:
    return _name(signal.getsignal(number))


def _name(handler: Any) -> str:
    return str(getattr(handler, "__qualname__", handler))


def _rounding() -> Mapping[str, bool]:
    """Whether numbers are rounded to nearest, and the smallest are kept: a library may have had it changed."""
    one, half, tiny = (float(text) for text in ("1", repr(2.0**-53), "5e-324"))  # nothing is computed beforehand
    return {"to even": one + half == one, "up": one + 1.5 * half > one, "subnormal": tiny * one > 0}


def keep_as_they_are(case: Case) -> None:
    """Make read-only what a case hands out to every run of its process: one that writes there would change the next."""
    for give in (case.data, case.initial):
        if give not in _KEPT:
            _KEPT.append(give)
            for one, other in zip(_arrays(give()), _arrays(give()), strict=True):
                if one is other and one is not None:
                    one.flags.writeable = False


def _arrays(given: Dataset | Params) -> list[Array | None]:
    return list(given.values()) if isinstance(given, dict) else [given.x, given.y, given.x_test, given.y_test]


_KEPT: list[Callable[[], Any]] = []
