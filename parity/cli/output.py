"""What every command writes, and how it ends."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from parity.judging.outcome import Outcome


PAGE = "report.html"
OURS = 70
"""The exit status of our own mistakes, as in sysexits.h: Python's 1 would read as a difference."""


UNHEARD = 141
"""The exit status where nobody reads on, as 'head' does not: that of SIGPIPE. typer's 1 would read as a difference."""


def fail(message: str, status: int = 2) -> NoReturn:
    """End the command with one line on standard error and an exit status."""
    with contextlib.suppress(OSError):  # where nobody can be told, the status says it
        say(f"parity: {message}", err=True)
    raise SystemExit(status)


def check_heard() -> None:
    """End the command if what it has said cannot be written: the disk is full, or standard output is closed.

    There is no verdict then: whoever reads half of what was said must not take it for all.
    """
    if sys.stdout is None:
        unheard(OSError(errno.EBADF, os.strerror(errno.EBADF)))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        pass  # nobody reads on: see UNHEARD
    except OSError as error:
        unheard(error)


def is_unheard(error: Exception) -> bool:
    """Say whether an error is one of writing to standard output or error, which the libraries that write there give."""
    frames = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, OSError) and error.filename is None and frames[-1].partition(".")[0] in ("rich", "typer")


def unheard(error: Exception) -> NoReturn:
    """End the command where what it has to say cannot be written."""
    for stream in (sys.stdout, sys.stderr):
        # Python would write what is left once more when it ends, and end with a status of its own.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            try:
                stream.flush()
            except OSError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    why = getattr(error, "strerror", None) or error
    fail(f"cannot write to standard output: {why}; what was said there is not whole, call it again")


def say(text: object, err: bool = False, lines: bool = False) -> None:
    """Write a text, in which names are not ours, to standard output or error: see ``parity.report.foreign``."""
    from parity.report.foreign import foreign

    typer.echo(foreign(text, lines), err=err)


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """End with one line on an error that the user can mend. Any other error is ours and keeps its traceback."""
    from parity.report.page import PageError
    from parity.report.plot import PlotError
    from parity.running.on import OnError
    from parity.suite import SuiteError
    from parity.trajectory import TrajectoryError

    try:
        yield
    except (SuiteError, TrajectoryError, PlotError, PageError, OnError) as error:
        fail(str(error))


def check_writable(out: Path) -> None:
    """Make the folder, and end the command if nothing can be written there, or a link in it leads elsewhere."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        root = out.resolve()
        for folder in out.iterdir():
            if folder.is_dir() and not folder.resolve().is_relative_to(root):
                fail(f"{folder} is a link that leaves {out}, and nothing is written through one: remove it")
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        fail(f"cannot write to {out}: {error.strerror}; choose another folder with --out")


def _finite(content: Any) -> Any:
    """The content with None for NaN and the infinities, for which JSON has no number, and all text encodable."""
    if isinstance(content, dict):
        return {_finite(key): _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    if isinstance(content, str):
        return content.encode(errors="backslashreplace").decode()
    return None if isinstance(content, float) and not math.isfinite(content) else content


def write_json(path: Path | None, content: Any) -> None:
    """Write content as JSON where ``--json`` names a file; ``parity/report/schemas`` describes each command's."""
    if path is None:
        return
    write(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def write(path: Path, content: str | bytes) -> None:
    """Write a file whole, or to standard output where its name is -."""
    from parity.report.foreign import as_given

    data = as_given(content).encode() if isinstance(content, str) else content
    if str(path) == "-":
        typer.echo(data, nl=False)
    elif why := _refused(path, data):
        fail(why)


def _refused(path: Path, data: bytes) -> str:
    """Write a file whole; the reason why it could not be written, or ""."""
    from parity.recording.files import write_whole

    check_file(path)
    try:
        write_whole(path, data)
    except OSError as error:
        return f"cannot write {path}: {error.strerror}"
    return ""


def check_file(path: Path) -> None:
    """End the command if something lies at ``path`` that no file may take the place of, or a link."""
    if path.is_symlink():
        fail(f"cannot write {path}: it is a link, and nothing is written through one: name the file itself")
    if path.is_dir():
        fail(f"cannot write {path}: it is a folder, name a file")
    if path.exists() and not path.is_file():
        fail(f"cannot write {path}: it is no regular file; - is standard output")


def write_page(path: Path, judged: Callable[[], list[Outcome]]) -> str:
    """Write the report's page unless it is current. Returns what to say of it: a run does not fail without a page.

    ``judged`` gives the outcomes on the page. It is asked where a page can be written at all.
    """
    from parity.report.current import PACKAGES, fingerprint, is_current
    from parity.report.html import page
    from parity.report.page import PageError, check_page
    from parity.trajectory import TrajectoryError

    try:
        check_page(path, *PACKAGES)
        outcomes = judged()
    except (PageError, TrajectoryError) as error:
        return f"no report: {error}"
    if not is_current(path, fingerprint(outcomes)) and (why := _refused(path, page(outcomes).encode())):
        return f"no report: {why}"
    return f"report: {path}"
