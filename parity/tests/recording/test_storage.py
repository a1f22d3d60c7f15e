"""Shared storage: what comes back is what was put there, whole, whoever writes and whatever fails meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.recording.storage import MARKER, Storage, StorageError, Whole, fetched

fsspec = pytest.importorskip("fsspec", reason="what the extra storage brings")

NAMES = st.sampled_from(["trajectory.json", "00000.safetensors", "inner/x", "a b"])
FOLDERS = st.dictionaries(NAMES, st.binary(max_size=20), min_size=1, max_size=3)
PLACES = st.sampled_from(["iris/numpy-float64-cpu", "iris/torch-float64-cpu", "lstm@x/jax", "top"])
FILES = st.dictionaries(st.sampled_from(["floors/iris.safetensors", ".mark", "page.html"]), st.binary(max_size=20))


@pytest.fixture
def memory() -> Iterator[Any]:
    """The file system of ``memory://``, with nothing in it."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


@pytest.fixture(params=["memory", "file"])
def address(request: pytest.FixtureRequest, memory: Any, tmp_path: Path) -> str:
    return "memory://runs" if request.param == "memory" else f"file://{tmp_path}/storage/runs"


def write(folder: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def left(address: str, name: str = "") -> dict[str, bytes] | None:
    """What somebody else finds there."""
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch, "x")
        return contents(target) if Storage(address).fetch(target, name) else None


@settings(deadline=None, max_examples=25)
@given(first=st.dictionaries(PLACES, FOLDERS), second=st.dictionaries(PLACES, FOLDERS), files=FILES)
@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_what_was_put_there_last_comes_back(scheme: str, first: Any, second: Any, files: Any) -> None:
    fsspec.filesystem("memory").store.clear()
    with tempfile.TemporaryDirectory() as scratch:
        address = "memory://runs" if scheme == "memory" else f"file://{scratch}/storage"
        for number, tree in enumerate((first, second)):
            here, storage = Path(scratch, str(number)), Storage(address)
            for name, content in tree.items():
                storage.publish(write(here / name, content), name)
        for name, data in files.items():
            storage.publish(write(here, {name: data}) / name, name)
        expected = {
            f"{name}/{path}": data for name, content in (first | second).items() for path, data in content.items()
        }
        assert (left(address) or {}) == expected | files
        # A recording alone, or a file.
        for name, content in second.items():
            assert left(address, name) == content
        # Nothing is left of what was there before.
        found = fsspec.filesystem(scheme).find(f"{scratch}/storage" if scheme == "file" else "/runs")
        assert len(found) == len(expected) + len(first | second) + len(files)


def test_what_is_there_already_is_not_put_there_again(memory: Any, tmp_path: Path) -> None:
    folder, storage = write(tmp_path / "here" / "run", {"x": b"1"}), Storage("memory://runs")
    storage.publish(folder, "run")
    store = dict(memory.store)
    storage.publish(folder, "run")
    assert memory.store == store
    with fetched("memory://runs") as (copy, theirs):
        assert copy.name == "runs"
        theirs.publish(copy / "run", "run")
        assert memory.store == store
        write(copy / "run", {"y": b"2"})
        theirs.publish(copy / "run", "run")
    assert left("memory://runs", "run") == {"x": b"1", "y": b"2"}
    assert not copy.exists()


def test_what_other_programs_have_put_there_comes_as_it_is(memory: Any) -> None:
    memory.pipe({"/runs/run/trajectory.json": b"{}", "/runs/run/00000.safetensors": b"1", "/runs2/x": b"2"})
    assert left("memory://runs") == {"run/trajectory.json": b"{}", "run/00000.safetensors": b"1"}
    with fetched("memory://runs/run/00000.safetensors") as (file, _):
        assert (file.name, file.read_bytes()) == ("00000.safetensors", b"1")


def test_a_mark_is_taken_away_where_it_was_put(address: str, tmp_path: Path) -> None:
    mark = write(tmp_path, {".run.failed": b"why"}) / ".run.failed"
    storage = Storage(address)
    storage.withdraw(mark, mark.name)
    storage.publish(mark, mark.name)
    assert left(address) == {".run.failed": b"why"}
    storage.withdraw(mark, mark.name)
    assert left(address) is None


class Between:
    """A file system in which something happens before each of some operations."""

    def __init__(self, files: Any, names: tuple[str, ...], happens: Callable[[], None]) -> None:
        self._files, self._names, self._happens = files, names, happens

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._files, name)
        if name not in self._names:
            return operation

        def call(*arguments: Any, **options: Any) -> Any:
            self._happens()
            return operation(*arguments, **options)

        return call


