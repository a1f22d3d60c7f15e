"""What jobs leave in a folder of results comes to shared storage as soon as it is whole, while other jobs go on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from parity.recording.places import failure_path
from parity.recording.storage import Storage, StorageError
from parity.running.executor import UnrunError

TOGETHER = 4
"""So many results are brought to storage at a time."""
T = TypeVar("T")


class Publisher:
    """Brings what lies in the folder ``out`` to ``storage``; where that is None, it stays where it is.

    Leaving its ``with`` block waits until all is there that is whole.
    """

    def __init__(self, out: Path, storage: Storage | None = None) -> None:
        self._out, self._storage = out, storage
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Publisher:
        if self._storage is not None:
            self._threads = ThreadPoolExecutor(TOGETHER, "parity-publisher")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def after(self, made: Future[T], *paths: Path) -> Future[T]:
        """The same future, but done when what has been made at these paths is in storage.

        UnrunError in it where that cannot be written.
        """
        if self._storage is None:
            return made
        published: Future[T] = Future()
        published.set_running_or_notify_cancel()

        def publish() -> None:
            try:
                if made.exception() is None:
                    for path in paths:
                        self.publish(path)
                for path in paths:
                    self._publish_mark(path)
                published.set_result(made.result())
            except BaseException as error:
                published.set_exception(made.exception() or error)

        def begin(made: Future[T]) -> None:
            assert self._threads is not None
            self._threads.submit(publish)

        made.add_done_callback(begin)
        return published

    def publish(self, path: Path) -> None:
        """Bring a recording or a file to storage. UnrunError where it cannot be written there."""
        if self._storage is None:
            return
        try:
            self._storage.publish(path, self._name(path))
        except (StorageError, OSError) as error:
            raise UnrunError(f"it cannot be brought to storage: {error}") from error

    def _publish_mark(self, path: Path) -> None:
        """Let storage have the mark that the last attempt at a run failed where this machine has it, and not else."""
        assert self._storage is not None
        mark = failure_path(path)
        if mark.exists():
            self.publish(mark)
        elif self._out.is_dir():  # and was not taken away with all that is in it
            self._storage.withdraw(mark, self._name(mark))

    def _name(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()
