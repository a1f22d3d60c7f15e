"""The names of a recorded run's files and folders: one grammar, read and written only here."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parity.dtypes import KNOWN, NARROW
from parity.recording.files import NEW, opened, read_whole, remove, write_whole
from parity.recording.format import MANIFEST
from parity.trajectory import Trajectory, TrajectoryError


def floor_name(folder: str, lockstep: int | None, dtype: str) -> str:
    """The name of the file of a case's floors. float32 and float64 share a file; each narrow dtype has its own."""
    stretch = f"-lockstep{lockstep}" if lockstep else ""
    return folder + stretch + (f"-{dtype}" if dtype in NARROW else "") + ".safetensors"


def stretch_name(floor: str, start: int | str) -> str:
    """The name of the file of the floors of one stretch, which begins after ``start`` epochs, beside the file ``floor``
    of its case in lockstep."""
    return floor.removesuffix(".safetensors") + f"{FROM}{start}.safetensors"


def partial_path(folder: str | os.PathLike[str]) -> Path:
    """The folder in which a run is written until it is complete and moves to ``folder``."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.partial")


def old_path(folder: str | os.PathLike[str]) -> Path:
    """Where an earlier result waits while another moves to ``folder``."""
    folder = Path(os.path.abspath(folder))
    return folder.with_name(f".{folder.name}.old")


def put_in_place(source: Path, target: Path) -> None:
    """Move a file or a folder to its place: a reader sees the earlier one there or the new one, whole.

    An earlier folder waits at ``old_path`` meanwhile, and is taken away.
    """
    old = old_path(target)
    if target.is_dir() or source.is_dir():
        remove(old)
        with contextlib.suppress(FileNotFoundError):
            os.rename(target, old)
    os.replace(source, target)
    remove(old)


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
            write_whole(path, reason[:FAILURE_BYTES].encode(errors="backslashreplace"))
        except OSError:
            _mark_failed(path)
    elif os.path.lexists(path):  # a folder that is read-only refuses to remove even what is not there
        path.unlink(missing_ok=True)


def _mark_failed(path: Path) -> None:
    """Leave an empty mark of a failure where there is no mark. A link that lies there is taken away, not followed."""
    if path.is_symlink():
        path.unlink()
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, NEW, 0o666))


def kept_failure(folder: Path) -> str:
    """The reason why the last attempt at a run failed; "" if it did not fail.

    A mark that cannot be read, or says no reason, is the mark of a failure all the same.
    """
    path = failure_path(folder)
    try:
        with opened(path, path.parent) as file:
            reason = " ".join(file.read(FAILURE_BYTES).decode(errors="replace").split())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        # No such mark can lie beside a folder whose name leaves no room for its own.
        return "" if error.errno == errno.ENAMETOOLONG else f"{path.name}: cannot be read: {error.strerror}"
    except TrajectoryError as error:
        return str(error)
    return reason or f"{path.name} is empty: its reason could not be written"


FAILURE_BYTES = 4096
"""So much of the reason why a run failed is kept, and read."""
FROM = "-from"
"""In the name of a file of floors, before the epochs after which the stretch begins that they are of."""
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
    data = text.encode(errors="backslashreplace")
    with contextlib.suppress(OSError, TrajectoryError):
        if read_whole(folder / EXPLANATION, EXPLANATION_BYTES, folder) == data:
            return
    write_whole(folder / EXPLANATION, data, folder.parent)


def kept_explanation(folder: Path, reason: str) -> dict[str, Any] | None:
    """Read the explanation that ``parity run`` left of the judgement that gave ``reason``; None if there is none."""
    try:
        found = json.loads(read_whole(folder / EXPLANATION, EXPLANATION_BYTES, folder))
    except (OSError, ValueError, RecursionError):  # a TrajectoryError is a ValueError
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
