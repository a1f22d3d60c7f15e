"""Which packages of ours a process finds beside those of its interpreter: the suite's, and this one.

What an interpreter has of its own comes first, in this process and in a worker: the current folder, which may be one
that somebody else filled, is looked through last, and for a suite that was asked for by name.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

DOCUMENTS = "impls"
"""The suite of the documents' models. A clone of the project has it beside this package."""
HERE = Path(__file__).absolute().parents[1]


@dataclass(frozen=True)
class Reach:
    """``packages`` are found in their folders, by name, and nowhere else; ``folders`` are searched after all others."""

    packages: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[str, ...] = ()

    def extend(self) -> None:
        """Let this process find them."""
        known = [finder.packages for finder in sys.meta_path if isinstance(finder, _Finder)]
        if self.packages and self.packages not in known:
            sys.meta_path.insert(0, _Finder(self.packages))
        sys.path += [folder for folder in self.folders if folder not in sys.path]


class _Finder:
    """Finds packages in the folders that they are known to lie in, as an editable install does."""

    def __init__(self, packages: Mapping[str, str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        folder = self.packages.get(name)
        if folder is None:
            return None
        return spec_from_file_location(name, Path(folder, "__init__.py"), submodule_search_locations=[folder])


def clone() -> Reach | None:
    """All that lies beside this package in a clone of the project; None where it was installed without one."""
    root = HERE.parent
    if _of_an_interpreter(root) or not (root / DOCUMENTS / "__init__.py").exists():
        return None
    return Reach({path.parent.name: str(path.parent) for path in sorted(root.glob("*/__init__.py"))})


def find(suite: str | None) -> str:
    """Let this process find the suite of that name, or without one the documents'; the name of its package.

    The documents' is that of the clone. A user's own that is found nowhere else is looked for in the current folder,
    which somebody else may have filled. SuiteError where none is named and there is no clone.
    """
    from parity.suite import SuiteError

    cloned = clone() if suite in (None, DOCUMENTS) else None
    if cloned is not None:
        cloned.extend()
    elif suite is None:
        raise SuiteError(
            f"the documents' models are in a clone of the project, and {HERE} is in none: call 'pip install -e .' "
            "there, or name a suite of your own with --suite"
        )
    elif not _known(suite.partition(".")[0]):
        Reach(folders=(os.getcwd(),)).extend()
    return DOCUMENTS if suite is None else suite


def _known(package: str) -> bool:
    """Whether this process finds a package already. It is not imported."""
    try:
        return find_spec(package) is not None
    except ValueError:  # no name of a package: importing it says so
        return True


def reach_of(suite: str) -> Reach:
    """What a process must know to find a suite that this one has imported, in another interpreter as well."""
    top = import_module(suite.partition(".")[0])
    # A namespace package lies in several folders and has no file of its own.
    folders = [Path(entry).absolute() for entry in top.__path__]
    cloned = clone()
    if cloned is not None and cloned.packages.get(top.__name__) == str(folders[0]):
        return cloned
    packages = {top.__name__: str(folders[0])} if top.__file__ else {}
    # What lies beside it is its own, but for the packages of an interpreter.
    beside = dict.fromkeys(str(folder.parent) for folder in folders if not _of_an_interpreter(folder.parent))
    return Reach(packages, tuple(beside))


def own_path() -> tuple[str, ...]:
    """Where this process looks for packages: a process of the same interpreter does after all that it has itself."""
    return tuple(entry or os.getcwd() for entry in sys.path)


def _of_an_interpreter(folder: Path) -> bool:
    """Whether it is a folder in which an interpreter keeps what is installed for it, and for no other."""
    return folder.name in ("site-packages", "dist-packages") or str(folder) in sysconfig.get_paths().values()
