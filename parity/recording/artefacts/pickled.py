"""A pickle taken apart without being run: nothing is imported and nothing is called but what stands here.

A pickle is a program for a small machine with a stack. This machine knows the instructions that plain data takes:
numbers, texts, lists, dictionaries. Where the program names a function, it must be one of a few, and the machine does
by itself what that function would do. It never looks the function up.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError


@dataclass(frozen=True)
class Named:
    """A function or a class that a pickle names: its name and no more."""

    name: str


@dataclass(eq=False)
class Record:
    """An object that a pickle makes of a class: the class's name, and what it is filled with."""

    name: str
    state: Any = None


class _Mark:
    """Where a list of arguments begins on the stack."""


Function = Callable[..., Any]
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
EMPTY: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINSTRING", "SHORT_BINSTRING"),
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME"}
STEP = 1024
"""The time is looked at after so many instructions."""
INSTRUCTIONS = 1 << 21
"""The instructions of the longest pickle that is taken apart: one may make a dictionary, of 64 times its size. A tensor
takes about 35."""


class Machine:
    """Takes a pickle apart.

    Args:
        path: The file, for messages.
        budget: What the reading may take.
        functions: What may be called, by name, each with a function of ours that stands for it.
        names: What may be named, and not called.
        persistent: Stands for what the pickle says lies outside of it.
        records: The classes of which objects may be made, empty, and then filled. Each is a ``Record``, a key of a
            dictionary too.
        instructions: So many it may have; ``INSTRUCTIONS`` unless told.
        opaque: Whether what it makes of any other class, or has any other function make, is a ``Record`` too, which
            nobody looks into.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget,
        functions: Mapping[str, Function],
        names: Callable[[str], bool],
        persistent: Function,
        records: Container[str] = (),
        instructions: int | None = None,
        opaque: bool = False,
    ) -> None:
        self._path, self._budget, self._functions, self._names = path, budget, functions, names
        self._persistent, self._records, self._most = persistent, records, instructions or INSTRUCTIONS
        self._opaque = opaque
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value of a pickle. TrajectoryError if it is damaged, or asks for more than data."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # of a text with an escape that is none
                return self._run(data)
        except TrajectoryError:
            raise
        except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, Warning) as error:
            reason = f"{str(error)!r:.120}"
        raise TrajectoryError(f"{self._path}: its pickle is damaged ({reason}): write the file again")

    def _run(self, data: bytes) -> Any:
        for count, (code, argument, _) in enumerate(pickletools.genops(data)):
            if count % STEP == 0:
                self._budget.spend(self._path)
            if count == self._most:
                self._refuse(f"has more than {self._most:,} instructions")
            if code.name == "STOP":
                return self._pop()
            self._do(code.name, argument)
        raise ValueError("it has no end")

    def _do(self, code: str, argument: Any) -> None:
        stack = self._stack
        if self._opaque and self._skips(code):
            return
        if code in LITERALS:
            stack.append(argument)
        elif code in CONSTANTS:
            stack.append(CONSTANTS[code])
        elif code in EMPTY:
            stack.append(EMPTY[code]())
        elif code == "MARK":
            stack.append(_Mark)
        elif code in TUPLES:
            stack.append(tuple(reversed([self._pop() for _ in range(TUPLES[code])])))
        elif code == "TUPLE":
            stack.append(tuple(self._marked()))
        elif code == "LIST":
            stack.append(self._marked())
        elif code == "DICT":
            pairs = self._marked()
            stack.append({})
            self._set(pairs)
        elif code in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._memo[len(self._memo) if code == "MEMOIZE" else argument] = self._top()
        elif code in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self._memo[argument])
        elif code == "POP":
            self._pop()
        elif code in ("APPEND", "APPENDS"):
            values = self._marked() if code == "APPENDS" else [self._pop()]
            self._of(list).extend(values)
        elif code in ("SETITEM", "SETITEMS"):
            self._set(self._marked() if code == "SETITEMS" else [self._pop(), self._pop()][::-1])
        elif code == "GLOBAL":
            self._name(argument.replace(" ", "."))
        elif code == "STACK_GLOBAL":
            name, module = self._pop(), self._pop()
            self._name(f"{module}.{name}")
        elif code == "BINPERSID":
            stack.append(self._persistent(self._pop()))
        elif code == "REDUCE":
            arguments, named = self._pop(), self._pop()
            if not isinstance(named, Named) or named.name not in self._functions or type(arguments) is not tuple:
                self._refuse(f"calls {named.name if isinstance(named, Named) else 'something'}")
            stack.append(self._functions[named.name](*arguments))
        elif code == "BUILD":
            state = self._pop()
            if type(top := self._top()) is Record:
                top.state = state
            else:
                self._of(dict)  # which an OrderedDict is; what it has beside its items is a module's version
        elif code == "NEWOBJ" and self._records:
            arguments, named = self._pop(), self._pop()
            if not isinstance(named, Named) or named.name not in self._records or arguments != ():
                self._refuse(f"makes a {named.name if isinstance(named, Named) else 'something'}")
            stack.append(Record(named.name))
        elif code not in IGNORED:
            self._refuse(f"has the instruction {code}")

    def _skips(self, code: str) -> bool:
        """Do an instruction that makes an object which is not looked into; False where it makes no such."""
        stack = self._stack
        if code == "REDUCE" and not (isinstance(named := stack[-2], Named) and named.name in self._functions):
            stack[-2:] = [Record(named.name if isinstance(named, Named) else "")]
        elif code in ("NEWOBJ", "NEWOBJ_EX"):
            count = 2 if code == "NEWOBJ" else 3
            named = stack[-count]
            stack[-count:] = [Record(named.name if isinstance(named, Named) else "")]
        elif code == "EMPTY_SET":
            stack.append(Record("set"))
        elif code == "FROZENSET":
            self._marked()
            stack.append(Record("frozenset"))
        elif code == "ADDITEMS":
            self._marked()
        else:
            return False
        return True

    def _set(self, pairs: list[Any]) -> None:
        found = self._of(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            # A tuple of tuples may be so deep that its hash ends the process.
            # What is named is a key in what an optimizer keeps by dtype.
            if not isinstance(key, str | int | float | Record | None) and not (self._opaque and type(key) is Named):
                self._refuse("has a dictionary whose keys are neither texts nor numbers")
            found[key] = value

    def _name(self, name: str) -> None:
        known = name in self._functions or name in self._records or self._names(name)
        if not known and not self._opaque:
            self._refuse(f"names {name!r:.100}")
        self._stack.append(Named(name))

    def _marked(self) -> list[Any]:
        found: list[Any] = []
        while (value := self._stack.pop()) is not _Mark:
            found.append(value)
        found.reverse()
        return found

    def _top(self) -> Any:
        if self._stack[-1] is _Mark:
            raise ValueError("a mark is no value")
        return self._stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        return value

    def _of(self, kind: type) -> Any:
        value = self._top()
        if self._opaque and type(value) is Record:
            return kind()  # what is put into it is let go
        if type(value) is not kind:
            raise ValueError(f"a {type(value).__name__} is no {kind.__name__}")
        return value

    def _refuse(self, what: str) -> NoReturn:
        raise TrajectoryError(
            f"{self._path}: its pickle {what}, which is more than weights take, and is not run: save the weights "
            "alone, with torch.save(model.state_dict(), file) or safetensors"
        )
