"""What a path leads to: told by the first bytes of a file, or by the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from parity.recording.artefacts import (
    distributed,
    h5,
    index,
    numpy_files,
    orbax,
    ranks,
    safetensors_files,
    tables,
    tensorboard,
    torch_files,
)
from parity.recording.artefacts.artefact import Artefact
from parity.recording.artefacts.sketched import is_sketch
from parity.recording.artefacts.stored import archive_of
from parity.recording.files import opened
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

Read = Callable[[Path, Budget], Artefact]
TRAINER = "trainer_state.json"
NAMES: dict[str, Read] = {
    "model.safetensors.index.json": lambda path, budget: index.read_index(
        path, ".safetensors", lambda shard, root: safetensors_files.entries_of(shard, budget, root)
    ),
    "pytorch_model.bin.index.json": lambda path, budget: index.read_index(
        path, ".bin", lambda shard, root: torch_files.torch_entries(shard, budget, root)
    ),
    distributed.METADATA: distributed.read_distributed,
    TRAINER: tables.read_trainer_state,
}
"""Files that are known by their name."""
ENDINGS: dict[str, Read] = {
    **dict.fromkeys((".csv", ".tsv"), tables.read_csv),
    **dict.fromkeys((".jsonl", ".ndjson"), tables.read_jsonl),
}
"""Files that are known by the end of their name: text has no first bytes of its own."""
WEIGHTS: dict[str, Read] = {
    "model.safetensors.index.json": NAMES["model.safetensors.index.json"],
    "model.safetensors": lambda path, budget: safetensors_files.read_safetensors(path, budget, path.parent),
    "pytorch_model.bin.index.json": NAMES["pytorch_model.bin.index.json"],
    "pytorch_model.bin": lambda path, budget: torch_files.read_torch(path, budget, path.parent),
    distributed.METADATA: distributed.read_distributed,
}
"""What holds the weights of a folder of Hugging Face's or PyTorch's: the first of them that is there."""
KINDS = (
    "safetensors, .npz or .npy, what torch.save wrote (.pt, .pth, .bin), .weights.h5 or .keras, a Hugging Face folder, "
    "an Orbax folder, one of torch.distributed.checkpoint, trainer_state.json, TensorBoard's event files, CSV or JSON "
    "lines"
)


def read_artefact(path: str | os.PathLike[str], budget: Budget | None = None, shards: str = "") -> Artefact:
    """Read a checkpoint or a log of losses, whoever wrote it, without the framework that did.

    Nothing in it is run or trusted. Tensors stay on disk until they are asked for, where the format allows it. A
    reading takes at most 4 GiB, a million tensors and two minutes; ``PARITY_LIMITS=4`` in the environment allows four
    times as much.

    Args:
        path: A file or a folder. A file that you name yourself may be a link; a link in a folder may not leave it.
        budget: What several readings may take together, if this is one of them.
        shards: How the shards that ranks saved by themselves, in the files of a folder, are joined: of each tensor that
            is split its name and its axes, as in ``"h.*.fc1.weight: (tp out) in"``. See
            ``parity.recording.artefacts.ranks``.

    Returns:
        What was read: tensors, losses, or both.

    Raises:
        TrajectoryError: If it is nothing that is known, is damaged, asks to run code, or needs a library that is not
            installed, or if shards cannot be joined, or ranks that should hold the same numbers do not. The message
            names the file and says what to do.

    Examples:
        >>> import numpy as np
        >>> np.savez("weights.npz", **{"dense/kernel": np.zeros((3, 2), np.float32)})
        >>> read_artefact("weights.npz").tensors["dense/kernel"].shape
        (3, 2)
    """
    path, budget = Path(path), Budget(within=budget)
    try:
        with budget.reading():
            if shards:
                return ranks.read_ranks(path, budget, shards)
            return _folder(path, budget) if os.path.isdir(path) else _file(path, budget)
    except OSError as error:
        # As a literal, so that any file name leaves the message on one line.
        raise TrajectoryError(f"{str(error.filename or path)!r}: cannot be read: {error.strerror}") from error


def _file(path: Path, budget: Budget) -> Artefact:
    with opened(path) as file:
        head = file.read(64)
    read = NAMES.get(path.name) or ENDINGS.get(path.suffix.lower()) or _by_content(path, head, budget)
    return read(path, budget)


def _by_content(path: Path, head: bytes, budget: Budget) -> Read:
    """Which reader reads a file that begins so. TrajectoryError if none does."""
    if head.startswith(b"PK\x03\x04"):
        with archive_of(path, Budget(streams=True)) as archive:
            names = set(archive.entries)
        if h5.WEIGHTS in names:
            return h5.read_keras
        if any(name.endswith(".npy") for name in names):
            return numpy_files.read_npz
        return torch_files.read_torch
    if head.startswith(numpy_files.MAGIC):
        return numpy_files.read_npy
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return h5.read_h5
    if head[8:9] == b"{":
        if is_sketch(path):
            raise TrajectoryError(
                f"{path}: is a sketch of a checkpoint, and holds no tensors: 'parity diff' takes it beside a "
                "checkpoint or another sketch"
            )
        return safetensors_files.read_safetensors
    if tensorboard.MARK in path.name:
        return lambda path, budget: tensorboard.read_events(path, [path], budget)
    if head[:1] == b"\x80":
        raise TrajectoryError(
            f"{path}: is a pickle, which would run code: save the weights with torch.save of today or safetensors"
        )
    raise TrajectoryError(f"{path}: is nothing that is read here: give {KINDS}")


def known_folder(path: Path) -> bool:
    """Say whether a folder holds what is read here."""
    try:
        names = os.listdir(path)
    except OSError:  # whoever reads it says why
        return False
    named = {*WEIGHTS, TRAINER} & set(names) or any(tensorboard.MARK in name for name in names)
    return bool(named or _trees(path) or ranks.ranks_in(path))


def _trees(path: Path) -> list[Path]:
    """The folders of Orbax checkpoints: the path itself, or those that lie in it."""
    inner = [path / name for name in ("", *sorted(os.listdir(path))) if os.path.lexists(path / name / orbax.TREE)]
    return inner[:1] if inner[:1] == [path] else inner


def _folder(path: Path, budget: Budget) -> Artefact:
    names = sorted(os.listdir(path))
    events = [path / name for name in names if tensorboard.MARK in name]
    found = next((read(path / name, budget) for name, read in WEIGHTS.items() if name in names), None)
    if TRAINER in names:
        log = tables.read_trainer_state(path / TRAINER, budget, path)
        return replace(found or log, losses=log.losses)
    if found is not None:
        return found
    if events:
        return tensorboard.read_events(path, events, budget, path)
    inner = _trees(path)
    steps = [name for name in names if name.isdecimal()]
    if len(inner) == 1:
        return orbax.read_orbax(path, inner[0], budget)
    if inner or steps:
        some = ", ".join(f"{name!r:.40}" for name in ([one.name for one in inner] or steps)[:8])
        raise TrajectoryError(f"{path}: holds several checkpoints ({some}): name one of them")
    if by_rank := ranks.ranks_in(path):
        one = next(iter(by_rank.values()))[0]
        raise TrajectoryError(
            f"{path}: holds shards of ranks, as {one!r:.40}: say how they are joined, with --shards "
            "'h.*.fc1.weight: (tp out) in' or shards=, or name one file"
        )
    raise TrajectoryError(f"{path}: is no folder that is read here: give {KINDS}")
