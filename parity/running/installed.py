"""The installed packages that a source imports: of each, the file that names its version."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from parity.frameworks import CORE_PACKAGES, FRAMEWORKS

IN_EVERY_KEY = {*CORE_PACKAGES}.union(*(set.intersection(*map(set, known.packages.values())) for known in FRAMEWORKS))
"""The packages whose versions are in the key of every run of their framework, or of every run at all."""
HARNESS = __name__.partition(".")[0]


@cache
def about(module: str) -> str | None:
    """Find the file that names the version of the package that a top-level module belongs to.

    None for a package whose version is in every key, and for a module that no package has brought.
    """
    if module in sys.stdlib_module_names or module in IN_EVERY_KEY or module == HARNESS:
        return None
    for name in _packages(module):
        if name in IN_EVERY_KEY:
            return None
        for folder in Path(str(distribution(name).locate_file(""))).glob("*.dist-info"):
            if _plain(folder.stem.rpartition("-")[0]) == _plain(name):
                return str(folder / "METADATA")
    return None


def _plain(name: str) -> str:
    """A package's name as all its spellings have it."""
    return re.sub("[-_.]+", "-", name).lower()


def _packages(module: str) -> list[str]:
    """The packages that may have brought a module: the one of its name, or else those that list it."""
    try:
        return [distribution(module).metadata["Name"]]
    except PackageNotFoundError:
        return _listed().get(module, [])


@cache
def _listed() -> dict[str, list[str]]:
    # Asked only where names differ: it reads the list of files of every package.
    return dict(packages_distributions())
