"""PyTorch checkpoints: the zip archives that torch.save writes. Tensors are taken from them, and no code is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from parity.dtypes import unpacked
from parity.recording.artefacts.artefact import WRAPPERS, Artefact, Entry, checkpoint, flattened, values_of
from parity.recording.artefacts.index import Entries
from parity.recording.artefacts.pickled import Function, Machine, Record
from parity.recording.artefacts.stored import Archive, archive_of
from parity.recording.format import VALUES
from parity.recording.limits import Budget
from parity.recording.mapped import Stored
from parity.recording.placed import Region
from parity.trajectory import TrajectoryError
from parity.typing import Array

MODEL = tuple(f"{name}/" for name in WRAPPERS)
EXTRA = "_extra_state"
"""The end of the names under which Transformer Engine keeps what is no weight, as scales of eight-bit numbers."""
PICKLE_BYTES = 64 << 20
"""The size of the largest pickle that is taken apart; it holds names and shapes, no values."""
STORAGES = {
    **{"Float": "f4", "Double": "f8", "Half": "f2", "BFloat16": "bfloat16", "Long": "i8", "Int": "i4", "Short": "i2"},
    **{"Char": "i1", "Byte": "u1", "Bool": "?"},
}
"""What the classes of torch's storages hold: ``torch.FloatStorage`` and the like."""
NAMED = {f"torch.{kind}Storage": code for kind, code in STORAGES.items()} | {
    "torch.float32": "f4", "torch.float64": "f8", "torch.float16": "f2", "torch.bfloat16": "bfloat16",
    "torch.int64": "i8", "torch.int32": "i4", "torch.int16": "i2", "torch.int8": "i1", "torch.uint8": "u1",
    "torch.bool": "?", "torch.uint16": "u2", "torch.uint32": "u4", "torch.uint64": "u8",
    "torch.storage.UntypedStorage": "u1", "torch.UntypedStorage": "u1",
}  # fmt: skip


@dataclass(frozen=True)
class _Storage:
    """The numbers that one or more tensors look into."""

    dtype: str
    key: str


