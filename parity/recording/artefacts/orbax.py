"""Orbax checkpoints, the folders that JAX and flax write: Zarr arrays, in OCDBT or one folder each, by TensorStore.

``find`` runs in a process of its own: see ``parity.recording.artefacts.apart``.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.artefacts.apart import Found, of_numbers, read_apart
from parity.recording.artefacts.artefact import DEPTH, Artefact, checkpoint, values_of
from parity.recording.files import read_whole
from parity.recording.format import MANIFEST_BYTES
from parity.recording.limits import Budget
from parity.recording.manifest import parsed
from parity.trajectory import TrajectoryError

TREE = "_METADATA"
"""The file that names all tensors."""
ARRAYS = ("jax.Array", "np.ndarray", "scalar")
"""What is a tensor of what it names."""
CHUNK = 1 << 30
"""The bytes of the largest piece of an array that is unpacked at a time."""


def read_orbax(path: Path, folder: Path, budget: Budget) -> Artefact:
    """Read a checkpoint that lies in ``folder``, which is ``path`` or in it."""
    entries = read_apart(__name__, "tensorstore", "orbax", path, folder, budget)
    return checkpoint(path, "Orbax checkpoint", entries)


@contextmanager
def find(source: Path, budget: Budget) -> Iterator[list[Found]]:
    """Give each array. TrajectoryError if a link leads out of the folder, or a name does."""
    import tensorstore

    _check_files(source, budget)
    meta = parsed(read_whole(source / TREE, MANIFEST_BYTES, source), source / TREE)
    tree = meta.get("tree_metadata") if isinstance(meta, dict) else None
    if not isinstance(tree, dict):
        raise _damaged(source, "names no tensors")
    small = {"cache_pool": {"total_bytes_limit": 0}}
    small |= {name: {"limit": 1} for name in ("file_io_concurrency", "data_copy_concurrency")}
    context = tensorstore.Context(small)
    found: list[Found] = []
    for about in tree.values():
        budget.spend(source, tensors=1)
        keys = [str(part["key"]) for part in about["key_metadata"]]
        if about["value_metadata"].get("value_type") not in ARRAYS:
            continue
        # Of strings and empty branches nothing is compared.
        store = tensorstore.open(_spec(source, meta, keys), open=True, read=True, context=context).result(
            timeout=budget.seconds
        )
        name, shape, size = "/".join(keys), tuple(store.shape), store.dtype.numpy_dtype.itemsize
        budget.spend(source, size=values_of(source, name, shape) * size)
        if math.prod(axis or 1 for axis in store.chunk_layout.read_chunk.shape or ()) * size > CHUNK:
            raise _damaged(source, f"{name!r:.80} lies in pieces of more than 1 GiB")
        found += of_numbers(name, shape, store.dtype.numpy_dtype, _loading(store, budget))
    yield found


def _loading(store: Any, budget: Budget) -> Any:
    return lambda: np.asarray(store.read().result(timeout=budget.seconds))


def _spec(source: Path, meta: dict[str, Any], keys: list[str]) -> dict[str, Any]:
    driver = "zarr3" if meta.get("use_zarr3") is True else "zarr"
    name = ".".join(keys)
    if meta.get("use_ocdbt", True) is not False:
        base = {"driver": "file", "path": f"{source.absolute()}/"}
        return {"driver": driver, "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}}
    if not name or name.startswith(".") or "/" in name or os.sep in name:
        raise _damaged(source, f"{name!r:.80} is no name of a folder in it")
    return {"driver": driver, "kvstore": {"driver": "file", "path": f"{source.absolute() / name}/"}}


def _check_files(source: Path, budget: Budget) -> None:
    """Refuse what is no file and no folder, for TensorStore opens what it finds."""
    left = [(source, 0)]
    while left:
        folder, depth = left.pop()
        for entry in os.scandir(folder):
            budget.spend(source, tensors=1)
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode) and depth < DEPTH:
                left.append((Path(entry.path), depth + 1))
            elif stat.S_ISREG(found.st_mode):
                budget.spend(source, size=found.st_size)
            else:
                raise _damaged(source, f"{entry.name!r:.80} is no regular file")


def _damaged(source: Path, what: str) -> TrajectoryError:
    return TrajectoryError(f"{source}: {what}: save the checkpoint again")
