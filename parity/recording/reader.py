"""Read a run from its folder, and check everything in it before use."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from parity.recording.format import (
    FLOATS,
    HEADER_BYTES,
    MANIFEST,
    MANIFEST_BYTES,
    SCHEMA,
    SHA256,
    SHARD_NAME,
    SHARD_OPTIONAL,
    STORED,
    TENSOR_NAME,
    VERSION,
    check_optional,
)
from parity.recording.places import partial_path
from parity.trajectory import Shards, Trajectory, TrajectoryError, Widened
from parity.typing import Array


def read(folder: str | os.PathLike[str], partial: bool = False) -> Trajectory:
    """Read a recorded run from its folder, whoever wrote it.

    Nothing in the folder is trusted: names, shapes and checksums are checked, and nothing is unpickled. Parameters stay
    on disk, mapped, until they are sliced. Values that are not finite are no defect here.

    Args:
        folder: The folder that holds ``trajectory.json``.
        partial: Whether to read a run that was not finished.

    Returns:
        The run, with parameters in the declared dtype, bfloat16 in float32.

    Raises:
        TrajectoryError: If anything is missing, damaged or not of the format. The message names the file and says what
            to do.

    Examples:
        >>> import numpy as np
        >>> from parity import Recorder, read
        >>> with Recorder("runs/one", "float32") as run:
        ...     run.snapshot({"dense/bias": np.zeros(3, np.float32)})
        >>> read("runs/one").params["dense/bias"].shape
        (1, 3)
    """
    folder = Path(folder)
    try:
        meta = read_manifest(folder)
        if not meta["complete"] and not partial:
            raise TrajectoryError(
                f"{folder}: this run was not finished: run it again, or read what there is of it in Python, with "
                "parity.read(folder, partial=True)"
            )
        if not meta["shards"]:
            raise TrajectoryError(f"{folder / MANIFEST}: names no shard: record the run again")
        # Checksums take most of the time, so several threads compute them.
        with ThreadPoolExecutor() as pool:
            shards = list(pool.map(lambda entry: _read_shard(folder, entry, meta["dtype"]), meta["shards"]))
    except OSError as error:
        # As a literal, so that any file name leaves the message on one line.
        raise TrajectoryError(f"{str(error.filename or folder)!r}: cannot be read: {error.strerror}") from error
    _check_sequence(folder, meta, shards)
    names = list(shards[0])
    stacks = {name: [shard[name] for shard in shards] for name in names if name.startswith(("params/", "metrics/"))}
    losses = [shard["loss"] for shard in shards if len(shard["loss"])]
    return Trajectory(
        meta,
        np.concatenate([shard["epochs"] for shard in shards]),
        np.concatenate(losses) if losses else shards[0]["loss"],
        {
            name.removeprefix("params/"): pieces[0] if len(pieces) == 1 else Shards(pieces)
            for name, pieces in stacks.items()
            if name.startswith("params/")
        },
        {
            name.removeprefix("metrics/"): np.concatenate(pieces)
            for name, pieces in stacks.items()
            if name.startswith("metrics/")
        },
        {
            name.removeprefix("steps/"): value
            for shard in shards
            for name, value in shard.items()
            if name.startswith("steps/")
        },
    )


def _inside(folder: Path, name: str) -> Path:
    """Resolve the path of a file in ``folder``. TrajectoryError if a link leads out of it or there is no such file."""
    path = folder / name
    try:
        target, root = path.resolve(), folder.resolve()
    except RuntimeError as error:
        raise TrajectoryError(f"{path}: is a link that leads back to itself: replace it by the file") from error
    if not target.is_relative_to(root):
        raise TrajectoryError(f"{path}: is a link that leaves the folder: replace it by the file")
    if not target.is_file():
        there = "is no regular file" if target.exists() else "is missing"
        hint = "copy the folder whole or record the run again"
        if name == MANIFEST and (partial_path(folder) / MANIFEST).is_file():
            hint = f"a run that was not finished is in {partial_path(folder)}"
        raise TrajectoryError(f"{path}: {there}: {hint}")
    return target


def superseded(folder: Path, run: Trajectory) -> bool:
    """Say whether a newer run was begun beside a finished one, from other code or settings as far as one can tell."""
    newer, key = partial_path(folder), run.meta.get("key")
    try:
        return newer.exists() and (read(newer, partial=True).meta.get("key") != key or key is None)
    except TrajectoryError:
        return False  # No snapshot of it was recorded yet.


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice")
    return result


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _parse(data: bytes, where: Path | str) -> Any:
    try:
        return json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        what = "too deeply nested" if isinstance(error, RecursionError) else error
        raise TrajectoryError(f"{where}: is no valid JSON ({what}): record the run again") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read ``trajectory.json``. TrajectoryError if it lacks a required key or a value is not allowed."""
    path = folder / MANIFEST
    with open(_inside(folder, MANIFEST), "rb") as file:
        data = file.read(MANIFEST_BYTES + 1)
    if len(data) > MANIFEST_BYTES:
        raise TrajectoryError(f"{path}: is larger than {MANIFEST_BYTES >> 20} MiB: this is no trajectory of ours")
    meta = _parse(data, path)

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
    for entry in meta["shards"]:
        require(isinstance(entry, dict), "each shard must be an object with file and sha256")
        name, checksum = entry.get("file"), entry.get("sha256")
        good = isinstance(name, str) and bool(SHARD_NAME.fullmatch(name))
        require(good, f"shard file {name!r:.80} must be a plain name that ends in .safetensors, in this folder")
        good = isinstance(checksum, str) and bool(SHA256.fullmatch(checksum))
        require(good, f"the sha256 of {name} must be 64 lower-case hexadecimal digits")
        for key in SHARD_OPTIONAL:
            good = type(entry.get(key, 0)) is int and entry.get(key, 0) >= 0
            require(good, f"{key} of {name} must be an integer from 0 on")
    return meta


