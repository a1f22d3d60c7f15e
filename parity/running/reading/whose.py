"""Whose a file is, by its path: an interpreter's, a framework's, the harness's or somebody's own."""

from __future__ import annotations

import os
import sysconfig
from functools import cache
from pathlib import Path

from parity.frameworks import FRAMEWORKS
from parity.running.keys import harness

_INTERPRETER = tuple({sysconfig.get_paths()[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_STANDARD = os.path.join(sysconfig.get_paths()["stdlib"], "")
_realpath = os.path.realpath  # as it is before whoever asks it is noted


@cache
def of_interpreter(path: str) -> bool:
    """Whether a path, as it stands, is an interpreter's or an installed package's."""
    return path.startswith(_INTERPRETER) or any(place in path for place in _INSTALLED)


@cache
def standard(file: str) -> bool:
    """Whether code is the standard library's."""
    return file.startswith((_STANDARD, "<frozen")) and not any(place in file for place in _INSTALLED)


@cache
def of_framework(file: str) -> bool:
    """Whether a file is an installed framework's."""
    return any(place in file for place in _frameworks())


@cache
def _frameworks() -> tuple[str, ...]:
    names = {name for known in FRAMEWORKS for names in known.packages.values() for name in names}
    return tuple(f"{os.sep}site-packages{os.sep}{name}{os.sep}" for name in names)


@cache
def of_parity(file: str) -> bool:
    """Whether a source is this package's own, and none of its tests', which are models of a user's."""
    root = Path(_realpath(__file__)).parents[2]
    path = Path(_realpath(file))
    return path.is_relative_to(root) and "tests" not in path.relative_to(root).parts


@cache
def of_every_key() -> frozenset[str]:
    """The harness's files that every key has whole."""
    return frozenset(_realpath(path) for path in harness())
