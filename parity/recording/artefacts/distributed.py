"""What ``torch.distributed.checkpoint`` writes: a folder with ``.metadata`` and ``.distcp`` files, a tensor in chunks.

``.metadata`` is a pickle. It is taken apart, and says of each tensor where its chunks lie: in which file, from which
byte, and from which number of the tensor on. A chunk is a zip archive as ``torch.save`` writes it, in a file of many.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from parity.recording.artefacts.artefact import Artefact, Entry, checkpoint, values_of
from parity.recording.artefacts.joined import Piece, joined
from parity.recording.artefacts.pickled import Machine, Record
from parity.recording.artefacts.stored import archive_in, loaded
from parity.recording.artefacts.torch_files import NAMED, PICKLE_BYTES, tensors_in
from parity.recording.files import opened, read_whole, target_of
from parity.recording.limits import Budget
from parity.recording.mapped import File
from parity.trajectory import TrajectoryError

METADATA = ".metadata"
"""The file that says where everything is."""
INSTRUCTIONS = 1 << 23
"""The instructions of its pickle: about 100 for each chunk. What they make takes half a gigabyte at most."""
_HERE, _STORAGE = "torch.distributed.checkpoint.metadata.", "torch.distributed.checkpoint.filesystem."
TENSOR, CHUNK, BYTES = (
    f"{_HERE}{name}" for name in ("TensorStorageMetadata", "ChunkStorageMetadata", "BytesStorageMetadata")
)
INDEX, PROPERTIES, WHOLE = (f"{_HERE}{name}" for name in ("MetadataIndex", "TensorProperties", "Metadata"))
INFO = f"{_STORAGE}_StorageInfo"
RECORDS = {TENSOR, CHUNK, BYTES, INDEX, PROPERTIES, WHOLE, INFO, f"{_HERE}StorageMeta"}
"""The classes of which it holds objects."""


def _sizes(axes: Any = ()) -> tuple[Any, ...]:
    return tuple(axes)


def _nothing(*said: Any) -> None:
    """What no tensor's numbers depend on: a layout, a format in memory, where it was saved."""


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": dict,
    "torch.Size": _sizes,
    "torch.serialization._get_layout": _nothing,
    f"{_HERE}_MEM_FORMAT_ENCODING": _nothing,
    **dict.fromkeys(
        (f"pathlib{inner}.{kind}" for inner in ("", "._local") for kind in ("PosixPath", "WindowsPath")), _nothing
    ),
}
"""What it calls, and what we do instead."""


class _Where(NamedTuple):
    """Where a chunk lies."""

    file: str
    offset: int
    length: int


def read_distributed(path: Path, budget: Budget) -> Artefact:
    """Read a folder that ``torch.distributed.checkpoint`` wrote, given by its ``.metadata``."""
    folder = path.parent
    machine = Machine(path, budget, FUNCTIONS, NAMED.__contains__, _nothing, RECORDS, INSTRUCTIONS)
    said = _fields(path, machine.run(read_whole(path, PICKLE_BYTES, folder)), WHOLE)
    tensors: Any = said.get("state_dict_metadata")
    places = _places(path, said.get("storage_data"))
    if type(tensors) is not dict or not all(type(name) is str for name in tensors):
        raise _damaged(path, "names no tensors")
    budget.spend(path, tensors=len(tensors) + len(places))
    names = _names(said.get("planner_data"))
    found: dict[str, Entry] = {}
    with ExitStack() as stack:
        files = _Files(folder, path, budget, stack)
        for key, about in tensors.items():
            if type(about) is Record and about.name == BYTES:
                continue  # a number, a text or another object of Python's, pickled
            name = str(names.get(key, key))
            if name in found:
                raise _damaged(path, f"has {name!r:.80} twice")
            found[name] = _entry(path, key, _fields(path, about, TENSOR), places, files, budget)
    if over := next(iter(places.keys() - {(key, None) for key in tensors} - files.read), None):
        raise _damaged(path, f"has a chunk of {over[0]!r:.80} at {over[1]} that belongs to no tensor")
    return checkpoint(folder, "PyTorch distributed checkpoint", found)


class _Files:
    """The files of chunks, open while they are looked at."""

    def __init__(self, folder: Path, path: Path, budget: Budget, stack: ExitStack) -> None:
        self._folder, self._path, self._budget, self._stack = folder, path, budget, stack
        self._open: dict[str, tuple[BinaryIO, File]] = {}
        self.read: set[tuple[str, tuple[int, ...] | None]] = set()

    def chunk(self, where: _Where, name: str) -> Entry:
        """The tensor that a chunk is. TrajectoryError if the file is missing or ends before it."""
        file, kept = self._file(where.file)
        archive = archive_in(file, kept, self._budget, slice(where.offset, where.offset + where.length))
        found = list(tensors_in(archive).values())
        if len(found) != 1:
            raise _damaged(self._path, f"says that a chunk of {name!r:.80} lies where none is")
        return found[0]

    def _file(self, name: str) -> tuple[BinaryIO, File]:
        if name not in self._open:
            path = self._folder / name
            try:
                file = self._stack.enter_context(opened(path, self._folder))
            except FileNotFoundError:
                raise TrajectoryError(
                    f"{self._path}: names {name!r:.80}, which is not there: copy the folder whole"
                ) from None
            self._budget.spend_file(path, file)
            self._open[name] = file, File(path, target_of(path, self._folder), file)
        return self._open[name]


