"""Tensors as the pieces of a safetensors file: its header, and each tensor's bytes where they are, in order.

Written by one piece at a time, a file is never in memory beside its tensors.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping

import numpy as np

from parity.recording.format import CODES
from parity.typing import Array

ORDER = ("I64", "F64", "F32", "BF16", "F16")
"""Tensors lie in the order of their dtypes, as safetensors' own writer lays them, so that each is aligned."""
NAMES = {np.dtype(code): name for name, code in CODES.items()}


def pieces_of(tensors: Mapping[str, Array], halves: Collection[str] = ()) -> tuple[bytes, Iterator[memoryview]]:
    """Lay out a safetensors file.

    Args:
        tensors: By name, each of a dtype that the format stores.
        halves: The names of those that hold bits of bfloat16, as uint16.

    Returns:
        The header with its length before it, and the bytes of the tensors, each one's as they are taken. To the byte,
        both are what ``safetensors.numpy.save`` writes.

    Raises:
        ValueError: If a tensor is of another dtype.

    Examples:
        >>> header, pieces = pieces_of({"a": np.zeros(2, np.float32), "b": np.ones(1)})
        >>> int.from_bytes(header[:8], "little") + 8 == len(header), [len(piece) for piece in pieces]
        (True, [8, 8])
    """
    kinds = {name: "BF16" if name in halves else NAMES.get(value.dtype, "") for name, value in tensors.items()}
    unknown = next((name for name, kind in kinds.items() if not kind), None)
    if unknown is not None:
        raise ValueError(f"{unknown} is {tensors[unknown].dtype}, which no recording holds")
    names = sorted(tensors, key=lambda name: (ORDER.index(kinds[name]), name.encode()))
    said, end = {}, 0
    for name in names:
        begin, end = end, end + math.prod(tensors[name].shape) * tensors[name].dtype.itemsize
        said[name] = {"dtype": kinds[name], "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text, (_bytes(tensors[name]) for name in names)


def _bytes(value: Array) -> memoryview:
    found: memoryview = np.ascontiguousarray(value).reshape(-1).view(np.uint8).data
    return found
