"""Turn a command's options into what they ask for: the suite, the interpreters, the matrix."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parity.cli.options import SUITE
from parity.cli.output import check_writable, fail

if TYPE_CHECKING:
    from parity.judging.known import Known
    from parity.running.matrix import Matrix
    from parity.suite import Suite


def find_suite(name: str) -> Suite:
    """The suite of that name; SuiteError says why it cannot be had."""
    from parity.suite import load_suite

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # A user's own suite is found from where the command is called.
    return load_suite(name)


def known_suite(name: str) -> Known:
    """What the suite of that name knows of recordings; nothing where the default one is not here, as in no clone."""
    from parity.judging.known import NOTHING, Known
    from parity.running.keys import mark
    from parity.suite import SuiteError

    try:
        return Known(find_suite(name), mark)
    except SuiteError:
        if name != SUITE or find_spec(name) is not None:
            raise
        return NOTHING


def interpreters(pairs: list[str] | None) -> dict[str, str]:
    """Framework to interpreter, from ``FRAMEWORK=PATH`` as ``--python`` takes it."""
    pythons = {}
    for pair in pairs or []:
        framework, equals, path = pair.partition("=")
        if not equals or not path:
            fail(f"--python takes FRAMEWORK=PATH, not {pair!r}")
        if not os.access(path, os.X_OK):
            fail(f"--python {framework}: {path} is not an interpreter that can be run")
        pythons[framework] = path
    return pythons


def check_device(device: str) -> None:
    """End the command if there is no such device."""
    from parity.frameworks import DEVICES

    if device not in DEVICES:
        fail(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")


def matrix_of(
    suite: str,
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
    matrix = Matrix(wanted)
    check_writable(out)
    return matrix