def _entry(
    path: Path,
    name: str,
    about: Mapping[str, Any],
    places: Mapping[tuple[str, tuple[int, ...] | None], _Where],
    files: _Files,
    budget: Budget,
) -> Entry:
    shape, chunks = _axes(path, name, about.get("size")), about.get("chunks")
    values_of(path, name, shape)
    properties = about.get("properties")
    state = properties.state if type(properties) is Record and properties.name == PROPERTIES else None
    dtype = state[0] if type(state) is tuple and state else state.get("dtype") if type(state) is dict else None
    code = NAMED.get(getattr(dtype, "name", ""))
    if code is None or type(chunks) is not list:
        raise _damaged(path, f"does not say what {name!r:.80} is")
    pieces = []
    for chunk in chunks:
        fields = _fields(path, chunk, CHUNK)
        offsets, sizes = (_axes(path, name, fields.get(what)) for what in ("offsets", "sizes"))
        where = places.get((name, offsets))
        if where is None:
            raise _damaged(path, f"says nowhere where the chunk of {name!r:.80} at {offsets} lies")
        entry = files.chunk(where, name)
        files.read.add((name, offsets))
        if entry.shape != sizes or entry.narrow != (code == "bfloat16") or (not entry.narrow and entry.dtype != code):
            raise _damaged(
                path, f"says that the chunk of {name!r:.80} at {offsets} is {sizes} of {code}, and it is {entry.shape}"
            )
        pieces.append(Piece(offsets, entry))
    if 0 in shape:
        return loaded(np.zeros(shape, "f4" if code == "bfloat16" else code))
    return joined(path, name, shape, pieces, budget)


def _places(path: Path, found: Any) -> dict[tuple[str, tuple[int, ...] | None], _Where]:
    """Where each chunk lies, by its tensor and the place in it; no two overlap in a file."""
    if type(found) is not dict:
        raise _damaged(path, "does not say where its chunks lie")
    places: dict[tuple[str, tuple[int, ...] | None], _Where] = {}
    in_file: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for index, info in found.items():
        key, where = _fields(path, index, INDEX), _fields(path, info, INFO)
        name, offset = key.get("fqn"), key.get("offset")
        file, start, length = (where.get(what) for what in ("relative_path", "offset", "length"))
        if type(name) is not str or type(file) is not str or type(start) is not int or type(length) is not int:
            raise _damaged(path, "does not say where its chunks lie")
        if file != Path(file).name or not file.isprintable() or not file or where.get("transform_descriptors"):
            raise _damaged(path, f"names {file!r:.80}, which is no plain file beside it, or is packed")
        if not (0 <= start < 2**62 and 0 <= length < 2**62):
            raise _damaged(path, f"has a chunk of {name!r:.80} at an impossible place")
        at = (name, None if offset is None else _axes(path, name, offset))
        if at in places:
            raise _damaged(path, f"has the chunk of {name!r:.80} at {at[1]} twice")
        places[at] = _Where(file, start, length)
        in_file[file].append((start, start + length))
    for file, ranges in in_file.items():
        ranges.sort()
        if any(after[0] < before[1] for before, after in itertools.pairwise(ranges)):
            raise _damaged(path, f"has chunks that overlap in {file!r:.80}")
    return places


def _names(found: Any) -> dict[str, str]:
    """What tensors are called in nested dictionaries: by a path where their names have only dots."""
    if type(found) is not dict:
        return {}
    return {
        key: "/".join(map(str, parts))
        for key, parts in found.items()
        if type(key) is str and type(parts) is tuple and parts and all(type(part) in (str, int) for part in parts)
    }


def _fields(path: Path, found: Any, name: str) -> Mapping[str, Any]:
    if type(found) is not Record or found.name != name or type(found.state) is not dict:
        raise _damaged(path, f"lacks a {name.rpartition('.')[2]}")
    return found.state


def _axes(path: Path, name: str, found: Any) -> tuple[int, ...]:
    if type(found) is not tuple or not all(type(axis) is int for axis in found):
        raise _damaged(path, f"gives {name!r:.80} no shape")
    return found


def _damaged(path: Path, what: str) -> TrajectoryError:
    return TrajectoryError(f"{path}: {what}: save the checkpoint again")
