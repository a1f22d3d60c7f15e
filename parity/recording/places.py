"""Every file and folder name of a recorded run: one grammar, read and written here alone."""

from __future__ import annotations

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
    """What the file of a case's floor is called: the narrow dtypes have one each, float32 and float64 share theirs."""
    stretch = f"-lockstep{lockstep}" if lockstep else ""
    return folder + stretch + (f"-{dtype}" if dtype in NARROW else "") + ".safetensors"


def partial_path(folder: str | os.PathLike[str]) -> Path:
    """Where a run that is to end in ``folder`` is written until it is complete."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.partial")


def failure_path(folder: Path) -> Path:
    """Where it is kept why the last attempt at a run failed: what an earlier one left there is not its result."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.failed")


def keep_failure(folder: Path, reason: str) -> None:
    """Leave why a run failed, or take that away where ``reason`` is "" because it did not."""
    path = failure_path(folder)
    if reason:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(reason, encoding="utf-8", errors="backslashreplace")
    else:
        path.unlink(missing_ok=True)


def kept_failure(folder: Path) -> str:
    """Why the last attempt at a run failed; "" where it did not."""
    try:
        with failure_path(folder).open("rb") as file:
            return " ".join(file.read(4096).decode(errors="replace").split())
    except OSError:
        return ""


CHECKED = "checked"
"""The dtype under which the reference's own check is recorded: see ``parity.running.jobs``."""
EXPLANATION = "explanation.json"
EXPLANATION_BYTES = 1 << 20


def folder_name(implementation: str, dtype: str, device: str, lockstep: int | None = None) -> str:
    """The name of a run's folder, within its case's."""
    return f"{implementation}-{dtype}-{device}" + (f"-lockstep{lockstep}" if lockstep else "")


def keep_explanation(folder: Path, reason: str, explanation: Mapping[str, Any]) -> None:
    """Leave an explanation of the judgement that gave ``reason`` beside its run; a new recording takes it away."""
    text = json.dumps({"of": reason, "explanation": explanation}, indent=1) + "\n"
    path = folder / EXPLANATION
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return
    scratch = path.with_name(f".{path.name}.partial")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(path)


def kept_explanation(folder: Path, reason: str) -> dict[str, Any] | None:
    """The explanation that ``parity run`` left of the judgement that gave ``reason``, None where there is none."""
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
    """A run's folder, and what its name says. A run that a user recorded may have any name."""

    folder: Path
    implementation: str
    dtype: str
    device: str

    def beside(self, name: str) -> Path:
        return self.folder.with_name(name)


def is_run(path: Path) -> bool:
    """Whether a folder holds a run, or by its name should."""
    named = RUN.fullmatch(LOCKSTEP.sub(r"\g<run>", path.name))
    return not path.name.startswith(".") and ((path / MANIFEST).exists() or named is not None)


def agrees_with_its_name(place: Place, run: Trajectory) -> None:
    """TrajectoryError for a run that says of itself that it is another one than its folder's name says."""
    says = {"dtype": place.dtype, "device": place.device, "case": place.folder.parent.name}
    if RUN.fullmatch(place.folder.name):
        says["implementation"] = place.implementation
    for key, named in says.items():
        if run.meta.get(key, named) != named:
            raise TrajectoryError(
                f"{place.folder}: says of itself that its {key} is {run.meta[key]!r:.80}: give it its own name back"
            )
