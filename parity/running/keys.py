"""What a recorded run or a noise floor depends on, as a hash: under the same key it need not be made again."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from parity import __version__
from parity.spec import Case
from parity.suite import Entry, Suite, SuiteError

WORDS = ("dtypes", "frameworks", "layout", "schedules", "spec", "tolerance", "trainer", "trajectory", "typing")
"""The modules at the root of the harness that a run depends on."""
ROOMS = ("nn", "recording", "running", "trainers")
"""The rooms of the harness that a run depends on, whole."""


def _harness() -> list[Path]:
    root = Path(__file__).parent.parent
    rooms = [path for room in ROOMS for path in sorted((root / room).rglob("*.py"))]
    # Lockstep and the reference's own check are runs of their own kind.
    return [*(root / f"{name}.py" for name in WORDS), root / "judging" / "noise.py", *rooms]


@cache
def harness_code(*paths: Path) -> str:
    """A hash of the sources that a run's result depends on: the harness's part in training, and the given files."""
    digest = hashlib.sha256(__version__.encode())
    for path in (*_harness(), *paths):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def fingerprint(case: Case, epochs: int, exact: bool = True) -> str:
    """What a run of the case depends on beside code and versions, as a SHA-256 in hexadecimal.

    ``exact`` covers every byte of the data and of the initial parameters. Without it arrays count by shape and by
    the sum of their magnitudes to six digits, which is the same on machines whose sine differs in the last bit.
    """
    digest = hashlib.sha256()
    try:
        data = case.data()
    except (OSError, ValueError) as error:
        raise SuiteError(f"the data of {case.name}: {error}") from error
    arrays = {"x": data.x, "y": data.y, "x_test": data.x_test, "y_test": data.y_test, **case.initial()}
    for name, array in arrays.items():
        if array is None:
            continue
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        if exact:
            digest.update(np.ascontiguousarray(array).data)
        else:
            digest.update(f"{np.nansum(np.abs(array), dtype=np.float64):.5e}".encode())
    digest.update(repr((case.name, case.loss, case.optimizer, case.schedule, case.every, epochs)).encode())
    if case.metrics:  # a noise floor holds theirs, too
        digest.update(repr([(metric.name, metric.split) for metric in case.metrics]).encode())
    return digest.hexdigest()


def mark(suite: Suite, entry: Entry, epochs: int) -> str:
    """What a noise floor of the case bears: a hash of what it is measured on, with the reference's own code.

    Not with the harness's part in it, ``parity.tolerance`` and the trainer: whoever changes how floors are measured
    calls 'parity floor --fresh'. What is shipped must fit on other machines: there the data are not taken exactly.
    """
    shipped = suite.floors is not None and entry.file is None
    digest = hashlib.sha256(fingerprint(entry.case, epochs, exact=not shipped).encode())
    for path in entry.sources(suite.reference) if suite.reference in entry.implementations else ():
        # The spec counts by what it says, in the fingerprint.
        if path != entry.spec and path.name != "__init__.py":
            digest.update(source_code(path.read_bytes()))
    return digest.hexdigest()


def source_code(source: bytes) -> bytes:
    """What a source says to the interpreter: without comments, docstrings and layout, in every version of Python alike.

    As it stands where it is no Python.
    """

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            texts = [isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in node]
            return [plain(one) for one, text in zip(node, texts, strict=True) if not text]
        if not isinstance(node, ast.AST):
            return node
        # Versions differ in which empty fields they have.
        return type(node).__name__, [(k, plain(v)) for k, v in ast.iter_fields(node) if v is not None and v != []]

    try:
        return repr(plain(ast.parse(source))).encode()
    except (SyntaxError, ValueError, RecursionError):  # no Python, or more deeply nested than a function can go
        return source
