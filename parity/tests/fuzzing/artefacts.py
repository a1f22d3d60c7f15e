"""Checkpoints and loss logs changed at random: each is read, or refused by an error of ours.

``python -m parity.tests.fuzzing.artefacts [COUNT] [SEED]`` makes so many mutations, 20,000 unless told.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from random import Random
from unittest.mock import patch

import h5py  # noqa: F401 so that no forked process must import it
import numpy as np
import tensorstore  # noqa: F401 likewise
from safetensors.numpy import save

from parity.dtypes import unpacked
from parity.recording.artefacts import Artefact, apart, as_trajectory, h5, orbax, read_artefact
from parity.recording.artefacts.artefact import Entry
from parity.recording.artefacts.tensorboard import masked_crc
from parity.recording.limits import Budget
from parity.recording.placed import Placed, blocks_of
from parity.tests.fuzzing.fuzz import SECONDS, asked, fuzz
from parity.tests.fuzzing.subjects import Tree, files_of, put
from parity.tests.recording.distributed_by_hand import boxes, write_distributed
from parity.trajectory import TrajectoryError
from parity.typing import Array

TOKENS = (
    *(
        b"null",
        b"-1",
        b"1e999",
        b"NaN",
        b"99999999999999999999",
        b'""',
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\x00",
        b"\n",
        b",",
    ),
    *(
        b"cos\nsystem\n",
        b"\x93\x8c",
        b"R",
        b"b",
        b"(",
        b".",
        b"h\x00",
        b"r\xff\xff\xff\x7f",
        b"\x8b\xff\xff\xff\x7f",
        b"Q",
    ),
    *(b"../", b"loss", b"step", b"float64", b"F8_E4M3", b"9" * 30, b"\xff" * 8, b"\x00" * 8, b"\x80\x02", b"'descr'"),
)
"""Pieces that mean something in one of the formats."""
FOREIGN = ("torch", "keras", "orbax", "tensorflow")
"""The libraries that write what is changed, where they are installed."""
APART = 0.01
"""The share of the files for a library in C that is read in a process begun anew, as users do; others are forked."""


def written(scratch: Path) -> dict[str, Tree]:
    """A small artefact of each format, by name: those that other libraries write, too, made in processes of theirs."""
    for name in FOREIGN:
        (scratch / name).mkdir()
        code = f"from parity.tests.recording.foreign_files import of_{name} as make\nmake({str(scratch / name)!r})"
        settings = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ, **settings})
    return found_in(scratch) | simple()


def found_in(scratch: Path) -> dict[str, Tree]:
    """The artefacts in the folders of libraries. A folder that holds a file of Orbax or an event file is one itself."""
    found: dict[str, Tree] = {}
    for path in sorted(scratch.rglob("*")):
        if path.name in ("module.pt", "old.pt"):
            continue  # refused as they are
        if path.is_file() and path.suffix in (".pt", ".pth", ".bin", ".safetensors", ".h5", ".keras"):
            found[path.name] = {path.name: path.read_bytes()}
        elif path.is_dir() and (
            (path / orbax.TREE).exists() or any("tfevents" in each.name for each in path.iterdir())
        ):
            found[path.name] = files_of(path)
    return found


def simple() -> dict[str, Tree]:
    """The artefacts that need no other library."""
    tensors = {"a.weight": np.ones((2, 3), np.float32), "b": np.arange(4.0)}
    archives = {}
    for name, write in (("stored.npz", np.savez), ("deflated.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        write(buffer, **tensors)
        archives[name] = {name: buffer.getvalue()}
    npy = io.BytesIO()
    np.save(npy, tensors["a.weight"])
    shards = {f"{name}.safetensors": save({name: value}) for name, value in tensors.items()}
    index = {"weight_map": {name: f"{name}.safetensors" for name in tensors}}
    rows = [{"step": step, "loss": 1 / step, "eval_loss": 2.0, "epoch": step / 2} for step in range(1, 6)]
    table = "step,loss\n" + "".join(f"{row['step']},{row['loss']}\n" for row in rows)
    with tempfile.TemporaryDirectory() as folder:
        cut = {"w": (np.arange(12.0).reshape(4, 3), boxes((4, 3), [[1, 2], [2]])), "b": (np.ones(3), boxes((3,), [[]]))}
        distributed = files_of(write_distributed(Path(folder), cut))
    return {
        **archives,
        "distributed": distributed,
        "a.npy": {"a.npy": npy.getvalue()},
        "hf": {**shards, "model.safetensors.index.json": json.dumps(index).encode()},
        "trainer": {
            "trainer_state.json": json.dumps({"log_history": rows}).encode(),
            "model.safetensors": save(tensors),
        },
        "log.csv": {"log.csv": table.encode()},
        "log.jsonl": {"log.jsonl": "\n".join(map(json.dumps, rows)).encode()},
    }


class Artefacts:
    """Changes an artefact, and reads it."""

    def __init__(self, scratch: Path, trees: dict[str, Tree]) -> None:
        self.changed = scratch / "changed"
        self.trees = trees

    def one(self, random: Random) -> str:
        """Change one artefact, and say what came of it."""
        name = random.choice(sorted(self.trees))
        tree = dict(self.trees[name])
        for _ in range(random.choice((1, 1, 1, 2, 4))):
            file = random.choice(sorted(tree))
            tree[file] = changed(tree[file], random)
        shutil.rmtree(self.changed, ignore_errors=True)
        put(tree, self.changed)
        path = self.changed / name if name in tree else self.changed
        kind = name if len(tree) > 1 else Path(name).suffix[1:]
        try:
            with patch.object(h5, "read_apart", _forked), patch.object(orbax, "read_apart", _forked):
                look_at(read_artefact(path) if random.random() > APART else _anew(path))
        except _ContainedError as error:
            return f"{kind} {error}"
        except TrajectoryError as error:
            if not str(error).isprintable():
                raise AssertionError(f"an error that paints: {error!r}") from error
            return f"{kind} refused"
        return f"{kind} read"


def look_at(found: Artefact) -> None:
    """Use all that an artefact holds."""
    for tensors in (found.tensors, found.state):
        for name, values in tensors.items():
            assert values.shape == tensors.entries[name].shape
            assert values.dtype == tensors.entries[name].dtype
            with np.errstate(all="ignore"):
                values.sum()
            read_in_blocks(tensors.entries[name].placed(), values)
    for steps, values in found.losses.values():
        assert len(steps) == len(values) > 0
    for stack in as_trajectory(found).params.values():
        assert len(stack[:]) == 1


def read_in_blocks(placed: Placed, values: Array) -> None:
    """Read a tensor block by block: its numbers are those of the whole one."""
    for block in blocks_of(placed.shape, 7):
        out = np.empty(block.size, placed.dtype)
        placed.read(block, out)
        whole = values.reshape(-1)[block.start : block.start + block.size]
        assert np.array_equal(unpacked(out) if placed.narrow else out, whole, equal_nan=True)


class _ContainedError(TrajectoryError):
    """A library in C crashed or hung, in a process of its own."""


def _anew(path: Path) -> Artefact:
    with patch.object(h5, "read_apart", apart.read_apart), patch.object(orbax, "read_apart", apart.read_apart):
        return read_artefact(path)


def _forked(module: str, library: str, extra: str, path: Path, source: Path, budget: Budget) -> dict[str, Entry]:
    """What ``read_apart`` does, in a process that is forked from this one: beginning Python anew takes a second."""
    scratch = apart.Scratch()
    out = scratch.path / "out.safetensors"
    child = os.fork()
    if not child:
        status = 99
        try:
            for stream in (1, 2):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
            status = apart.main(module, str(path), str(source), str(out))
        finally:
            os._exit(status)
    end = time.monotonic() + SECONDS / 2
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        time.sleep(0.001)
        if time.monotonic() > end:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise _ContainedError("ended after too long, apart")
    if os.WIFSIGNALED(done[1]):
        raise _ContainedError("crashed a library, apart")
    status = os.WEXITSTATUS(done[1])
    if status == apart.REFUSED:
        raise TrajectoryError(f"{path}: refused")
    assert status == 0, status
    return {
        name: entry._replace(load=lambda entry=entry: (scratch, entry.load())[1])
        for name, entry in apart.entries_of(out, budget)[0].items()
    }


def changed(data: bytes, random: Random) -> bytes:
    """Change bytes; of an archive one entry and of an event file one record, with the checksum that they have then."""
    if data[:2] == b"PK" and random.random() < 0.8:
        return _entry_changed(data, random)
    if len(data) > 16 and masked_crc(data[:8]) == int.from_bytes(data[8:12], "little") and random.random() < 0.8:
        return _record_changed(data, random)
    if data[8:9] == b"{" and random.random() < 0.5:
        length = int.from_bytes(data[:8], "little")
        header = _bytes_changed(data[8 : 8 + length], random)
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    return _bytes_changed(data, random)


def _bytes_changed(data: bytes, random: Random) -> bytes:
    found = bytearray(data)
    place = random.randrange(len(found) + 1)
    match random.randrange(6):
        case 0:
            for _ in range(random.choice((1, 2, 8)) if found else 0):
                found[random.randrange(len(found))] ^= 1 << random.randrange(8)
        case 1:
            found[place : place + random.randrange(9)] = random.choice(TOKENS)
        case 2:
            found[place:place] = random.choice(TOKENS)
        case 3:
            del found[place : place + random.choice((1, 4, 100, len(found)))]
        case 4:
            start = random.randrange(len(found) + 1)
            found[place:place] = found[start : start + random.randrange(200)]
        case _:
            width = random.choice((1, 2, 4, 8))
            found[place : place + width] = random.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1))).to_bytes(
                width, random.choice(("little", "big"))
            )
    return bytes(found)


def _entry_changed(data: bytes, random: Random) -> bytes:
    out = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as copy:
            names = archive.namelist()
            # Pickles and headers are where the meaning is.
            chosen = random.choice([name for name in names if name.endswith((".pkl", ".npy", ".h5"))] or names)
            for info in archive.infolist():
                body = archive.read(info)
                body = _bytes_changed(body, random) if info.filename == chosen else body
                copy.writestr(info.filename, body, random.choice((info.compress_type, zipfile.ZIP_DEFLATED)))
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, UserWarning, OSError, RuntimeError, IndexError):
        return _bytes_changed(data, random)  # a mutation before left no archive
    return out.getvalue()


def _record_changed(data: bytes, random: Random) -> bytes:
    records, place = [], 0
    while place + 16 <= len(data):
        length = int.from_bytes(data[place : place + 8], "little")
        records.append(data[place + 12 : place + 12 + length])
        place += 16 + length
    number = random.randrange(len(records))
    records[number] = _bytes_changed(records[number], random)
    heads = [len(record).to_bytes(8, "little") for record in records]
    return b"".join(
        head + masked_crc(head).to_bytes(4, "little") + record + masked_crc(record).to_bytes(4, "little")
        for head, record in zip(heads, records, strict=True)
    )


def main(arguments: list[str]) -> int:
    """Make mutations. Status 1 if one goes wrong."""
    numbers, seed = asked(arguments, 20_000, "Change checkpoints and logs at random. Status 1 if one goes wrong.")

    def make(scratch: Path) -> Artefacts:
        (scratch / "written").mkdir()
        return Artefacts(scratch, written(scratch / "written"))

    def progress(number: int, found) -> None:
        if number in found.crashes:
            print(f"{number} crashed:\n{found.crashes[number]}", flush=True)
        if number % 1000 == 0:
            print(f"{number:,}: {found}", flush=True)

    found = fuzz(numbers, seed, progress, make)
    print(found)
    return 0 if found.sound else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
