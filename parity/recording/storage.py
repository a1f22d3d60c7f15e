"""Results at an address of shared storage, as fsspec reads it: recordings come and go whole, or not at all.

The files of a recording lie there in a folder with a name that nothing had before. Its marker, ``whole.json`` beside
that folder, names the folder and the files, with the size and SHA-256 of each, and is written last: whoever reads the
marker first finds the earlier recording or the new one. Any other file is one object, which storage replaces whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from parity.recording.files import files_in, inside, state_of
from parity.recording.places import put_in_place
from parity.trajectory import TrajectoryError

MARKER = "whole.json"
MARKER_BYTES = 16 << 20
"""The size of the largest marker that is read."""
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+(::[a-z][a-z0-9+.-]+)*://", re.IGNORECASE)
TOGETHER = 8
"""So many recordings and files are fetched at a time."""
AGAIN = 5
"""So many times a recording is fetched that another takes the place of meanwhile."""
NAME = re.compile(r"\.[0-9a-f]{32}\.parts")
"""The name of the folder of a recording's files."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class StorageError(TrajectoryError):
    """What lies at an address cannot be read, or nothing can be written there."""


@dataclass(frozen=True)
class Whole:
    """What a marker says: the folder beside it, and the size and SHA-256 of each file in that, by its path there."""

    folder: str
    files: Mapping[str, tuple[int, str]]

    @classmethod
    def read(cls, data: bytes) -> Whole:
        """Read a marker; ValueError if it is none."""
        try:
            found = json.loads(data)
            files = {str(inside(path)): (one["bytes"], one["sha256"]) for path, one in found["files"].items()}
            right = NAME.fullmatch(found["folder"]) and all(
                type(size) is int and size >= 0 and DIGEST.fullmatch(digest) for size, digest in files.values()
            )
        except (AttributeError, KeyError, TypeError, RecursionError) as error:
            raise ValueError("it does not name a folder and its files") from error
        if not right or not files:
            raise ValueError("it does not name a folder and its files")
        return cls(found["folder"], files)

    def as_bytes(self) -> bytes:
        files = {path: {"bytes": size, "sha256": digest} for path, (size, digest) in self.files.items()}
        return json.dumps({"folder": self.folder, "files": files}, indent=1).encode()


def is_address(text: str) -> bool:
    """Say whether a text is an address of storage, and not a path.

    >>> is_address("s3://bucket/runs"), is_address("runs/s3"), is_address("C:/runs")
    (True, False, False)
    """
    return ADDRESS.match(text) is not None


