"""Worker processes: at most so many at a time, each with one framework on one device, and none left behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import IO, Any, TypeVar

from parity.frameworks import COMMON, FRAMEWORKS
from parity.running.deadlines import Deadlines
from parity.running.executor import Environment, Job, Progress, UnrunError, WorkerError
from parity.running.messages import Done, Failed, Task, Told, read, write
from parity.running.packages import HERE, Reach, own_path

OnEvent = Callable[[Progress], None]
OnChanged = Callable[[Job[Any], tuple[str, ...]], None]
"""``(job, changes)``: a job has changed what its process keeps, in these ways: see ``parity.running.process``."""
T = TypeVar("T")
START_ANOTHER = 4
"""So many jobs must wait for a framework before a second process of it is worth its import."""
LAST_WORDS = 8192
"""So many bytes of what a worker has printed are looked at when it has failed."""
LINE = 64 << 20
"""An answer of more characters than this is none."""
PRINTED = 1 << 30
"""A worker that has printed more bytes than this prints without end."""
WATCH = 0.2
"""Seconds between two looks at whether a job is to be given up."""


def worker_environment(framework: str, path: Sequence[str] = (), device: str = "cpu") -> dict[str, str]:
    """The environment variables of a framework's process: this one's, the framework's, and ``path`` before all."""
    settings = next(known.environment_on(device) for known in FRAMEWORKS if known.name == framework)
    found = [entry for entry in (*dict.fromkeys(path), os.environ.get("PYTHONPATH", "")) if entry]
    search = {"PYTHONPATH": os.pathsep.join(found)} if found else {}
    return {**os.environ, **COMMON, **settings, **search, "PYTHONHASHSEED": "0"}


