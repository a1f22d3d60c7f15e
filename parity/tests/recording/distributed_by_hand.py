"""Folders as ``torch.distributed.checkpoint`` writes them, made without torch, so that each part can be made wrong."""

from __future__ import annotations

import io
import itertools
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity.dtypes import packed
from parity.typing import Array

STORAGES = {"float32": "Float", "float64": "Double", "bfloat16": "BFloat16", "int64": "Long", "float16": "Half"}
Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a chunk begins, and its shape."""


class Global:
    """A class or a function, by its name."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Object:
    """An object of a class: made, and then filled. Or what a function gives, if it has arguments."""

    def __init__(self, of: Global, state: Any = None, arguments: tuple[Any, ...] | None = None) -> None:
        self.of, self.state, self.arguments = of, state, arguments


class _Pickler(pickle._Pickler):  # type: ignore[name-defined,misc]
    """Pickles ``Global`` and ``Object`` as if they were what they name."""

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Global):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Object) and value.arguments is not None:
            self.save(value.of)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        elif isinstance(value, Object):
            self.save(value.of)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            if value.state is not None:
                self.save(value.state)
                self.write(pickle.BUILD)
        else:
            super().save(value, save_persistent_id)


def pickled(value: Any) -> bytes:
    """The pickle of a value."""
    out = io.BytesIO()
    _Pickler(out, 2).dump(value)
    return out.getvalue()


def meta(name: str, state: Any = None) -> Object:
    return Object(Global("torch.distributed.checkpoint.metadata", name), state)


def size(axes: Sequence[int]) -> Object:
    return Object(Global("torch", "Size"), arguments=(tuple(axes),))


def chunk_bytes(values: Array, narrow: bool = False) -> bytes:
    """What ``torch.save`` writes of a tensor."""
    kind = "BFloat16" if narrow else STORAGES[values.dtype.name]
    bits = packed(values) if narrow else values
    strides = np.cumprod((1, *values.shape[:0:-1]))[::-1].tolist() if values.ndim else []

    def whole(numbers: Sequence[int]) -> bytes:
        return b"(" + b"".join(struct.pack("<cI", b"J", number) for number in numbers) + b"t"

    storage = f"(X\x07\0\0\0storagectorch\n{kind}Storage\nX\x01\0\0\x000X\x03\0\0\0cpuJ".encode()
    storage += struct.pack("<I", values.size) + b"tQ"
    of = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + whole(values.shape) + whole(strides)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", of + b"\x89}tR.")
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/data/0", np.ascontiguousarray(bits).tobytes())
    return out.getvalue()


def boxes(shape: Sequence[int], cuts: Sequence[Sequence[int]]) -> list[Box]:
    """The boxes that cuts of each axis make of a tensor.

    >>> boxes((2, 3), [[], [1]])
    [((0, 0), (2, 1)), ((0, 1), (2, 2))]
    """
    each = [list(itertools.pairwise([0, *cut, axis])) for axis, cut in zip(shape, cuts, strict=True)]
    return [
        (tuple(start for start, _ in box), tuple(end - start for start, end in box)) for box in itertools.product(*each)
    ]


def write_distributed(
    folder: Path,
    tensors: Mapping[str, tuple[Array, Sequence[Box]]],
    files: int = 2,
    narrow: bool = False,
    change: Callable[[dict[str, Any]], None] = lambda said: None,
) -> Path:
    """Write a checkpoint, its chunks in turn in several files. ``change`` may make something of its metadata wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    held = [bytearray() for _ in range(files)]
    about, places = {}, {meta("MetadataIndex", {"fqn": "step", "index": None}): info("__0_0.distcp", 0, 0)}
    for name, (values, cut) in tensors.items():
        for number, (offsets, sizes) in enumerate(cut):
            part = values[tuple(slice(at, at + axis) for at, axis in zip(offsets, sizes, strict=True))]
            data, file = chunk_bytes(np.asarray(part), narrow), number % files
            index = {"fqn": name, "offset": size(offsets), "index": number}
            places[meta("MetadataIndex", index)] = info(f"__{file}_0.distcp", len(held[file]), len(data))
            held[file] += data
        dtype = Global("torch", "bfloat16" if narrow else values.dtype.name)
        layout = Object(Global("torch.serialization", "_get_layout"), arguments=("torch.strided",))
        chunks = [meta("ChunkStorageMetadata", {"offsets": size(at), "sizes": size(axes)}) for at, axes in cut]
        state = {"properties": meta("TensorProperties", (dtype, layout, False, None, False))}
        about[name] = meta("TensorStorageMetadata", {**state, "size": size(values.shape), "chunks": chunks})
    about["step"] = meta("BytesStorageMetadata")
    said = {"state_dict_metadata": about, "planner_data": None, "storage_data": places, "version": "1.0.0"}
    change(said)
    (folder / ".metadata").write_bytes(pickled(meta("Metadata", said)))
    for number, data in enumerate(held):
        (folder / f"__{number}_0.distcp").write_bytes(data)
    return folder


def info(file: str, offset: int, length: int) -> Object:
    of = Global("torch.distributed.checkpoint.filesystem", "_StorageInfo")
    return Object(of, {"relative_path": file, "offset": offset, "length": length})