def _read_shard(folder: Path, entry: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Map one shard and give its tensors by name. TrajectoryError if the file or a tensor by itself is unsound."""
    path = folder / entry["file"]
    target = _inside(folder, entry["file"])

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise TrajectoryError(f"{path}: {what}: copy the file anew or record the run again")

    with open(target, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        expected = entry.get("bytes", size)
        require(size == expected, f"has {size} bytes where {MANIFEST} says {expected}")
        require(size > 8, "is too short for a safetensors file")
        require(hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"], "does not match its checksum")
        mapped = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
    length = int.from_bytes(mapped[:8], "little")
    require(length <= HEADER_BYTES, f"its header claims {length} bytes, more than {HEADER_BYTES >> 20} MiB")
    try:
        # safetensors checks types, bounds, gaps and overlaps. Its arrays would be copies, so the file is mapped too.
        with safe_open(target, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise TrajectoryError(f"{path}: is no valid safetensors file ({reason:.200}): record the run again") from error
    header = _parse(mapped[8 : 8 + length], path)

    tensors = {}
    for name, tensor in header.items():
        if name == "__metadata__":
            continue
        require(bool(TENSOR_NAME.fullmatch(name)), f"tensor name {name!r:.80} is not one of this format's")
        code, shape = tensor["dtype"], tensor["shape"]
        group = name.split("/", 1)[0]
        wanted = {"epochs": ("I64",), "metrics": ("F64",), "params": (FLOATS[dtype],), "slots": (FLOATS[dtype],)}
        allowed = wanted.get(group, tuple(FLOATS.values()) if group == "loss" else tuple(STORED))
        require(code in allowed, f"{name} is {code}, it must be {' or '.join(allowed)}")
        try:
            tensors[name] = np.ndarray(shape, STORED[code], mapped, 8 + length + tensor["data_offsets"][0])
        except (ValueError, OverflowError, TypeError) as error:
            raise TrajectoryError(f"{path}: {name} has the impossible shape {shape!s:.80}") from error
    _check_shard(tensors, require)
    halves = {name: Widened(value) for name, value in tensors.items() if header[name]["dtype"] == "BF16"}
    # Only parameters are large enough to stay on disk.
    return tensors | {name: value if name.startswith("params/") else value[:] for name, value in halves.items()}


def _check_shard(tensors: Mapping[str, Array], require: Callable[[bool, str], None]) -> None:
    for name, axes in (("epochs", 1), ("loss", 2)):
        require(name in tensors, f"has no {name!r}")
        require(tensors[name].ndim == axes, f"{name} must have {axes} axes, not {tensors[name].ndim}")
    require(any(name.startswith("params/") for name in tensors), "has no 'params/...'")
    snapshots = len(tensors["epochs"])
    require(snapshots > 0, "holds no snapshot")
    for name, value in tensors.items():
        if name.startswith(("params/", "slots/", "metrics/")):
            good = value.ndim > 0 and len(value) == snapshots
            require(good, f"{name} has shape {value.shape} where there are {snapshots} epochs")
            require(value.ndim == 1 or not name.startswith("metrics/"), f"{name} must be one number a snapshot")


def _check_sequence(folder: Path, meta: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> None:
    """Refuse shards that are sound each in itself and do not make one run: TrajectoryError."""
    last, batches = 0, None

    def per_snapshot(shard: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        return {name: value.shape[1:] for name, value in shard.items() if "/" in name and not name.startswith("steps/")}

    for number, (entry, shard) in enumerate(zip(meta["shards"], shards, strict=True)):

        def require(holds: bool, what: str, file: str = entry["file"]) -> None:
            if not holds:
                raise TrajectoryError(f"{folder / file}: {what}: record the run again")

        epochs, loss = shard["epochs"], shard["loss"]
        first, final = int(epochs[0]), int(epochs[-1])
        if number == 0:
            require(first == 0, f"the first snapshot is of epoch {first}, a trajectory begins at 0")
        else:
            require(first > last, f"begins at epoch {first} where the shard before ends at {last}")
        require(bool((epochs[1:] > epochs[:-1]).all()), "epochs do not increase")
        claimed = entry.get("first_epoch", first), entry.get("last_epoch", final)
        require(claimed == (first, final), f"holds epochs {first} to {final} where {MANIFEST} says otherwise")
        trained = final - last
        require(len(loss) == trained, f"loss has {len(loss)} rows where {trained} epochs were trained")
        if trained:
            require(loss.shape[1] > 0, "loss holds no batch")
            batches = batches or (loss.shape[1], loss.dtype)
            require(batches == (loss.shape[1], loss.dtype), "loss has another width or dtype than in the shard before")
        require(
            per_snapshot(shard) == per_snapshot(shards[0]), "tensors or shapes differ from those of the first shard"
        )
        last = final