@pytest.mark.parametrize("step", range(1, 9))
def test_whatever_fails_a_reader_finds_the_earlier_recording_or_the_new_one(
    address: str, tmp_path: Path, step: int
) -> None:
    old, new = ({"trajectory.json": word, "0.safetensors": word * 3} for word in (b"old", b"new"))
    Storage(address).publish(write(tmp_path / "old", old), "run")
    storage, steps = Storage(address), itertools.count(1)

    def end_at_last() -> None:
        if next(steps) >= step:  # once a machine is lost, it does nothing more
            raise ConnectionError("the machine is gone")

    storage._files = Between(storage._files, ("put_file", "mv", "rm"), end_at_last)
    failed = False
    with contextlib.suppress(StorageError):
        failed = True
        storage.publish(write(tmp_path / "new", new), "run")
        failed = False
    assert failed or step > 4
    assert left(address, "run") in ((old, new) if failed else (new,))
    # What a writer has left that was ended is nothing to anybody.
    assert left(address) == {f"run/{name}": data for name, data in (left(address, "run") or {}).items()}
    # Whoever goes on with it ends it.
    Storage(address).publish(tmp_path / "new", "run")
    assert left(address, "run") == new


def test_who_reads_while_another_writes_finds_one_recording_whole(address: str, tmp_path: Path) -> None:
    words = [str(number).encode() for number in range(3)]
    versions = [{"trajectory.json": word, "0.safetensors": word * 3} for word in words]
    folders = [write(tmp_path / str(number), content) for number, content in enumerate(versions)]
    Storage(address).publish(folders[0], "run")
    storage, later = Storage(address), iter(folders[1:])

    def replace_it() -> None:
        with contextlib.suppress(StopIteration):
            Storage(address).publish(next(later), "run")

    storage._files = Between(storage._files, ("get_file",), replace_it)
    assert storage.fetch(tmp_path / "found")
    assert contents(tmp_path / "found") == {f"run/{name}": data for name, data in versions[2].items()}


def test_one_that_is_always_replaced_is_given_up(memory: Any, tmp_path: Path) -> None:
    folder, numbers = write(tmp_path / "run", {"x": b""}), itertools.count()
    Storage("memory://runs").publish(folder, "run")
    storage = Storage("memory://runs")
    storage._files = Between(
        memory,
        ("get_file",),
        lambda: Storage("memory://runs").publish(write(folder, {"x": b"%d" % next(numbers)}), "run"),
    )
    with pytest.raises(StorageError, match=r"memory://runs/run: what whole\.json names is not there"):
        storage.fetch(tmp_path / "found")


PARTS = f".{'0' * 32}.parts"


def marker(path: str = "x", data: bytes = b"1", **changed: object) -> bytes:
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} | changed
    return json.dumps({"folder": PARTS, "files": {path: entry}}).encode()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no marker of a recording"),
        (b"[]", "does not name a folder and its files"),
        (json.dumps({"folder": PARTS, "files": {}}).encode(), "does not name a folder and its files"),
        (b"[" * 100_000, "is no marker|does not name"),
        (marker().replace(b".0", b"../"), "does not name a folder"),
        (marker()[:-5], "is no marker of a recording"),
        (marker("../x"), "is no path below a folder"),
        (marker("/x"), "is no path below a folder"),
        (marker("a/../../x"), "is no path below a folder"),
        (marker(bytes=2), "x is not what whole.json says"),
        (marker(bytes=True), "does not name a folder"),
        (marker(sha256="0" * 64), "x is not what whole.json says"),
        (marker(sha256=1), "does not name a folder"),
    ],
)
def test_a_marker_that_says_anything_else_is_refused(memory: Any, tmp_path: Path, data: bytes, why: str) -> None:
    memory.pipe({f"/runs/run/{MARKER}": data, f"/runs/run/{PARTS}/x": b"1", "/runs/x": b"1"})
    with pytest.raises(StorageError, match=why):
        Storage("memory://runs").fetch(tmp_path / "found")
    assert not (tmp_path / "x").exists()
    assert contents(tmp_path) in ({}, {"found/x": b"1"})
    # What is there now takes its place.
    Storage("memory://runs").publish(write(tmp_path / "run", {"x": b"2"}), "run")
    assert left("memory://runs", "run") == {"x": b"2"}


def test_a_name_that_leads_out_of_the_folder_is_refused(memory: Any, tmp_path: Path) -> None:
    memory.store["/runs/../../x"] = memory.store.get("/x") or memory.open("/x", "wb")
    with pytest.raises(StorageError, match="is no path below a folder"):
        Storage("memory://runs").fetch(tmp_path / "found")


@pytest.mark.parametrize(
    ("address", "why"),
    [("nothing-like-it://x", "Protocol not known"), ("abfs://x/y", "not installed|cross-framework-parity")],
)
def test_storage_that_there_is_not_is_said(address: str, why: str) -> None:
    with pytest.raises(StorageError, match=why):
        Storage(address)


@given(
    st.dictionaries(
        st.sampled_from(["x", "a/b"]),
        st.tuples(st.integers(0), st.from_regex("[0-9a-f]{64}", fullmatch=True)),
        min_size=1,
    )
)
def test_a_marker_is_read_as_it_was_written(files: Any) -> None:
    whole = Whole(PARTS, files)
    assert Whole.read(whole.as_bytes()) == whole
