"""The names of a recorded run's files and folders: one grammar, read and written only here."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.dtypes import KNOWN, NARROW
from parity.recording.format import MANIFEST
from parity.trajectory import Trajectory, TrajectoryError


def floor_name(folder: str, lockstep: int | None, dtype: str) -> str:
    """The name of the file of a case's floors. float32 and float64 share a file; each narrow dtype has its own."""
    stretch = f"-lockstep{lockstep}" if lockstep else ""
    return folder + stretch + (f"-{dtype}" if dtype in NARROW else "") + ".safetensors"


def partial_path(folder: str | os.PathLike[str]) -> Path:
    """The folder in which a run is written until it is complete and moves to ``folder``."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.partial")


def failure_path(folder: Path) -> Path:
    """The file with the reason why the last attempt at a run failed. A run in ``folder`` is then an older one."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.failed")


def keep_failure(folder: Path, reason: str) -> None:
    """Write down the reason why a run failed; remove an earlier reason if ``reason`` is "".

    Where there is no room for the reason, its file is left empty: that alone says that the run failed.
    """
    path = failure_path(folder)
    if reason:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch = path.with_name(f"{path.name}.tmp")
            scratch.write_text(reason, encoding="utf-8", errors="backslashreplace")
            scratch.replace(path)
        except OSError:
            path.touch()
    else:
        path.unlink(missing_ok=True)


def kept_failure(folder: Path) -> str:
    """The reason why the last attempt at a run failed; "" if it did not fail."""
    path = failure_path(folder)
    try:
        with path.open("rb") as file:
            found = " ".join(file.read(4096).decode(errors="replace").split())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no mark can lie beside such a folder
            return ""
        return f"{path.name} cannot be read: {error.strerror}"
    return found or f"{path.name} is empty: there may have been no room for the reason"


CHECKED = "checked"
"""The dtype in the folder name of the reference's own check: see ``parity.running.jobs``."""
EXPLANATION = "explanation.json"
EXPLANATION_BYTES = 1 << 20
"""The size of the largest explanation that is read."""


def folder_name(implementation: str, dtype: str, device: str, lockstep: int | None = None) -> str:
    """The name of a run's folder within the folder of its case."""
    return f"{implementation}-{dtype}-{device}" + (f"-lockstep{lockstep}" if lockstep else "")


def keep_explanation(folder: Path, reason: str, explanation: Mapping[str, Any]) -> None:
    """Write an explanation of the judgement that gave ``reason`` beside its run. A new recording removes it."""
    text = json.dumps({"of": reason, "explanation": explanation}, indent=1) + "\n"
    path = folder / EXPLANATION
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def kept_explanation(folder: Path, reason: str) -> dict[str, Any] | None:
    """Read the explanation that ``parity run`` left of the judgement that gave ``reason``; None if there is none."""
    path = folder / EXPLANATION
    try:
        if path.is_symlink() or path.stat().st_size > EXPLANATION_BYTES:
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("of") != reason:
        return None
    explanation = found.get("explanation")
    whole = isinstance(explanation, dict) and isinstance(explanation.get("sentence"), str)
    return explanation if whole else None


RUN = re.compile(rf"(?P<implementation>.+)-(?P<dtype>{'|'.join((*KNOWN, CHECKED))})-(?P<device>[^-]+)")
LOCKSTEP = re.compile(r"(?P<run>.+)-lockstep(?P<length>[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Place:
    """A run's folder and the parts of its name. A user's own recording may have any name."""

    folder: Path
    implementation: str
    dtype: str
    device: str

    def beside(self, name: str) -> Path:
        return self.folder.with_name(name)


def is_run(path: Path) -> bool:
    """Say whether a folder holds a run, or has the name of one."""
    named = RUN.fullmatch(LOCKSTEP.sub(r"\g<run>", path.name))
    return not path.name.startswith(".") and ((path / MANIFEST).exists() or named is not None)


def agrees_with_its_name(place: Place, run: Trajectory) -> None:
    """Refuse a run whose metadata contradict the name of its folder: TrajectoryError."""
    says = {"dtype": place.dtype, "device": place.device, "case": place.folder.parent.name}
    if RUN.fullmatch(place.folder.name):
        says["implementation"] = place.implementation
    for key, named in says.items():
        if run.meta.get(key, named) != named:
            raise TrajectoryError(
                f"{place.folder}: says of itself that its {key} is {run.meta[key]!r:.80}: give it its own name back"
            )
