"""The installed packages that a process has loaded: of each, the file that names its version."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from parity.frameworks import CORE_PACKAGES

HARNESS = __name__.partition(".")[0]
VERSIONS = {".dist-info": "METADATA", ".egg-info": "PKG-INFO"}
"""Folders that say which package has been installed beside them, and the file in each that names its version."""


def is_version(path: str) -> bool:
    """Whether a file is one that names a package's version."""
    folder, name = os.path.split(path)
    return VERSIONS.get(os.path.splitext(folder)[1]) == name


@cache
def versions_of(modules: frozenset[tuple[str, str]]) -> frozenset[str]:
    """Find the files that name the versions of the packages which have brought some top-level modules.

    Args:
        modules: The modules, each with the folder that it lies in.

    Returns:
        Paths. A package whose version is in every run's key has none, nor has a module that no package has brought.
    """
    wanted = [(name, folder) for name, folder in modules if name not in sys.stdlib_module_names and name != HARNESS]
    found = set()
    for folder in {folder for _, folder in wanted}:
        names = {name for name, place in wanted if place == folder}
        packages = dict(_packages(folder))
        for plain in [plain for plain in packages if plain in {_plain(name) for name in names}]:
            # Few packages have a module of another name beside the one of their own.
            place = packages.pop(plain)
            if plain not in CORE_PACKAGES:
                found.add(place)
        left = {name for name in names if _plain(name) not in dict(_packages(folder))} | _without_file(names)
        found |= {place for place in packages.values() if left & _brought(place)} if left else set()
    return frozenset(found)


def _without_file(names: Iterable[str]) -> set[str]:
    """Packages that several distributions may share, as none of them has a file of its own there."""
    return {name for name in names if getattr(sys.modules.get(name), "__file__", None) is None}


@cache
def _packages(folder: str) -> tuple[tuple[str, str], ...]:
    """The packages installed in a folder, by name, each with the file that names its version."""
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return ()
    found = []
    for entry in entries:
        stem, kind = os.path.splitext(entry)
        if kind in VERSIONS:
            found.append((_plain(stem.split("-")[0]), os.path.join(folder, entry, VERSIONS[kind])))
    return tuple(found)


@cache
def _brought(version: str) -> frozenset[str]:
    """The top-level modules that a package lists."""
    for name, separator in (("top_level.txt", "\n"), ("RECORD", ",")):
        try:
            lines = Path(version).with_name(name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        return frozenset(re.split(r"[/.]", line.partition(separator)[0])[0] for line in lines)
    return frozenset()


def _plain(name: str) -> str:
    """A package's name as all its spellings have it."""
    return re.sub("[-_.]+", "-", name).lower()
