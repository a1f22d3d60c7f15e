"""The shards that a Hugging Face index names, each tensor in the one that the index says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from parity.recording.artefacts.artefact import Artefact, Entry, checkpoint
from parity.recording.files import read_whole
from parity.recording.format import MANIFEST_BYTES
from parity.recording.manifest import parsed
from parity.trajectory import TrajectoryError

Entries = tuple[dict[str, Entry], dict[str, str]]
"""Tensors by name, and of those that were left out, why."""


def read_index(path: Path, ending: str, read: Callable[[Path, Path], Entries]) -> Artefact:
    """Read the tensors that an index names. TrajectoryError if one is not in its shard.

    ``read`` reads a shard, which lies in the index's folder and whose name has this ``ending``.
    """
    index = parsed(read_whole(path, MANIFEST_BYTES, path.parent), path)
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise TrajectoryError(f"{path}: has no weight_map of tensors to files: download it again")
    found: dict[str, Entry] = {}
    notes: dict[str, str] = {}
    for file in dict.fromkeys(places.values()):
        if file != Path(file).name or not file.endswith(ending) or not file.isprintable():
            raise TrajectoryError(f"{path}: names {file!r:.80}, which is no plain name of a {ending} file beside it")
        try:
            entries, left = read(path.parent / file, path.parent)
        except FileNotFoundError:
            raise TrajectoryError(
                f"{path}: names {file!r:.80}, which is not there: download the folder whole"
            ) from None
        found |= {name: entry for name, entry in entries.items() if places.get(name) == file}
        notes |= left
    if gone := sorted(name for name in places if name not in found and name not in notes):
        raise TrajectoryError(f"{path}: {gone[0]!r:.80} is not in the shard that it names: download the folder again")
    return checkpoint(path, f"Hugging Face checkpoint in {ending} shards", found, notes.values())
