"""TensorBoard's event files: records with checksums, each of which is a protocol buffer. Scalars alone are taken."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from parity.recording.artefacts.artefact import Artefact, check_name
from parity.recording.artefacts.losses import NUMBER, series_of
from parity.recording.files import opened
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

MARK = "tfevents"
"""What the name of an event file holds."""
SCALAR = 1 << 16
"""A record of more bytes holds a picture or a graph."""
DTYPES = {1: "<f4", 2: "<f8"}
"""Numbers of tensors by the number of their dtype."""
VALUES = {1: 5, 2: 6}
"""The field in which such numbers lie, one by one."""


def _table() -> list[int]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        found.append(byte)
    return found


TABLE = _table()


def masked_crc(data: bytes) -> int:
    """The checksum of a record: CRC-32C, rotated and moved by a constant.

    >>> hex(masked_crc(b"123456789"))
    '0xc78ab0e5'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(path: Path, files: list[Path], budget: Budget, root: Path | None = None) -> Artefact:
    """Read the scalars of event files, those of later files in the place of earlier ones at the same step.

    A file may end in the middle of a record, as that of a run which was killed does. TrajectoryError if a record does
    not have its checksum.
    """
    found: dict[str, dict[int, float]] = {}
    notes: list[str] = []
    for file in sorted(files):
        for record in _records(file, budget, root, notes):
            try:
                step, scalars = _event(record)
            except (ValueError, IndexError, struct.error) as error:
                raise _damaged(file) from error
            for name, value in scalars:
                check_name(file, name)
                budget.spend(file, kept=NUMBER)
                found.setdefault(name, {})[step] = value
    losses = [name for name in found if "loss" in name.lower()] or list(found)
    if not losses:
        raise TrajectoryError(f"{path}: holds no scalar: write the loss by add_scalar or tf.summary.scalar")
    return Artefact(
        path, "TensorBoard log", losses={name: series_of(found[name]) for name in losses}, notes=tuple(notes)
    )


def _records(path: Path, budget: Budget, root: Path | None, notes: list[str]) -> Iterator[bytes]:
    with opened(path, root) as file:
        size = os.fstat(file.fileno()).st_size
        budget.spend(path, size=size)
        place = 0
        while place < size:
            head = file.read(12)
            if len(head) == 12 and int.from_bytes(head[8:], "little") != masked_crc(head[:8]):
                raise _damaged(path)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or place + 16 + length > size:
                notes.append(f"{path} ends in the middle of a record: what comes before it was read")
                return
            place += 16 + length
            budget.spend(path)
            if length > SCALAR:
                file.seek(place)
                continue
            data = file.read(length)
            if int.from_bytes(file.read(4), "little") != masked_crc(data):
                raise _damaged(path)
            yield data


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protocol buffer: number and value, of eight and four bytes as they are. ValueError if damaged."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = 0
        for shift in range(0, 70, 7):
            value |= (data[place] & 0x7F) << shift
            place += 1
            if data[place - 1] < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
        raise ValueError("a number of more than ten bytes")

    while place < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        if kind not in (1, 2, 5):
            raise ValueError("a field of an unknown kind")
        length = {1: 8, 5: 4}.get(kind) or varint() if kind != 2 else varint()
        if place + length > len(data):
            raise ValueError("a field beyond the end")
        yield key >> 3, data[place : place + length]
        place += length


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes must be")
    return value


def _event(record: bytes) -> tuple[int, list[tuple[str, float]]]:
    """The step of an event, and its scalars."""
    step, scalars = 0, []
    for number, value in _fields(record):
        if number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5:
            for inner, summary in _fields(_bytes(value)):
                scalar = _scalar(_bytes(summary)) if inner == 1 else None
                if scalar is not None:
                    scalars.append(scalar)
    return step, scalars


def _scalar(summary: bytes) -> tuple[str, float] | None:
    """The tag and the value of a summary, if it is one number."""
    tag, found = "", None
    for number, value in _fields(summary):
        if number == 1:
            tag = _bytes(value).decode()
        elif number == 2:
            (found,) = struct.unpack("<f", _bytes(value))
        elif number == 8:
            found = _number(_bytes(value))
    return None if found is None else (tag, found)


def _number(tensor: bytes) -> float | None:
    """The only number of a tensor of floats; None of any other tensor."""
    kind, whole, shape, pieces = 0, b"", b"", []
    for number, value in _fields(tensor):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2:
            shape = _bytes(value)
        elif number == 4:
            whole = _bytes(value)
        elif number in VALUES.values():
            pieces.append((number, _bytes(value)))
    if kind not in DTYPES or shape:
        return None
    data = whole or b"".join(piece for number, piece in pieces if number == VALUES[kind])
    dtype = np.dtype(DTYPES[kind])
    return float(np.frombuffer(data, dtype)[0]) if len(data) == dtype.itemsize else None


def _damaged(path: Path) -> TrajectoryError:
    return TrajectoryError(f"{path}: a record is damaged: copy the file anew")
