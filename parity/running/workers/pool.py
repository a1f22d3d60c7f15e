"""Worker processes: at most so many at a time, each with one framework on one device, and none left behind."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from parity.running.deadlines import Deadlines
from parity.running.executor import Environment, Job, Progress, Queued, Resources, UnrunError, WorkerError
from parity.running.packages import Reach
from parity.running.workers.messages import Done, Failed, Task, Told, read, write
from parity.running.workers.started import Started, command, ended

OnEvent = Callable[[Progress], None]
OnChanged = Callable[[Job[Any], tuple[str, ...]], None]
"""``(job, changes)``: a job has changed what its process keeps, in these ways, as ``workers.process`` says them."""
T = TypeVar("T")
START_ANOTHER = 4
"""So many jobs must wait for a framework before a second process of it is worth its import."""
WATCH = 0.2
"""Seconds between two looks at whether a job is to be given up."""


class Process(Protocol):
    """A worker process, on this machine or another: ``workers.started.Started`` says what each of these does."""

    @property
    def name(self) -> str: ...

    @property
    def alive(self) -> bool: ...

    def answers(self, task: str, resources: Resources) -> Iterator[str]: ...

    def kill(self) -> None: ...

    def stop(self) -> None: ...

    def obituary(self) -> str: ...

    def excess(self) -> str: ...

    def last_words(self) -> str: ...


Start = Callable[[Environment], Process]
"""Begins a process for jobs of that environment; WorkerError where it cannot."""


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

    def __init__(self, environment: Environment, start: Start, on_changed: OnChanged) -> None:
        self.environment, self.usable, self._on_changed = environment, True, on_changed
        self.killed, self.over = False, ""
        self.process = start(environment)

    def run(self, job: Job[T], on_event: OnEvent) -> T:
        number = next(self._numbers)
        task = write(Task(number, job))
        self.usable = False  # until the job has been answered to its end
        for line in self.process.answers(task, job.resources):
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
        raise self._error(UnrunError if self.killed and not self.over else WorkerError, self._obituary())

    def _answer(self, line: str, number: int) -> Told | Failed | Done:
        """An answer to the job of that number: what answers another, or nothing, is no answer to this one."""
        try:
            answer = read(line)
        except ValueError as error:
            raise self._error(WorkerError, f"{self.process.name} cannot be understood: {error}") from error
        if not isinstance(answer, Told | Failed | Done) or answer.id != number:
            raise self._error(WorkerError, f"{self.process.name} answered another job than it was given")
        return answer

    def _error(self, kind: type[WorkerError], message: str) -> WorkerError:
        return kind(message, self.process.last_words())

    def kill(self, over: str = "") -> None:
        """End the process and what it started; whoever waits for its answer gets an obituary.

        ``over`` says why, where it is the job's own fault.
        """
        self.killed, self.over = True, self.over or over
        self.process.kill()

    def _obituary(self) -> str:
        died = self.process.obituary()
        return ended(self.process.name, self.over, self.process.last_words()) if self.over else died


class Pool:
    """An executor of worker processes, ``jobs`` at a time, each with one framework on one device.

    ``pythons`` names the interpreter for a framework where it is not this one, ``reach`` what workers must find beside
    that interpreter's packages. ``deadlines`` says when a job is given up. ``on_changed`` is told of a job that has
    changed what its process keeps, before the job's future has its result; that process does no other job. ``start``
    begins the processes elsewhere than on this machine. ``start_another``: so many jobs must wait for an environment
    before another process of it is begun.
    """

    def __init__(
        self,
        jobs: int,
        pythons: Mapping[str, str] | None = None,
        reach: Reach | None = None,
        deadlines: Deadlines | None = None,
        on_changed: OnChanged = lambda job, changes: None,
        start: Start | None = None,
        start_another: int = START_ANOTHER,
    ) -> None:
        self._on_changed, self._start, self._start_another = on_changed, start or self._begin, start_another
        self.pythons, self.reach, self.deadlines = dict(pythons or {}), reach or Reach(), deadlines or Deadlines()
        self._crowded = 0
        self._waiting: dict[Environment, deque[tuple[Job[Any], OnEvent, Future[Any]]]] = defaultdict(deque)
        self._busy: dict[Environment, int] = defaultdict(int)
        self._idle: dict[Environment, int] = defaultdict(int)
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
            worker.process.stop()

    @contextlib.contextmanager
    def crowded(self) -> Iterator[None]:
        """Meanwhile keep no process that has nothing to do: another waits for its room."""
        with self._condition:
            self._crowded += 1
            self._condition.notify_all()
        try:
            yield
        finally:
            with self._condition:
                self._crowded -= 1

    def _begin(self, environment: Environment) -> Process:
        return Started(command(environment, self.pythons.get(environment.framework), self.reach))

    def _slot(self) -> None:
        worker: _Worker | None = None
        while True:
            with self._condition:
                while not (choice := self._choose(worker)) and not self._closed:
                    if worker is not None and self._crowded:
                        self._retire(worker)
                        worker = None
                    self._wait(worker)
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
                    worker = _Worker(choice, self._start, self._on_changed)
                result = self._run(worker, job, on_event)
            except Exception as caught:
                # Whatever goes wrong here is the job's result: a slot that died silently would hang the run.
                error = caught
            try:
                with self._condition:
                    if worker is None:
                        self._busy[choice] -= 1
                    elif not worker.usable or not worker.process.alive:
                        # Half an answer may wait in the pipe: another job must not take it for its own.
                        self._retire(worker)
                        worker = None
            finally:
                # Only now, when nothing of a job that went wrong is at work any more.
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

    def _wait(self, worker: _Worker | None) -> None:
        if worker is None:
            self._condition.wait()
            return
        self._idle[worker.environment] += 1
        self._condition.wait()
        self._idle[worker.environment] -= 1

    def _run(self, worker: _Worker, job: Job[T], on_event: OnEvent) -> T:
        begun = time.monotonic()
        running = _Running(job, begun, begun)

        def heard(progress: Progress) -> None:
            running.heard = time.monotonic()
            if isinstance(progress, Queued):
                running.begun = running.heard
            else:
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
        self.deadlines.learn(job.resources.about, time.monotonic() - running.begun)
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
                        over = worker.process.excess() or over
                        if over:
                            worker.kill(over)

    def _choose(self, worker: _Worker | None) -> Environment | None:
        """Stay with the framework in hand; else the longest queue that no process serves, or that can use another."""
        if worker is not None and self._waiting[worker.environment]:
            return worker.environment
        open_to_us = {
            wanted: len(queue)
            for wanted, queue in self._waiting.items()
            if len(queue) > max(self._start_another * self._busy[wanted], self._idle[wanted])
        }
        return max(open_to_us, key=lambda wanted: open_to_us[wanted]) if open_to_us else None

    def _retire(self, worker: _Worker) -> None:
        self._busy[worker.environment] -= 1
        self._workers.pop(worker, None)
        worker.process.stop()
