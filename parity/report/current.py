"""Whether a page on disk is still the one that its outcomes make: making it anew takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from parity import __version__
from parity.judging.outcome import Outcome
from parity.recording.files import opened
from parity.suite import Entry
from parity.trajectory import TrajectoryError

PACKAGES = ("plotly", "pygments")
"""The packages that this page needs beyond those that every page needs."""


def fingerprint(outcomes: Sequence[Outcome]) -> str:
    """What a page of these outcomes depends on, as a SHA-256 in hexadecimal.

    That is the harness's own code, the packages that draw and colour, the sources that the page shows, and of each
    outcome what was judged and what its run and its reference say of themselves, checksums included.
    """
    digest = hashlib.sha256(repr([__version__, *((name, version(name)) for name in PACKAGES)]).encode())
    entries = {o.entry.spec: o.entry for o in outcomes if o.entry is not None}
    shown = [path for entry in entries.values() for path in sources_of(entry).values()]
    for path in (*_harness(), *shown):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    for o in outcomes:
        runs = [sorted(run.meta.items()) for run in (o.run, o.reference) if run is not None]
        judged = (o.judgement, o.explanation, o.checked, o.figures)
        digest.update(repr((o.folder, o.implementation, o.dtype, o.device, runs, judged)).encode(errors="replace"))
    return digest.hexdigest()


def _harness() -> list[Path]:
    """Every file of the harness that a page may draw from: what a list by hand left out would go unnoticed."""
    root = Path(__file__).parent.parent
    found = [path for path in sorted(root.rglob("*")) if path.suffix in (".py", ".html", ".js")]
    return [path for path in found if "tests" not in path.relative_to(root).parts]


def sources_of(entry: Entry) -> dict[str, Path]:
    """The files that the page shows of a case, by what it calls them."""
    return {label: one.path for label, one in entry.implementations.items()} | {"the case": entry.spec}


def is_current(path: Path, mark: str) -> bool:
    """Whether a file holds the page whose ``fingerprint`` is ``mark``."""
    try:
        with opened(path, path.parent) as file:
            return f'content="{mark}"'.encode() in file.read(4096)
    except (OSError, TrajectoryError):
        return False
