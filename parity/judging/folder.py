"""Judge a folder of recorded runs as ``parity run`` does: from the files there, without any framework."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from parity.dtypes import KNOWN
from parity.judging.cell import Runs, judge_cell
from parity.judging.floors.known import Known, Mark
from parity.judging.outcome import Outcome
from parity.recording.format import MANIFEST
from parity.recording.limits import FOLDER, Budget
from parity.recording.places import CHECKED, LOCKSTEP, RUN, Place
from parity.suite import Suite, rank
from parity.trajectory import TrajectoryError


def recorded(root: Path, suite: Suite, mark: Mark | None = None) -> list[Outcome]:
    """Judge every run below ``root``, the folder of ``--out``; in the suite's order, then by name.

    ``mark`` gives the mark of a case's noise floor today: see ``Known``. A run that is damaged, unfinished or has no
    reference beside it is INCONCLUSIVE and says why. TrajectoryError if ``root`` holds no runs.
    """
    if not root.is_dir():
        raise TrajectoryError(f"{root} is not a folder: name the folder of runs that 'parity run --out' wrote")
    if (root / MANIFEST).exists():
        raise TrajectoryError(f"{root} is one trajectory: name the folder of runs, as 'parity run --out' does")
    outcomes = _all_below(root, Known(suite, mark), suite)
    if not outcomes:
        own = sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}") if not path.parent.name.startswith("."))
        if own:
            some, two = ", ".join(own[:4]) + (", …" if len(own) > 4 else ""), [str(root / name) for name in own[:2]]
            raise TrajectoryError(
                f"{root} holds recordings of your own ({some}), and a report is of a suite's cases: hold two of them "
                f"against each other with 'parity diff {' '.join(two)}', and 'parity explain' where they part"
            )
        raise TrajectoryError(f"{root} holds no recorded runs: 'parity run --out {root}' makes some")
    return in_order(outcomes, suite)


def whole_folder(root: Path, suite: Suite, outcomes: Sequence[Outcome], mark: Mark | None = None) -> list[Outcome]:
    """Add the outcomes of all other runs below ``root`` to the ``outcomes`` of runs that were judged already.

    Those runs are not read again.
    """
    done = {(outcome.folder, outcome.implementation, outcome.dtype, outcome.device) for outcome in outcomes}
    return in_order([*outcomes, *_all_below(root, Known(suite, mark), suite, done)], suite)


def in_order(outcomes: list[Outcome], suite: Suite) -> list[Outcome]:
    """Sort outcomes for a reader: by the suite's cases, then implementation, dtype and device."""
    case_order = {name: place for place, name in enumerate(suite.entries)}
    dtype_order = {name: place for place, name in enumerate(KNOWN)}
    return sorted(
        outcomes,
        key=lambda o: (
            case_order.get(o.case, len(case_order)),
            o.folder,
            o.implementation != suite.reference,
            rank(o.implementation),
            dtype_order.get(o.dtype, len(dtype_order)),
            o.device,
        ),
    )


def _all_below(root: Path, known: Known, suite: Suite, done: Collection[tuple[str, ...]] = ()) -> list[Outcome]:
    """Judge every run below ``root`` except those in ``done``."""
    outcomes, budget = [], Budget(FOLDER)
    try:
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                runs = Runs(folder, known, suite.reference, known.entry(folder.name), budget)
                for place in _places(runs):
                    if (folder.name, place.implementation, place.dtype, place.device) not in done:
                        outcomes.append(replace(judge_cell(runs, place), cached=True))
    except OSError as error:
        raise TrajectoryError(f"{str(error.filename or root)!r}: cannot be read: {error.strerror}") from error
    return outcomes


def _places(runs: Runs) -> Iterator[Place]:
    for name in runs.names:
        lockstep = LOCKSTEP.fullmatch(name)
        if lockstep is not None and RUN.fullmatch(lockstep["run"]):
            continue  # Judged with the free run that it belongs to.
        named = RUN.fullmatch(name)
        if named is None:
            yield _own(runs, name)
        elif named["dtype"] != CHECKED:
            yield Place(runs.folder / name, named["implementation"], named["dtype"], named["device"])


def _own(runs: Runs, name: str) -> Place:
    """The place of a run under a name of the user's own; dtype and device are those that the run declares."""
    try:
        meta = runs.read(runs.folder / name).meta
    except TrajectoryError:
        return Place(runs.folder / name, name, "?", "?")
    return Place(runs.folder / name, name, meta["dtype"], meta.get("device", "?"))
