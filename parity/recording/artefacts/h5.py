"""HDF5 weights: Keras's ``.weights.h5``, the older ``.h5``, and the ``.keras`` archive that holds one.

``find`` runs in a process of its own: see ``parity.recording.artefacts.apart``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.artefacts.apart import Found, Scratch, of_numbers, read_apart
from parity.recording.artefacts.artefact import DEPTH, Artefact, checkpoint, values_of
from parity.recording.artefacts.stored import archive_of
from parity.recording.files import opened
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

WEIGHTS = "model.weights.h5"
FILTERS = {1, 2, 3, 32000}
"""How what we read may be packed: deflate, shuffle, a checksum, and h5py's LZF. Others are code from elsewhere."""


def read_h5(path: Path, budget: Budget) -> Artefact:
    """Read an HDF5 file of weights."""
    entries = read_apart(__name__, "h5py", "h5", path, path, budget)
    return checkpoint(path, "HDF5 weights", entries)


def read_keras(path: Path, budget: Budget) -> Artefact:
    """Read the weights of a ``.keras`` archive. Its configuration, from which Keras builds layers, is not looked at."""
    scratch = Scratch()
    source = scratch.path / WEIGHTS
    with archive_of(path, budget) as archive:
        start = archive.place(WEIGHTS)
        if start is None:
            source.write_bytes(archive.read(WEIGHTS, int(budget.most["kept"])))
        else:
            with opened(path) as file, open(source, "xb") as copy:
                file.seek(start)
                left = archive.entries[WEIGHTS].file_size
                while left:
                    piece = file.read(min(left, 1 << 20))
                    if not piece:
                        raise archive.damaged("ends in the middle")
                    copy.write(piece)
                    left -= len(piece)
    entries = read_apart(__name__, "h5py", "h5", path, source, budget)
    return checkpoint(path, "Keras model", entries)


@contextmanager
def find(source: Path, budget: Budget) -> Iterator[list[Found]]:
    """Give each dataset of numbers. TrajectoryError at a link, or at data that lie elsewhere."""
    import h5py

    found: list[Found] = []
    with opened(source) as raw, h5py.File(raw, "r") as file:
        seen: set[Any] = set()
        left: list[tuple[str, Any, int]] = [("", file, 0)]
        while left:
            prefix, group, depth = left.pop()
            address = h5py.h5o.get_info(group.id).addr
            if address in seen or depth == DEPTH:
                raise _refused(source, f"the group {prefix!r:.80} lies in itself, or too deep")
            seen.add(address)
            items = {key: _item(source, group, key, budget) for key in sorted(group, key=_turn)}
            groups = {key: item for key, item in items.items() if isinstance(item, h5py.Group)}
            names = _names(groups) if prefix else dict(zip(groups, groups, strict=True))
            left += [(f"{prefix}{names[key]}/", item, depth + 1) for key, item in reversed(groups.items())]
            for key, item in items.items():
                if isinstance(item, h5py.Dataset) and item.shape is not None:
                    found += _tensor(source, f"{prefix}{key}", item, budget)
        yield found


def _turn(key: str) -> tuple[int, str]:
    """Where a name comes: numbers in their order."""
    return (len(key), key) if key.isdecimal() else (0, key)


def _item(source: Path, group: Any, key: str, budget: Budget) -> Any:
    import h5py

    budget.spend(source, tensors=1)
    if not isinstance(group.get(key, getlink=True), h5py.HardLink):
        raise _refused(source, f"it holds the link {key!r:.80}, which is not followed")
    return group[key]


def _names(groups: dict[str, Any]) -> dict[str, str]:
    """What groups are called. Keras writes a layer's own name beside its variables, and its class in the group's."""
    labels = {key: group["vars"].attrs.get("name") for key, group in groups.items() if "vars" in group}
    good = {key: label for key, label in labels.items() if isinstance(label, str) and label and "/" not in label}
    found = {key: good.get(key, key) for key in groups}
    return found if len(set(found.values())) == len(found) else {key: key for key in groups}


def _tensor(source: Path, name: str, item: Any, budget: Budget) -> Iterator[Found]:
    packed = item.id.get_create_plist()
    filters = {packed.get_filter(number)[0] for number in range(packed.get_nfilters())}
    if item.is_virtual or item.external or not filters <= FILTERS:
        raise _refused(source, f"{name!r:.80} lies in another file, or is packed by a filter of its own")
    budget.spend(source, size=values_of(source, name, tuple(map(int, item.shape))) * item.dtype.itemsize)
    # Keras keeps bfloat16 as two bytes without a meaning, and says so beside them.
    if item.dtype.itemsize == 2 and item.attrs.get("dtype") == "bfloat16":
        yield Found(name, tuple(map(int, item.shape)), "BF16", lambda: np.asarray(item[()]).view(np.uint16))
    else:
        yield from of_numbers(name, item.shape, item.dtype, lambda: np.asarray(item[()]))


def _refused(source: Path, what: str) -> TrajectoryError:
    return TrajectoryError(f"{source}: {what}: save the weights again")
