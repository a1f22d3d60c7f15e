"""What runs on a node of a Ray cluster: an actor that begins a worker there, hands it tasks and sends its answers."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from parity.running.executor import Resources, WorkerError
from parity.running.ray.carried import Piece, changed, moved, named, pieces, put, states
from parity.running.workers.messages import is_last
from parity.running.workers.started import Command, Started, ended

OF_THE_MACHINE = ("PATH", "HOME", "USER", "LOGNAME", "HOSTNAME", "TMPDIR", "LD_LIBRARY_PATH")
"""Variables that say what a machine is like. All others are the caller's, as those of a worker of its own are."""
GPUS = "CUDA_VISIBLE_DEVICES"
"""The variable in which Ray says which GPUs an actor has."""
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
"""A worker that ended so was ended by its machine: for want of memory, or because that is shut down."""
LOOK = 1.0
"""Seconds between two looks at how much a worker prints."""


@dataclass(frozen=True)
class Wanted:
    """What an actor is told. ``gpus``: its worker sees those GPUs that Ray gives it.

    ``own``: the worker runs in the actor's own interpreter, which has packages that Ray has installed for it.
    ``root`` is the folder of results, "" where no job has any; the file ``mark`` lies there with ``secret`` in it, so
    that a node knows whether it has the same folder. ``folder`` is the caller's current one.
    """

    command: Command
    own: bool
    gpus: bool
    root: str
    mark: str
    secret: str
    folder: str


@dataclass(frozen=True)
class Place:
    """Where an actor is: its node, and whether that has the folder of results."""

    node: str
    shares: bool


@dataclass(frozen=True)
class End:
    """How a worker has ended. ``lost``: its machine ended it, which says nothing of the job."""

    obituary: str
    last_words: str
    lost: bool


class Actor:
    """A worker on this node. It is begun with the first task."""

    def __init__(self, wanted: Wanted) -> None:
        with contextlib.suppress(OSError):  # where a node lacks it, its own folder does
            os.chdir(wanted.folder)
        begun = here(wanted.command, wanted.gpus)
        if wanted.own:
            begun = replace(begun, arguments=(sys.executable, *begun.arguments[1:]))
        self._wanted = replace(wanted, command=begun)
        self._started: Started | None = None
        self._refused, self._over = "", ""
        self._scratch: Path | None = None

    def begin(self) -> Place:
        import ray

        shares = not self._wanted.root or _says(Path(self._wanted.mark), self._wanted.secret)
        self._scratch = None if shares else Path(tempfile.mkdtemp(prefix="parity-"))
        return Place(ray.get_runtime_context().get_node_id(), shares)

    def installed(self, path: Sequence[str]) -> Mapping[str, str | None]:
        """The versions that the worker's interpreter finds on this node; OSError where it cannot be run."""
        from parity.running.versions import versions_in

        return versions_in(self._wanted.command.arguments[0], path, self._wanted.command.variables)

    def take(self, piece: Piece) -> None:
        """Have a file for the next task."""
        assert self._scratch is not None
        put(self._scratch, piece)

    def answers(self, task: str) -> Iterator[str | Piece]:
        """What the worker answers to a task, a line each; before the last one, pieces of what it has written."""
        scratch, root = self._scratch, self._wanted.root
        if scratch is None:
            yield from self._answers(task)
            return
        names = named(task, root)
        before = states(scratch, names)
        for line in self._answers(moved(task, root, str(scratch))):
            if is_last(line):
                yield from pieces(scratch, changed(before, states(scratch, names)))
                for path in scratch.iterdir():
                    shutil.rmtree(path)
            # Whatever is said of a file there is meant for whoever looks here.
            yield line.replace(json.dumps(str(scratch))[1:-1], json.dumps(root)[1:-1])

    def _answers(self, task: str) -> Iterator[str]:
        try:
            if self._started is None:
                self._started = Started(self._wanted.command)
                threading.Thread(target=self._watch, args=(self._started,), daemon=True).start()
        except WorkerError as error:
            self._refused = str(error)
            return
        for line in self._started.answers(task, Resources()):
            yield line
            if is_last(line):
                return

    def _watch(self, started: Started) -> None:
        """End a worker that prints without end."""
        pause = threading.Event()
        while started.alive and not self._over:
            self._over = started.excess()
            pause.wait(LOOK)
        if self._over:
            started.kill()

    def interrupt(self) -> None:
        """End the worker; its answers end then."""
        if self._started is not None:
            self._started.kill()

    def end(self) -> End:
        """How the worker has ended, after whose answers none was the last."""
        if self._started is None:
            return End(self._refused, "", False)
        died, words = self._started.obituary(), self._started.last_words()
        if self._over:
            return End(ended(self._started.name, self._over, words), words, False)
        return End(died, words, self._started.process.returncode in FROM_OUTSIDE)

    def close(self) -> None:
        """End the worker, and take away what has been put on this node's disk."""
        if self._started is not None:
            self._started.stop()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)


def installed() -> Mapping[str, str | None]:
    """The versions that a worker in this process's interpreter finds."""
    from parity.running.versions import versions_in
    from parity.running.workers.started import foreign_environment

    return versions_in(sys.executable, (), foreign_environment(os.environ))


def here(command: Command, gpus: bool) -> Command:
    """A command with what this machine says of itself in the place of what the caller's does."""
    own = (*OF_THE_MACHINE, *([GPUS] if gpus else []))
    variables = {name: value for name, value in command.variables.items() if name not in own}
    return replace(command, variables=variables | {name: os.environ[name] for name in own if name in os.environ})


def _says(path: Path, secret: str) -> bool:
    try:
        return path.read_text() == secret
    except (OSError, ValueError):
        return False
