"""What a recording says of itself: ``trajectory.json``, read and checked before anything that it names is opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parity.recording.files import read_whole
from parity.recording.format import (
    FLOATS,
    MANIFEST,
    MANIFEST_BYTES,
    SCHEMA,
    SHA256,
    SHARD_NAME,
    SHARD_OPTIONAL,
    VALUES,
    VERSION,
    check_optional,
    counted,
)
from parity.recording.places import partial_path
from parity.trajectory import TrajectoryError


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``trajectory.json``. TrajectoryError if it lacks a required key or a value is not allowed."""
    path = folder / MANIFEST
    try:
        data = read_whole(path, MANIFEST_BYTES, folder)
    except (FileNotFoundError, NotADirectoryError):
        raise missing(folder, MANIFEST) from None
    meta = parsed(data, path)

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}")

    if not isinstance(meta, dict):
        raise TrajectoryError(f"{path}: must hold a JSON object")
    require(meta.get("schema") == SCHEMA, f"schema must be {SCHEMA!r}, not {meta.get('schema')!r:.80}")
    version = meta.get("version")
    require(type(version) is int, f"version must be an integer, not {version!r:.80}")
    require(version == VERSION, f"is version {version!s:.20} of the format, this program reads {VERSION}: update it")
    require(type(meta.get("complete")) is bool, "complete must be true or false")
    dtype = meta.get("dtype")
    require(isinstance(dtype, str) and dtype in FLOATS, f"dtype must be {' or '.join(FLOATS)}, not {dtype!r:.80}")
    check_optional(meta, path)
    require(isinstance(meta.get("shards"), list), "shards must be a list")
    names = set()
    for entry in meta["shards"]:
        require(isinstance(entry, dict), "each shard must be an object with file and sha256")
        name, checksum = entry.get("file"), entry.get("sha256")
        good = isinstance(name, str) and bool(SHARD_NAME.fullmatch(name))
        require(good, f"shard file {name!r:.80} must be a plain name that ends in .safetensors, in this folder")
        good = isinstance(checksum, str) and bool(SHA256.fullmatch(checksum))
        require(good, f"the sha256 of {name} must be 64 lower-case hexadecimal digits")
        for key in SHARD_OPTIONAL:
            require(counted(entry.get(key, 0)), f"{key} of {name} must be an integer from 0 on")
        require(name not in names, f"names the shard {name} twice")
        names.add(name)
    return meta


def parsed(data: bytes, where: Path) -> Any:
    """Parse JSON without trust: TrajectoryError, which names ``where``, if it is not clean or holds too many values."""
    try:
        # Each value but the first is after one of these: an array of empty arrays would take 50 times its text.
        if sum(map(data.count, (b",", b"[", b"{"))) > VALUES:
            raise ValueError(f"more than {VALUES:,} values")
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        what = "too deeply nested" if isinstance(error, RecursionError) else error
        raise TrajectoryError(f"{where}: is no valid JSON ({what}): record the run again") from error


def missing(folder: Path, name: str) -> TrajectoryError:
    """Say that a file of a recording is not there, and where else the run may be."""
    hint = "copy the folder whole or record the run again"
    if name == MANIFEST and (partial_path(folder) / MANIFEST).is_file():
        hint = f"a run that was not finished is in {partial_path(folder)}"
    return TrajectoryError(f"{folder / name}: is missing: {hint}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
