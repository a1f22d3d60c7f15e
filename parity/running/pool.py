"""Worker processes: at most so many at a time, each with one framework, and none left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from parity.frameworks import COMMON, FRAMEWORKS

OnEvent = Callable[[dict[str, Any]], None]
START_ANOTHER = 4
"""So many jobs must wait for a framework before a second process of it is worth its import."""


class WorkerError(RuntimeError):
    """A job that failed or a worker that died; the message is one line, ``trace`` the rest."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


def worker_environment(framework: str, path: Sequence[str], device: str = "cpu") -> dict[str, str]:
    """The environment of a worker: this process's, the framework's settings, and where this project's packages are."""
    settings = next(known.environment_on(device) for known in FRAMEWORKS if known.name == framework)
    found = [*dict.fromkeys([str(Path(__file__).parents[2]), *path, os.environ.get("PYTHONPATH", "")])]
    search = os.pathsep.join(entry for entry in found if entry)
    return {**os.environ, **COMMON, **settings, "PYTHONPATH": search, "PYTHONHASHSEED": "0"}


class UnrunError(WorkerError):
    """A job that nothing was done for, or that we ended ourselves: this says nothing of what it would have come to."""


class _Worker:
    """One process. ``run`` hands it a job and returns its result; it never hangs on a corpse.

    WorkerError for a job that failed. After any other error, as of ``on_event``, no further job may be run.
    """

    def __init__(self, framework: str, python: str, path: Sequence[str], device: str, module: str) -> None:
        self.framework, self.killed = framework, False
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        # A session of its own: Ctrl-C reaches the parent alone, which then ends its workers itself.
        try:
            self.process = subprocess.Popen(
                [python, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                env=worker_environment(framework, path, device),
                start_new_session=True,
            )
        except OSError:
            self.errors.close()
            raise

    def run(self, job: dict[str, Any], on_event: OnEvent) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "done":
                return event
            if event["event"] == "error":
                raise WorkerError(event["message"], event["trace"])
            on_event(event)
        raise (UnrunError if self.killed else WorkerError)(self._obituary(), self._stderr())

    def kill(self) -> None:
        """End the process and what it started; whoever waits for its answer gets an obituary."""
        self.killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _obituary(self) -> str:
        code = self.process.wait()
        if code < 0:
            return f"the {self.framework} worker died of {signal.Signals(-code).name}"
        last = self._stderr().strip().splitlines()[-1:] or ["it said nothing"]
        return f"the {self.framework} worker ended with status {code}: {last[0]}"

    def _stderr(self) -> str:
        self.errors.seek(0)
        return self.errors.read()[-8192:].decode(errors="replace")


class Pool:
    """Runs jobs in worker processes, ``jobs`` at a time, one framework a process.

    ``pythons`` names the interpreter for a framework where it is not this one; ``path`` are folders that workers
    must find packages in. What must be set before a framework is imported is set for ``device``. ``module`` is what a
    process runs, and knows the jobs: see ``parity.running.worker.serve``.
    """

    def __init__(
        self,
        jobs: int,
        pythons: Mapping[str, str] | None = None,
        path: Sequence[str] = (),
        device: str = "cpu",
        module: str = "parity.running.worker",
    ) -> None:
        self.pythons, self.path, self.device, self.module = dict(pythons or {}), path, device, module
        self._waiting: dict[str, deque[tuple[dict[str, Any], OnEvent, Future[dict[str, Any]]]]] = defaultdict(deque)
        self._busy: dict[str, int] = defaultdict(int)
        self._condition = threading.Condition()
        self._closed = False
        self._workers: set[_Worker] = set()
        self._slots = [threading.Thread(target=self._slot, daemon=True) for _ in range(jobs)]
        for slot in self._slots:
            slot.start()

    def submit(
        self, framework: str, job: dict[str, Any], on_event: OnEvent = lambda event: None
    ) -> Future[dict[str, Any]]:
        """Queue a job for a framework's worker; the future holds its ``done`` event or raises WorkerError.

        RuntimeError where the pool is closed.
        """
        future: Future[dict[str, Any]] = Future()
        with self._condition:
            if self._closed:
                raise RuntimeError("the pool is closed: nothing would ever run this job")
            self._waiting[framework].append((job, on_event, future))
            self._condition.notify_all()
        return future

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every worker, busy or not. What has finished is on disk; what has not is lost but for whole shards."""
        with self._condition:
            self._closed = True
            for queue in self._waiting.values():
                for _, _, future in queue:
                    future.cancel()
                queue.clear()
            workers = list(self._workers)
            self._condition.notify_all()
        # A slot that waits for its worker reads from it until the end: only then may the streams be closed.
        for worker in workers:
            worker.kill()
        for slot in self._slots:
            slot.join()
        for worker in workers:
            worker.stop()

    def _slot(self) -> None:
        worker: _Worker | None = None
        while True:
            with self._condition:
                while not (choice := self._choose(worker)) and not self._closed:
                    self._condition.wait()
                if self._closed or choice is None:
                    return
                job, on_event, future = self._waiting[choice].popleft()
                if not future.set_running_or_notify_cancel():
                    continue
                if worker is not None and worker.framework != choice:
                    self._retire(worker)
                    worker = None
                if worker is None:
                    self._busy[choice] += 1
            try:
                if worker is None:
                    python = self.pythons.get(choice, sys.executable)
                    worker = _Worker(choice, python, self.path, self.device, self.module)
                    with self._condition:
                        self._workers.add(worker)
                        if self._closed:  # while this worker was starting, unknown to ``close``
                            worker.kill()
                future.set_result(worker.run(job, on_event))
            except Exception as error:
                # Whatever goes wrong here is the job's result: a slot that died silently would hang the run.
                future.set_exception(error)
                if worker is None:
                    with self._condition:
                        self._busy[choice] -= 1
                elif not isinstance(error, WorkerError) or worker.process.poll() is not None:
                    # Half an answer may wait in the pipe: another job would take it for its own.
                    with self._condition:
                        self._retire(worker)
                    worker = None

    def _choose(self, worker: _Worker | None) -> str | None:
        """Stay with the framework in hand; else the longest queue that no process serves, or that can use another."""
        if worker is not None and self._waiting[worker.framework]:
            return worker.framework
        open_to_us = {
            name: len(queue) for name, queue in self._waiting.items() if len(queue) > START_ANOTHER * self._busy[name]
        }
        return max(open_to_us, key=lambda name: open_to_us[name]) if open_to_us else None

    def _retire(self, worker: _Worker) -> None:
        self._busy[worker.framework] -= 1
        self._workers.discard(worker)
        worker.stop()
