"""Packages of a framework's own workers, in a file as pip reads it: a cluster installs them where the workers are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

Installed = Callable[[str], Mapping[str, str | None]]
"""Says which versions a worker finds that has the packages of such a file; OSError where it cannot be known."""
SUFFIX = ".txt"
OTHER_FILE = re.compile(r"(-c|-r|--constraint|--requirement)[ =]\s*(\S+)")


def is_requirements(python: str | None) -> bool:
    """Say whether what is named in the place of an interpreter is a file of packages.

    >>> is_requirements("jax.txt"), is_requirements("/env/bin/python"), is_requirements(None)
    (True, False, False)
    """
    return python is not None and python.endswith(SUFFIX)


def lines_of(path: str) -> tuple[str, ...]:
    """The lines of a file of packages, without comments; files that it names have the whole path of theirs.

    OSError where it cannot be read.
    """
    file = Path(path).absolute()

    def whole(found: re.Match[str]) -> str:
        return f"{found[1]} {file.parent / found[2]}"

    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in file.read_text().splitlines())
    return tuple(OTHER_FILE.sub(whole, line) for line in lines if line)


def nowhere(path: str) -> Mapping[str, str | None]:
    """What a machine says of such a file that is no cluster's: OSError."""
    raise OSError(f"the packages of {path} are installed on a Ray cluster alone: name an interpreter, or add --on ray")
