"""Addresses of shared storage in the place of paths: what lies there is fetched, for as long as the command goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parity.recording.storage import Storage

_UNTIL_THE_END = contextlib.ExitStack()
_FETCHED: dict[Path, Storage] = {}
"""What the command has fetched: its path on this machine, and the storage that it came from."""


@contextlib.contextmanager
def kept_until_the_end() -> Iterator[None]:
    """Keep what a command fetches until it ends, and no longer."""
    try:
        yield
    finally:
        _FETCHED.clear()
        _UNTIL_THE_END.close()


def there(given: str | Path) -> Path:
    """The path that is meant; of an address, the folder or file to which what lies there was fetched.

    The command ends where the address cannot be read, or nothing lies there.
    """
    from parity.cli.output import fail

    path = to_write(given)
    if path in _FETCHED and not path.exists():
        fail(f"{given}: nothing lies there")
    return path


def to_write(given: str | Path) -> Path:
    """The same of a folder in which results are found and left: nothing need be there yet."""
    text = str(given)
    if "://" not in text:
        return Path(given)
    from parity.cli.output import clear_errors
    from parity.recording.storage import fetched, is_address
    from parity.report.foreign import given as given_as

    if not is_address(text):
        return Path(given)
    with clear_errors():
        path, storage = _UNTIL_THE_END.enter_context(fetched(text))
    _UNTIL_THE_END.enter_context(given_as(str(path), storage.address))
    _FETCHED[path] = storage
    return path


def storage_of(path: Path) -> Storage | None:
    """Where the folder was fetched from; None where it is no copy."""
    return _FETCHED.get(path)