def foreign_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for another interpreter: without what says where this one finds its packages."""
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


@dataclass
class _Running:
    """A job at work, and when it began and was last heard of, by the monotonic clock."""

    job: Job[Any]
    begun: float
    heard: float


class _Worker:
    """One process. ``run`` hands it a job and returns its result; it never hangs on a corpse.

    WorkerError for a job that failed. Only where ``usable`` says so may another job be run.
    """

    _numbers = itertools.count(1)

    def __init__(self, environment: Environment, python: str | None, reach: Reach, on_changed: OnChanged) -> None:
        self.environment, self.usable, self._on_changed = environment, True, on_changed
        self.killed, self.over = False, ""
        variables = worker_environment(environment.framework, device=environment.device)
        if python is None:
            reach = replace(reach, folders=(*reach.folders, *own_path()))
        else:
            variables = foreign_environment(variables)
        told = asdict(reach) | asdict(environment)
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        # Without -P the folder of that file would come first of all. In a session of its own: Ctrl-C reaches the parent
        # alone, which then ends its workers itself.
        try:
            self.process = subprocess.Popen(
                [python or sys.executable, "-P", str(HERE / "running" / "begin.py"), json.dumps(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                encoding="utf-8",
                errors="backslashreplace",
                env=variables,
                start_new_session=True,
            )
        except OSError as error:
            self.errors.close()
            raise WorkerError(f"the {environment.framework} worker cannot be started: {error}") from error

    def run(self, job: Job[T], on_event: OnEvent) -> T:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        number = next(self._numbers)
        task = write(Task(number, job))
        self.usable = False  # until the job has been answered to its end
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(task)
            self.process.stdin.flush()
        while line := self.process.stdout.readline(LINE):
            answer = self._answer(line, number)
            if isinstance(answer, Told):
                on_event(answer.progress)
                continue
            self.usable = not answer.changed  # the next job must not find what this one has left
            if answer.changed:
                self._on_changed(job, answer.changed)
            if isinstance(answer, Failed):
                raise WorkerError(answer.message, answer.trace)
            result: T = answer.result
            return result
        raise (UnrunError if self.killed and not self.over else WorkerError)(self._obituary(), self._stderr())

    def _answer(self, line: str, number: int) -> Told | Failed | Done:
        """An answer to the job of that number: what answers another, or nothing, is no answer to this one."""
        name = f"the {self.environment.framework} worker"
        try:
            answer = read(line)
        except ValueError as error:
            raise WorkerError(f"{name} cannot be understood: {error}", self._stderr()) from error
        if not isinstance(answer, Told | Failed | Done) or answer.id != number:
            raise WorkerError(f"{name} answered another job than it was given", self._stderr())
        return answer

    def kill(self, over: str = "") -> None:
        """End the process and what it started; whoever waits for its answer gets an obituary.

        ``over`` says why, where it is the job's own fault.
        """
        self.killed, self.over = True, self.over or over
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
        code, name = self.process.wait(), f"the {self.environment.framework} worker"
        last = (self._stderr().strip().splitlines()[-1:] or ["it said nothing"])[0]
        if self.over:
            return f"{name} was {self.over}, and was ended; its last words: {last}"
        if code < 0:
            return f"{name} died of {signal.Signals(-code).name}"
        return f"{name} ended with status {code}: {last}"

    def printed(self) -> int:
        """How many bytes the process has printed."""
        return os.fstat(self.errors.fileno()).st_size

    def _stderr(self) -> str:
        return last_words(self.errors)


def last_words(printed: IO[bytes]) -> str:
    """The end of what a process has printed; no more of it is read."""
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST_WORDS))
    return printed.read().decode(errors="replace")


class Pool:
    """An executor of worker processes, ``jobs`` at a time, each with one framework on one device.

    ``pythons`` names the interpreter for a framework where it is not this one, ``reach`` what workers must find beside
    that interpreter's packages. ``deadlines`` says when a job is given up. ``on_changed`` is told of a job that has
    changed what its process keeps, before the job's future has its result; that process does no other job.
    """

    def __init__(
        self,
        jobs: int,
        pythons: Mapping[str, str] | None = None,
        reach: Reach | None = None,
        deadlines: Deadlines | None = None,
        on_changed: OnChanged = lambda job, changes: None,
    ) -> None:
        self._on_changed = on_changed
        self.pythons, self.reach, self.deadlines = dict(pythons or {}), reach or Reach(), deadlines or Deadlines()
        self._waiting: dict[Environment, deque[tuple[Job[Any], OnEvent, Future[Any]]]] = defaultdict(deque)
        self._busy: dict[Environment, int] = defaultdict(int)
        self._condition = threading.Condition()
        self._closed = False
        self._workers: dict[_Worker, _Running | None] = {}
        self._threads = [threading.Thread(target=self._slot, daemon=True) for _ in range(jobs)]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def submit(self, job: Job[T], on_event: OnEvent = lambda progress: None) -> Future[T]:
        """Queue a job for a worker of its environment; the future holds its result or raises WorkerError.

        RuntimeError where the pool is closed.
        """
        future: Future[T] = Future()
        with self._condition:
            if self._closed:
                raise RuntimeError("the pool is closed: nothing would ever run this job")
            self._waiting[job.environment].append((job, on_event, future))
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
        for thread in self._threads:
            thread.join()
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
                if worker is not None and worker.environment != choice:
                    self._retire(worker)
                    worker = None
                if worker is None:
                    self._busy[choice] += 1
            result, error = None, None
            try:
                if worker is None:
                    worker = _Worker(choice, self.pythons.get(choice.framework), self.reach, self._on_changed)
                result = self._run(worker, job, on_event)
            except Exception as caught:
                # Whatever goes wrong here is the job's result: a slot that died silently would hang the run.
                error = caught
            try:
                with self._condition:
                    if worker is None:
                        self._busy[choice] -= 1
                    elif not worker.usable or worker.process.poll() is not None:
                        # Half an answer may wait in the pipe: another job must not take it for its own.
                        self._retire(worker)
                        worker = None
            finally:
                # Only now, when nothing of a job that went wrong is at work any more.
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

    def _run(self, worker: _Worker, job: Job[T], on_event: OnEvent) -> T:
        begun = time.monotonic()
        running = _Running(job, begun, begun)

        def heard(progress: Progress) -> None:
            running.heard = time.monotonic()
            on_event(progress)

        with self._condition:
            self._workers[worker] = running
            if self._closed:  # while this worker was starting, unknown to ``close``
                worker.kill()
        try:
            result = worker.run(job, heard)
        finally:
            with self._condition:
                self._workers[worker] = None
        self.deadlines.learn(job.resources.about, time.monotonic() - begun)
        return result

    def _watch(self) -> None:
        """Give up what is over its time, until the pool is closed."""
        while True:
            with self._condition:
                if self._closed or self._condition.wait_for(lambda: self._closed, WATCH):
                    return
                busy = [(worker, running) for worker, running in self._workers.items() if running and not worker.killed]
            for worker, running in busy:
                now = time.monotonic()
                over = self.deadlines.why_over(running.job.resources.about, now - running.begun, now - running.heard)
                with self._condition:
                    if self._workers.get(worker) is running:  # or it has just ended by itself
                        if worker.printed() > PRINTED:
                            over = f"printing without end, {worker.printed() >> 20} MiB by now"
                        if over:
                            worker.kill(over)

    def _choose(self, worker: _Worker | None) -> Environment | None:
        """Stay with the framework in hand; else the longest queue that no process serves, or that can use another."""
        if worker is not None and self._waiting[worker.environment]:
            return worker.environment
        open_to_us = {
            wanted: len(queue)
            for wanted, queue in self._waiting.items()
            if len(queue) > START_ANOTHER * self._busy[wanted]
        }
        return max(open_to_us, key=lambda wanted: open_to_us[wanted]) if open_to_us else None

    def _retire(self, worker: _Worker) -> None:
        self._busy[worker.environment] -= 1
        self._workers.pop(worker, None)
        worker.stop()
