"""Safetensors files, as Hugging Face and others write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from parity.recording.artefacts.artefact import Artefact, Entry, checkpoint, values_of
from parity.recording.artefacts.index import Entries
from parity.recording.artefacts.stored import entry_of
from parity.recording.files import opened, target_of
from parity.recording.header import read_header
from parity.recording.limits import Budget
from parity.recording.mapped import File

DTYPES = {
    **{"BF16": "bfloat16", "F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?"},
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
"""The dtypes of safetensors that NumPy has, and bfloat16."""


def read_safetensors(path: Path, budget: Budget, root: Path | None = None) -> Artefact:
    """Read one file. Its tensors stay on disk until they are asked for."""
    entries, notes = entries_of(path, budget, root)
    return checkpoint(path, "safetensors file", entries, notes.values())


def entries_of(path: Path, budget: Budget, root: Path | None = None) -> Entries:
    """Its tensors by name, and of those that NumPy lacks, why they are left out."""
    target = target_of(path, root)
    with opened(path, root) as file:
        budget.spend_file(path, file)
        kept = File(path, target, file)
        header, start = read_header(file, path, target, budget, "write it again")
    found, notes = dict[str, Entry](), dict[str, str]()
    for name, about in header.items():
        if about["dtype"] not in DTYPES:
            notes[name] = f"{name!r:.80} is {about['dtype']}, which NumPy lacks: it is left out"
            continue
        values_of(path, name, about["shape"])
        found[name] = _entry(kept, start, about)
    return found, notes


def _entry(kept: File, start: int, about: dict[str, Any]) -> Entry:
    dtype = DTYPES[about["dtype"]]
    bits = np.dtype("<u2" if dtype == "bfloat16" else dtype)
    return entry_of(kept, start + about["data_offsets"][0], tuple(about["shape"]), bits, narrow=dtype == "bfloat16")