@dataclass(frozen=True)
class _Tensor:
    """How a tensor looks into a storage. Its fields are what the file says, not checked yet."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any
    dtype: str = ""


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *more: Any) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


def _typed(
    storage: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *more: Any
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides, NAMED[dtype.name])


def _parameter(tensor: Any, *more: Any) -> Any:
    return tensor


def _ordered(pairs: Any = ()) -> dict[Any, Any]:
    if pairs != () and pairs != []:
        raise ValueError("an OrderedDict is made empty, and then filled")
    return {}


def _plain(*values: Any) -> Any:
    return values[0] if len(values) == 1 else values


FUNCTIONS: dict[str, Function] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _typed,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": _plain,
    "torch.device": _plain,
}
"""What a checkpoint of weights calls, and what we do instead."""


def read_torch(path: Path, budget: Budget, root: Path | None = None) -> Artefact:
    """Read what ``torch.save`` wrote: a state_dict, or nested dictionaries that hold some."""
    return checkpoint(path, "PyTorch checkpoint", torch_entries(path, budget, root)[0])


def read_training(path: Path, budget: Budget, root: Path | None = None) -> Artefact:
    """Read what ``torch.save`` wrote of a training: beside the tensors, objects of any class, which are not made.

    TrajectoryError if such an object stands among the model's tensors, but for what an engine keeps of its layers.
    """
    with archive_of(path, budget, root) as archive:
        return checkpoint(path, "PyTorch checkpoint", tensors_in(archive, opaque=True))


def torch_entries(path: Path, budget: Budget, root: Path | None = None) -> Entries:
    """Its tensors by name."""
    with archive_of(path, budget, root) as archive:
        return tensors_in(archive), {}


def tensors_in(archive: Archive, opaque: bool = False) -> dict[str, Entry]:
    """The tensors of an open archive by name; one that stands for itself is called ``tensor``.

    ``opaque``: objects of other classes may stand beside the model.
    """
    path, budget = archive.path, archive.budget
    pickles = [name for name in archive.entries if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise TrajectoryError(f"{path}: is a zip archive, but no checkpoint that torch.save wrote: choose another file")
    folder = pickles[0].removesuffix("data.pkl")
    order = f"{folder}byteorder"
    big = order in archive.entries and archive.read(order, 16) == b"big"
    machine = Machine(path, budget, FUNCTIONS, NAMED.__contains__, _persistent, opaque=opaque)
    tree = machine.run(archive.read(pickles[0], PICKLE_BYTES))
    tree = tree if isinstance(tree, dict | list | tuple) else {"tensor": tree}
    leaves = flattened(path, tree, budget)
    beside = any(name.startswith(MODEL) for name in leaves)
    for name, value in leaves.items():
        of_model = not beside or name.startswith(MODEL)
        if isinstance(value, Record) and of_model and not name.endswith(EXTRA):
            raise TrajectoryError(f"{path}: {name!r:.80} is a {value.name or 'value'!s:.80}, which is not looked into")
    tensors = {name: value for name, value in leaves.items() if isinstance(value, _Tensor)}
    storages: dict[_Storage, Array | Stored] = {}
    return {name: _entry(archive, folder, big, name, value, storages) for name, value in tensors.items()}


def _persistent(found: Any) -> _Storage:
    """What the file says of a storage: ('storage', its class, its name in the archive, the device, its length)."""
    if type(found) is not tuple or len(found) != 5 or found[0] != "storage" or type(found[2]) is not str:
        raise ValueError("an outer value that is no storage")
    return _Storage(NAMED[found[1].name], found[2])


def _entry(
    archive: Archive, folder: str, big: bool, name: str, found: _Tensor, storages: dict[_Storage, Array | Stored]
) -> Entry:
    path, storage, shape, strides = archive.path, found.storage, found.shape, found.strides
    fits = type(shape) is tuple and type(strides) is tuple and len(shape) == len(strides) and type(found.offset) is int
    if not fits or not isinstance(storage, _Storage):
        raise archive.damaged(f"{name!r:.80} is no tensor")
    count = values_of(path, name, shape)
    values_of(path, name, strides)
    code = found.dtype or storage.dtype
    narrow = code == "bfloat16"
    dtype = np.dtype("u2" if narrow else code).newbyteorder(">" if big else "<")
    kept = _Storage(code, storage.key)
    if kept not in storages:
        storages[kept] = _numbers(archive, f"{folder}data/{storage.key}", dtype)
    numbers = storages[kept]
    last = found.offset + sum((axis - 1) * stride for axis, stride in zip(shape, strides, strict=True))
    if found.offset < 0 or (count and last >= len(numbers)):
        raise archive.damaged(f"{name!r:.80} looks beyond the end of its storage")
    if count > VALUES and count > len(numbers):
        raise archive.damaged(f"{name!r:.80} repeats the few numbers of its storage {count:,} times")
    steps = tuple(stride * dtype.itemsize for stride in strides)

    def load() -> Array:
        whole = np.asarray(numbers.array() if isinstance(numbers, Stored) else numbers)
        if not count:
            values = np.zeros(shape, dtype)
        else:
            values = np.lib.stride_tricks.as_strided(whole[found.offset :], shape, steps, writeable=False)
        return unpacked(np.ascontiguousarray(values)).reshape(shape) if narrow else values

    place = None
    if isinstance(numbers, Stored) and _in_c_order(shape, strides):
        file, start = numbers.place
        place = Region(file, start + found.offset * dtype.itemsize, shape, dtype, narrow)
    return Entry(shape, np.dtype(np.float32) if narrow else dtype, load, narrow, place)


def _in_c_order(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether a tensor of these strides, in numbers, has its numbers in C order, one after the other."""
    return all(
        size == 1 or stride == math.prod(shape[axis + 1 :])
        for axis, (size, stride) in enumerate(zip(shape, strides, strict=True))
    )


def _numbers(archive: Archive, file: str, dtype: np.dtype[Any]) -> Array | Stored:
    """A storage's numbers, flat: on disk, or in memory if they are compressed."""
    if file not in archive.entries:
        raise archive.damaged(f"{file!r:.80} is missing")
    size = archive.entries[file].file_size
    start = archive.place(file)
    if start is None:
        return np.frombuffer(archive.read(file, int(archive.budget.most["kept"])), dtype, size // dtype.itemsize)
    return Stored(archive.kept, start, (size // dtype.itemsize,), dtype)
