"""Turn a command's options into what they ask for: the suite, the interpreters, the matrix."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.cli.addresses import storage_of
from parity.cli.output import check_writable, fail
from parity.running.ray.requirements import is_requirements
from parity.running.variables import variable

if TYPE_CHECKING:
    from parity.judging.floors.known import Known
    from parity.running.matrix import Matrix
    from parity.suite import Suite

OFFLINE = "PARITY_OFFLINE"
"""The environment variable that forbids downloads, as ``fixtures.download`` reads it."""


def find_suite(name: str | None) -> Suite:
    """The suite of that name, looked for in the current folder too; without a name the documents'.

    SuiteError says why it cannot be had.
    """
    from parity.running.packages import find
    from parity.suite import load_suite

    return load_suite(find(name))


def suite_of_recordings(name: str | None) -> Suite:
    """The same for what is read and not run: a suite without cases where none was named and there is no clone."""
    from parity.running.packages import DOCUMENTS, clone
    from parity.suite import Suite

    return Suite(DOCUMENTS, "numpy", {}, None) if name is None and clone() is None else find_suite(name)


def known_suite(name: str | None) -> Known:
    """What the suite of that name knows of recordings; nothing where none was named and there is no clone."""
    from parity.judging.floors.known import NOTHING, Known
    from parity.running.keys import mark
    from parity.running.packages import clone

    return NOTHING if name is None and clone() is None else Known(find_suite(name), mark)


def offline() -> AbstractContextManager[None]:
    """Let nothing be downloaded meanwhile, by this process and the workers that it starts: a suite's data heed it."""
    return variable(OFFLINE, "1")


def interpreters(pairs: list[str] | None) -> dict[str, str]:
    """Framework to interpreter, or to a file of packages, from ``FRAMEWORK=PATH`` as ``--python`` takes it."""
    pythons = {}
    for pair in pairs or []:
        framework, equals, path = pair.partition("=")
        if not equals or not path:
            fail(f"--python takes FRAMEWORK=PATH, not {pair!r}")
        if is_requirements(path):
            if not os.path.isfile(path):
                fail(f"--python {framework}: there is no file {path} of packages")
            path = os.path.abspath(path)
        elif not os.access(path, os.X_OK):
            fail(f"--python {framework}: {path} is not an interpreter that can be run")
        pythons[framework] = path
    return pythons


def check_device(device: str) -> None:
    """End the command if there is no such device."""
    from parity.frameworks import DEVICES

    if device not in DEVICES:
        fail(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")


def matrix_of(
    suite: str | None,
    out: Path,
    cases: list[str] | None,
    *,
    dtype: list[str] | None = None,
    device: str = "cpu",
    python: list[str] | None = None,
    **options: Any,
) -> Matrix:
    """The matrix that a command's options ask for; ``options`` go to ``running.cells.Options`` as they are."""
    from parity.dtypes import DTYPES, KNOWN
    from parity.running.cells import Options
    from parity.running.matrix import Matrix

    for name in dtype or ():
        if name not in KNOWN:
            fail(f"unknown dtype {name!r}: choose one of {', '.join(KNOWN)}")
    check_device(device)
    wanted = Options(
        find_suite(suite),
        out,
        cases or (),
        dtypes=dtype or DTYPES,
        device=device,
        pythons=interpreters(python),
        **{name: value for name, value in options.items() if value is not None},
    )
    return Matrix(wanted, partial(check_writable, out), storage_of(out))
