"""What is done elsewhere and by whom: jobs are frozen data that say what they need, an executor does them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, TypeVar


@dataclass(frozen=True)
class Environment:
    """What is settled before a job's process imports anything: its framework, and the device that this is to use."""

    framework: str
    device: str = "cpu"


@dataclass(frozen=True)
class Resources:
    """What a job takes while it runs: cores, GPUs and bytes of memory, 0 where nobody knows; and for how long.

    ``about`` names the case, or whatever else the job is about: those about the same take about as long.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    about: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a job is: ``done`` of ``of`` parts; 0 of 0 where it is alive and cannot count."""

    done: int = 0
    of: int = 0


@dataclass(frozen=True)
class Queued(Progress):
    """The job waits for a machine that has room for it: its time has not begun."""


Emit = Callable[[Progress], None]
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Job(Protocol[T_co]):
    """A frozen dataclass of plain values, which travels as ``parity.running.workers.messages`` says."""

    @property
    def environment(self) -> Environment: ...

    @property
    def resources(self) -> Resources: ...

    def run(self, emit: Emit) -> T_co:
        """Do it, in a process that has the environment, and say now and then how far it is; the result travels, too."""
        ...


class WorkerError(RuntimeError):
    """A job that failed or a worker that died; the message is one line, ``trace`` the rest."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


class UnrunError(WorkerError):
    """A job that nothing was done for, or that we ended ourselves: this says nothing of what it would have come to."""


def out_of_room(error: BaseException | None) -> bool:
    """Whether an error comes of a disk, or a share of one, that is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


class Executor(Protocol):
    """Does jobs, each in a process that has its environment; leaving its ``with`` block closes it."""

    def submit(self, job: Job[T], on_event: Callable[[Progress], None] = ...) -> Future[T]:
        """Queue a job; the future holds its result or raises WorkerError.

        ``on_event`` is told how far it is. RuntimeError where the executor is closed.
        """
        ...

    def close(self) -> None:
        """End what runs and cancel what waits."""
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
