"""Safetensors files of arrays, of bfloat16 numbers too, which NumPy lacks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from parity.dtypes import packed, rounded
from parity.recording.artefacts.apart import CODES, Found, write_tensors
from parity.typing import Array


def write_safetensors(path: Path, tensors: Mapping[str, Array], narrow: bool = False) -> Path:
    """Write a file; ``narrow`` writes floats as bfloat16."""

    def found(name: str, values: Array) -> Found:
        if narrow and values.dtype.kind == "f":
            bits = packed(rounded(values, "bfloat16"))
            return Found(name, values.shape, "BF16", lambda: bits)
        return Found(name, values.shape, CODES[values.dtype], lambda: values)

    path.unlink(missing_ok=True)
    write_tensors(path, [found(name, values) for name, values in tensors.items()])
    return path