class Storage:
    """What lies at an address, by names below it; "" names all of it. StorageError where nothing can be had there."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._states: dict[Path, object] = {}
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise StorageError(f"{address}: {_NEEDS} fsspec: {_INSTALL}") from error
        # An object store needs no folders; a file system is asked to make them.
        self._renames = re.split("::|:", address)[0].lower() in ("file", "local")
        try:
            self._files, root = url_to_fs(self.address, **({"auto_mkdir": True} if self._renames else {}))
        except ImportError as error:
            raise StorageError(f"{address}: {_NEEDS} a package that is not installed: {error}; {_INSTALL}") from error
        except ValueError as error:
            raise StorageError(f"{address}: {error}") from error
        self._root = str(root).rstrip("/")

    def fetch(self, target: Path, name: str = "") -> bool:
        """Bring what lies there to ``target``: an object, a recording, or all below a folder. False if nothing does.

        StorageError if a recording is not what its marker says, or something cannot be read.
        """
        root = self._at(name)
        with self._said(name):
            self._files.invalidate_cache()
            found = [str(path) for path in self._files.find(root) if not str(path).endswith("/")]
        if found == [root]:
            self._fetch_file("", root, target)
            return True
        paths = {path.removeprefix(root).lstrip("/"): path for path in found}
        # What no marker names is there when a writer was ended, or goes on.
        wholes = {str(PurePosixPath(path).parent) for path in paths if PurePosixPath(path).name == MARKER}
        alone = [
            path
            for path in paths
            if not any(str(one) in wholes or NAME.fullmatch(one.name) for one in PurePosixPath(path).parents)
        ]
        tasks = [partial(self._fetch_whole, _joined(name, path), target / _below(root, path)) for path in wholes]
        tasks += [partial(self._fetch_file, path, paths[path], target / _below(root, path)) for path in alone]
        with ThreadPoolExecutor(TOGETHER) as pool:
            for one in [pool.submit(task) for task in tasks]:
                one.result()
        return bool(tasks)

    def publish(self, path: Path, name: str) -> None:
        """Let a file or folder of this machine be what lies there, whole; nothing is done where it is so already.

        StorageError where it cannot be written.
        """
        state = state_of(path)
        if self._states.get(path) == (name, state):
            return
        with self._said(name):
            if path.is_dir():
                self._publish_whole(path, self._at(name))
            else:
                self._put(path, self._at(name))
        self._states[path] = name, state

    def withdraw(self, path: Path, name: str) -> None:
        """Take away the object of a file that is not there any more, if there was one: see ``publish``."""
        if self._states.pop(path, None) is not None:
            with self._said(name), contextlib.suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return _joined(self._root, name)

    def _fetch_file(self, name: str, path: str, target: Path) -> None:
        with self._said(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(path, str(target))
        self._states[target] = name, state_of(target)

    def _fetch_whole(self, name: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(AGAIN):
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetched-") as scratch, self._said(name):
                whole, stage = self._whole(name), Path(scratch, "whole")
                if whole is None:
                    return
                try:
                    for path, known in whole.files.items():
                        (stage / path).parent.mkdir(parents=True, exist_ok=True)
                        self._files.get_file(f"{self._at(name)}/{whole.folder}/{path}", str(stage / path))
                        if _known(stage / path) != known:
                            raise StorageError(
                                f"{self._said_at(name)}: {path} is not what {MARKER} says: publish it again"
                            )
                except FileNotFoundError:
                    continue  # another has taken its place just now
                put_in_place(stage, target)
                self._states[target] = name, state_of(target)
                return
        raise StorageError(f"{self._said_at(name)}: what {MARKER} names is not there: publish it again")

    def _whole(self, name: str) -> Whole | None:
        """What the marker of a recording says; None if there is none. StorageError if that is no marker."""
        try:
            data = self._files.cat_file(f"{self._at(name)}/{MARKER}", start=0, end=MARKER_BYTES)
            return Whole.read(data)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StorageError(f"{self._said_at(name)}/{MARKER}: is no marker of a recording: {error}") from error

    def _publish_whole(self, folder: Path, at: str) -> None:
        name = at.removeprefix(self._root).lstrip("/")
        try:
            earlier = self._whole(name)
        except StorageError:
            earlier = None
        whole = Whole(f".{secrets.token_hex(16)}.parts", {})
        files = {file.relative_to(folder).as_posix(): file for file in files_in(folder)}
        for path, file in files.items():
            self._files.put_file(str(file), f"{at}/{whole.folder}/{path}")
        whole = Whole(whole.folder, {path: _known(file) for path, file in files.items()})
        with tempfile.TemporaryDirectory(prefix="parity-") as scratch:
            marker = Path(scratch, MARKER)
            marker.write_bytes(whole.as_bytes())
            self._put(marker, f"{at}/{MARKER}")
        if earlier is not None:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(f"{at}/{earlier.folder}", recursive=True)

    def _put(self, file: Path, at: str) -> None:
        """Write an object. A file system does not replace one whole by itself."""
        if not self._renames:
            self._files.put_file(str(file), at)
            return
        folder, _, name = at.rpartition("/")
        scratch = f"{folder}/.{name[:100]}.{secrets.token_hex(8)}.tmp"
        self._files.put_file(str(file), scratch)
        self._files.mv(scratch, at)

    def _said_at(self, name: str) -> str:
        return _joined(self.address, name)

    @contextlib.contextmanager
    def _said(self, name: str) -> Iterator[None]:
        """Say where it was that storage failed, of whatever kind its error is: each file system has its own."""
        try:
            yield
        except StorageError:
            raise
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise StorageError(f"{self._said_at(name)}: {why}") from error


_NEEDS, _INSTALL = "shared storage needs", "python -m pip install 'cross-framework-parity[storage]'"


@contextlib.contextmanager
def fetched(address: str) -> Iterator[tuple[Path, Storage]]:
    """What lies at an address, in a folder of its last name on this machine, meanwhile; and the way back.

    Nothing is there where nothing lies at the address. StorageError as ``Storage`` has it.
    """
    storage = Storage(address)
    with tempfile.TemporaryDirectory(prefix="parity-", ignore_cleanup_errors=True) as scratch:
        target = Path(scratch, last_name(address))
        storage.fetch(target)
        yield target, storage


def last_name(address: str) -> str:
    """What is called at an address, for a folder or a file of this machine.

    >>> last_name("s3://bucket/runs/"), last_name("memory://")
    ('runs', 'all')
    """
    return ADDRESS.sub("", address).rstrip("/").rpartition("/")[2] or "all"


def _joined(folder: str, name: str) -> str:
    return "/".join(part for part in (folder, "" if name == "." else name) if part)


def _below(root: str, path: str) -> PurePosixPath:
    """The path of something that was found, below the folder that it comes to: StorageError if it leads out of that."""
    try:
        return PurePosixPath() if path == "." else inside(path)
    except ValueError as error:
        raise StorageError(f"{root}: {error}") from error


def _known(file: Path) -> tuple[int, str]:
    with file.open("rb") as opened:
        return file.stat().st_size, hashlib.file_digest(opened, "sha256").hexdigest()
