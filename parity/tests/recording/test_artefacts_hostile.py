"""Artefacts that were made to run code, to take memory or time, or to look at other files, are refused."""

from __future__ import annotations

import io
import itertools
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from parity.recording.artefacts import apart, read_artefact
from parity.recording.limits import Budget
from parity.trajectory import TrajectoryError

STORAGE = (b"X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04t", b"Q")


def tensor(shape: bytes = b"K\x04\x85", strides: bytes = b"K\x01\x85", offset: bytes = b"K\x00") -> bytes:
    """The instructions of a tensor of four floats, as torch writes them."""
    storage = b"(" + STORAGE[0] + STORAGE[1]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89}tR"


def torch_file(path: Path, pickled: bytes, numbers: bytes = bytes(16), how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/byteorder", "little")
        archive.writestr("m/data/0", numbers)
    return path


def of(value: bytes) -> bytes:
    """A pickle of a dictionary with one value."""
    return b"\x80\x02}X\x01\0\0\0a" + value + b"s."


def refused(path: Path, match: str) -> None:
    with pytest.raises(TrajectoryError, match=match) as caught:
        read_artefact(path)
    assert str(caught.value).isprintable()
    assert path.name in str(caught.value)


def test_the_file_that_the_others_are_changes_of_is_sound(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = torch_file(tmp_path / "a.pt", of(tensor()), numbers.tobytes(), how)
        assert read_artefact(path).tensors["a"].tolist() == [0, 1, 2, 3]
    views = of(tensor(b"K\x02K\x02\x86", b"K\x01K\x00\x86", b"K\x01"))
    path = torch_file(tmp_path / "b.pt", views, numbers.tobytes())
    assert read_artefact(path).tensors["a"].tolist() == [[1, 1], [2, 2]]


class Runs:
    def __init__(self, function: Callable, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("ending", [".pt", ".pkl", ".bin", ".npz", ".safetensors"])
def test_no_code_of_a_pickle_is_run(tmp_path: Path, protocol: int, ending: str) -> None:
    mark = tmp_path / "ran"
    for function, argument in (
        (os.system, f"touch {mark}"),
        (os.mkdir, str(mark)),
        (eval, f"open({str(mark)!r}, 'w')"),
    ):
        data = pickle.dumps({"a": Runs(function, argument)}, protocol)
        refused(torch_file(tmp_path / f"zip{ending}", data), "pickle|no array")
        plain = tmp_path / f"plain{ending}"
        plain.write_bytes(data)
        refused(plain, "pickle|nothing that is read here")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("pickled", "match"),
    [
        (of(b"cos\nsystem\nX\x02\0\0\0ls\x85R"), "names 'os.system', which is more than weights take"),
        (of(b"cbuiltins\ngetattr\n."), "names 'builtins.getattr'"),
        (of(b"ctorch\nFloatStorage\n)R"), "calls torch.FloatStorage"),
        (of(b"ctorch\nFloatStorage\n)\x81"), "has the instruction NEWOBJ"),
        (of(b"ccollections\nOrderedDict\n)R}b"), "holds no tensor"),
        (of(b"K\x01K\x02\x86}b"), "a tuple is no dict"),
        (of(b"h\x05"), "is damaged"),
        (of(b"ctorch\n\\u\n"), "is damaged"),  # a text with an escape that is none: Python would warn
        (of(b"r\xff\xff\xff\x7f"), "is damaged|no tensor"),
        (of(b"\x8b\xff\xff\xff\x7f1"), "is damaged"),
        (of(b"X\xff\xff\xff\x7f"), "is damaged"),
        (b"\x80\x02}" + b"(" * 1000, "exhausted before seeing STOP"),
        (b"\x80\x02}(K\x01\x85K\x01u.", "keys are neither texts nor numbers"),
        (b"\x80\x02]q\x00X\x01\0\0\0ah\x00e.", "is damaged"),
        (b"\x80\x02]q\x00h\x00a.", "lies in more than 64 dictionaries"),
        (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "lies in more than 64 dictionaries"),
        (b"\x80\x02" + b"K\x01" + b"\x85" * 100_000 + b".", "lies in more than 64 dictionaries"),
        # Each list twice in the next: 2 to the power of 40 leaves.
        (
            b"\x80\x02]q\x00" + b"".join(b"](h%ch%ce" % (k, k) + b"q" + bytes([k + 1]) for k in range(40)) + b".",
            "values in dictionaries",
        ),
        (of(tensor(b"K\x05\x85")), "looks beyond the end of its storage"),
        (of(tensor(offset=b"K\x01")), "looks beyond the end"),
        (of(tensor(offset=b"J\xff\xff\xff\xff")), "looks beyond the end"),
        (of(tensor(strides=b"J\xff\xff\xff\xff\x85")), "impossible shape"),
        (of(tensor(b"J\xff\xff\xff\xff\x85")), "impossible shape"),
        (of(tensor(b"\x8a\x09" + bytes(8) + b"\x01\x85")), "impossible shape"),
        (of(tensor(b"J\x00\x00\x00\x40\x85", b"K\x00\x85")), "repeats the few numbers"),
        (of(tensor(b"K\x04K\x04\x86")), "is no tensor"),
        (of(tensor(b"X\x01\0\0\0a\x85")), "impossible shape"),
        (of(tensor().replace(b"torch\nFloat", b"torch\nQuint8")), "names 'torch.Quint8Storage'"),
        (of(tensor().replace(b"\x000X", b"\x001X")), "is missing"),
    ],
    ids=itertools.count(),
)
def test_a_pickle_that_is_no_checkpoint_is_refused(tmp_path: Path, pickled: bytes, match: str) -> None:
    refused(torch_file(tmp_path / "a.pt", pickled), match)


def test_a_pickle_of_many_instructions_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("parity.recording.artefacts.pickled.INSTRUCTIONS", 1000)
    refused(torch_file(tmp_path / "a.pt", b"\x80\x02(" + b"}" * 1000 + b"l."), "has more than 1,000 instructions")


def test_names_that_paint_are_refused(tmp_path: Path) -> None:
    for name in ("\x1b[2J", "a\nb", "\u202e", "x" * 2000, ""):
        data = pickle.dumps(OrderedDict({name: 0}), 2).replace(b"K\x00", tensor())
        refused(torch_file(tmp_path / "a.pt", data), "is no name for|has more than 1000 letters|is damaged")


def test_an_archive_that_unpacks_to_more_than_is_allowed_is_refused(tmp_path: Path, monkeypatch) -> None:
    """A kilobyte that holds a megabyte, where half of one is allowed."""
    monkeypatch.setattr("parity.recording.limits.KEPT", 1 << 19)
    zeros = np.zeros(1 << 18, np.float32)
    np.savez_compressed(tmp_path / "a.npz", a=zeros)
    refused(tmp_path / "a.npz", "takes more than 512|is larger than")
    four = tensor(struct.pack("<cI", b"J", 1 << 18) + b"\x85")
    refused(torch_file(tmp_path / "a.pt", of(four), zeros.tobytes(), zipfile.ZIP_DEFLATED), "is larger than")
    with zipfile.ZipFile(tmp_path / "a.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", zeros.tobytes())
    refused(tmp_path / "a.keras", "is larger than")


def test_an_entry_that_says_less_than_it_holds_gives_no_more(tmp_path: Path) -> None:
    held = io.BytesIO()
    np.save(held, np.zeros(1 << 18, np.float32))
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", held.getvalue())
    data = path.read_bytes()
    true, lie = (size.to_bytes(4, "little") for size in (len(held.getvalue()), 1000))
    assert data.count(true) == 2  # before the entry, and in the directory
    path.write_bytes(data.replace(true, lie))
    refused(tmp_path / "a.npz", "no sound zip archive|another number")


@pytest.mark.parametrize("place", ["before", "after"])
def test_an_entry_that_lies_elsewhere_is_refused(tmp_path: Path, place: str) -> None:
    path = torch_file(tmp_path / "a.pt", of(tensor()))
    data = bytearray(path.read_bytes())
    directory = data.rindex(b"PK\x01\x02")  # of data/0
    data[directory + 42 : directory + 46] = (7 if place == "before" else len(data) - 4).to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "does not lie where it says|Overlapped entries")  # as Python itself says it, from some release on


def h5(path: Path, fill: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        file["a"] = np.ones(3)
        fill(file)
    return path


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (3,))
    file.create_virtual_dataset("b", layout)


@pytest.mark.parametrize(
    ("fill", "match"),
    [
        (lambda file: file.__setitem__("b", h5py.ExternalLink("/etc/passwd", "/")), "holds the link 'b'"),
        (lambda file: file.__setitem__("b", h5py.SoftLink("/a")), "holds the link 'b'"),
        (lambda file: file.create_dataset("b", (3,), "u1", external="/etc/passwd"), "lies in another file"),
        (virtual, "lies in another file"),
        (lambda file: file.create_group("b").__setitem__("c", file["/"]), "lies in itself"),
        (lambda file: file.create_group("/".join("x" * 100)), "too deep"),
        (lambda file: file.create_dataset("b", (1 << 45,), "f4", chunks=(1 << 20,)), "takes more than 4 GiB"),
    ],
    ids=["external link", "soft link", "external data", "virtual data", "cycle", "deep", "large"],
)
def test_hdf5_that_leads_elsewhere_is_refused(tmp_path: Path, fill: Callable, match: str) -> None:
    refused(h5(tmp_path / "a.h5", fill), match)


def test_hdf5_that_is_damaged_is_refused(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", lambda file: None)
    path.write_bytes(path.read_bytes()[:600])
    refused(path, "a.h5: cannot be read")


@pytest.mark.parametrize(
    ("what", "seconds", "match"),
    [
        ("crash", 60, "ended on it with status -"),
        ("hang", 2, "took more than 2 seconds"),
        ("grow", 60, "cannot be read .'MemoryError"),
        ("write", 60, "File too large|ended on it with status -"),
    ],
)
def test_a_library_that_fails_harms_nobody(tmp_path: Path, what: str, seconds: float, match: str, monkeypatch) -> None:
    source = tmp_path / "file"
    source.write_text(what)
    monkeypatch.setattr("parity.recording.limits.SECONDS", seconds)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with pytest.raises(TrajectoryError, match=match):
        apart.read_apart("parity.tests.recording.readers_that_fail", "h5py", "h5", source, source, Budget())


def test_the_current_folder_gives_no_library(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "h5py.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as 'python -m parity' does
    assert set(read_artefact(h5(tmp_path / "a.h5", lambda file: None)).tensors) == {"a"}


def test_orbax_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    def write(*keys: str) -> None:
        about = {"key_metadata": [{"key": key} for key in keys], "value_metadata": {"value_type": "jax.Array"}}
        tree = {"tree_metadata": {str(keys): about}, "use_ocdbt": False}
        (tmp_path / "_METADATA").write_text(json.dumps(tree))

    for key in ("../elsewhere", "..", "/etc", ""):
        write(key)
        refused(tmp_path, "is no name of a folder in it")
    write("a")
    refused(tmp_path, "cannot be read")
    (tmp_path / "a").symlink_to("/etc")
    refused(tmp_path, "'a' is no regular file")
    (tmp_path / "a").unlink()
    os.mkfifo(tmp_path / "a")
    refused(tmp_path, "'a' is no regular file")


@pytest.mark.timeout(20)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "is no regular file")
    refused(tmp_path / "gone.pt", "cannot be read: No such file")
    refused(tmp_path, "is no folder that is read here")
    (tmp_path / "b.txt").write_text("hello")
    refused(tmp_path / "b.txt", "is nothing that is read here: give safetensors")
