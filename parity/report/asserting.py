"""One line in a test: two recorded runs train alike, or the test says where and why they do not."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from rich.console import Console

from parity.explaining.folders import SET_OTHERWISE, explain_folders
from parity.judging.diff import Comparison
from parity.judging.floors.known import NOTHING
from parity.judging.verdict import Verdict
from parity.report.terminal import as_text, print_explanation, print_lines, print_preflight
from parity.suite import Entry, SuiteError

Folder = str | PathLike[str]


def assert_same_training(
    a: Folder,
    b: Folder,
    *,
    accept: Sequence[str] = (),
    noise: Sequence[Folder] = (),
    map: Folder | None = None,
) -> Comparison:
    """Assert that two recorded runs train alike; needs neither pytest nor its plugin.

    Args:
        a: The folder of a recorded run, or a checkpoint.
        b: The run that it is held against, likewise.
        accept: Names of known departures that may differ, as ``parity.compare`` takes them.
        noise: Folders of repetitions of either run with its roundings stirred, for runs without a noise floor.
        map: A file of pairings of tensors, as ``parity match --json`` writes it, which are taken as they are.

    Returns:
        The comparison, whose verdict is PASS. Where layers are set otherwise all the same, a warning says so.

    Raises:
        AssertionError: If something differs, or could not be compared. The message is what ``parity explain`` prints:
            the verdict, how many tensors were matched, the update, phase and layer that part, and why.
        TrajectoryError: If a run cannot be read.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> from parity import assert_same_training
        >>> from parity.recording.writer import write
        >>> root = Path(tempfile.mkdtemp())
        >>> for name, bias in (("torch", 0.0), ("flax", 0.0), ("wrong", 0.5)):
        ...     write(root / name, np.arange(2), np.ones((1, 3)), {"dense/bias": np.full((2, 4), bias)})
        >>> assert_same_training(root / "torch", root / "flax").judgement.ratio
        0.0
        >>> try:
        ...     assert_same_training(root / "wrong", root / "flax")
        ... except AssertionError as error:
        ...     print(str(error).splitlines()[1])
        first differs at epoch 0: dense/bias[0] is 0.5, the reference has 0; the difference 0.5 exceeds 3.55e-15
    """
    __tracebackhide__ = True  # pytest then shows the test's own line
    paths = Path(a), Path(b)
    repetitions = [Path(folder) for folder in noise]
    found, explanation = explain_folders(
        NOTHING, *paths, repetitions, None, _no_case, accept, Path(map) if map is not None else None
    )
    if found.judgement.verdict is not Verdict.PASS:
        raise AssertionError(message(found, explanation))
    for note in found.notes:
        if note.startswith(SET_OTHERWISE):
            warnings.warn(f"{found.a} against {found.b}: {note}", stacklevel=2)
    return found


def message(found: Comparison, explanation: Mapping[str, Any] | None) -> str:
    """Say in plain text why two runs do not pass, and how to see more.

    Args:
        found: The comparison.
        explanation: ``Explanation.as_json()`` of what differs; None if nothing was found to differ.
    """
    title = f"{found.a} against {found.b}"

    def show(console: Console) -> None:
        print_explanation(console, title, found.judgement, explanation)
        console.print()
        print_lines(console, (f"note: {note}" for note in found.notes))
        print_preflight(console, [(title, found.preflight)])
        print_lines(console, [f"see all of it: parity explain {found.a} {found.b} --page explained.html"])

    return as_text(show).rstrip()


def _no_case(entry: Entry, second: bool) -> Mapping[str, Any]:
    raise SuiteError("a test knows no suite of cases")
