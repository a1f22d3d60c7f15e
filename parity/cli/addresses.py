"""Addresses of shared storage in the place of paths: what lies there is fetched, for as long as the command goes on."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from parity.recording.storage import Storage

P = ParamSpec("P")
T = TypeVar("T")


class _Named(NamedTuple):
    """An address that was named, and whether something must lie there."""

    address: str
    needed: bool


_NAMED: dict[Path, _Named] = {}
"""By the path that what lies there will have on this machine."""
_FETCHED: dict[Path, Storage] = {}
_UNTIL_THE_END = contextlib.ExitStack()


def there(given: str | Path) -> Path:
    """The path that is meant; of an address, where ``fetching`` puts what lies there, if anything does."""
    return _path(given, needed=True)


def to_write(given: str | Path) -> Path:
    """The same of a folder in which results are found and left: nothing need be there yet."""
    return _path(given, needed=False)


def fetching(command: Callable[P, T]) -> Callable[P, T]:
    """A command that begins when all is fetched that lies at the addresses which were named for it."""

    @wraps(command)
    def call(*arguments: P.args, **options: P.kwargs) -> T:
        for value in options.values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    fetch(path)
        return command(*arguments, **options)

    return call


def fetch(path: Path) -> Path:
    """Fetch what lies at an address to the path that stands for it; the command ends where it cannot be read."""
    from parity.cli.output import clear_errors, fail
    from parity.report.foreign import given

    if path not in _NAMED or path in _FETCHED:
        return path
    address, needed = _NAMED[path]
    with clear_errors():
        from parity.recording.storage import Storage

        storage = Storage(address)
        _UNTIL_THE_END.enter_context(given(str(path), storage.address))
        path.parent.mkdir(0o700)
        _UNTIL_THE_END.callback(rmtree, path.parent, ignore_errors=True)
        found = storage.fetch(path)
    if needed and not found:
        fail(f"{address}: nothing lies there")
    _FETCHED[path] = storage
    return path


def storage_of(path: Path) -> Storage | None:
    """Where the folder was fetched from; None where it is no copy."""
    return _FETCHED.get(path)


@contextlib.contextmanager
def kept_until_the_end() -> Iterator[None]:
    """Keep what a command fetches until it ends, and no longer."""
    try:
        yield
    finally:
        _FETCHED.clear()
        _NAMED.clear()
        _UNTIL_THE_END.close()


def _path(given: str | Path, needed: bool) -> Path:
    text = str(given)
    if "://" not in text:
        return Path(given)
    from parity.recording.storage import is_address, last_name

    if not is_address(text):
        return Path(given)
    path = Path(tempfile.gettempdir(), f"parity-{secrets.token_hex(8)}", last_name(text))
    _NAMED[path] = _Named(text, needed)
    return path
