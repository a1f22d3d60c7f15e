"""A worker process of this machine: how it is begun, asked, listened to and ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import IO

from parity.frameworks import COMMON, FRAMEWORKS
from parity.running.executor import Environment, Resources, WorkerError
from parity.running.packages import HERE, Reach, own_path

LAST_WORDS = 8192
"""So many bytes of what a worker has printed are looked at when it has failed."""
LINE = 64 << 20
"""An answer of more characters than this is none."""
PRINTED = 1 << 30
"""A worker that has printed more bytes than this prints without end."""


def worker_environment(framework: str, path: Sequence[str] = (), device: str = "cpu") -> dict[str, str]:
    """The environment variables of a framework's process: this one's, the framework's, and ``path`` before all."""
    settings = next(known.environment_on(device) for known in FRAMEWORKS if known.name == framework)
    found = [entry for entry in (*dict.fromkeys(path), os.environ.get("PYTHONPATH", "")) if entry]
    search = {"PYTHONPATH": os.pathsep.join(found)} if found else {}
    return {**os.environ, **COMMON, **settings, **search, "PYTHONHASHSEED": "0"}


def foreign_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The same for another interpreter: without what says where this one finds its packages."""
    return {name: value for name, value in environment.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


@dataclass(frozen=True)
class Command:
    """What begins a worker: its arguments and its variables. ``name`` is what it is called where it fails."""

    name: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str]


def command(environment: Environment, python: str | None, reach: Reach) -> Command:
    """What begins a worker of that environment in the interpreter ``python``, or in this one if it is None."""
    variables = worker_environment(environment.framework, device=environment.device)
    if python is None:
        reach = replace(reach, folders=(*reach.folders, *own_path()))
    else:
        variables = foreign_environment(variables)
    told = json.dumps(asdict(reach) | asdict(environment))
    # Without -P the folder of that file would come first of all.
    arguments = (python or sys.executable, "-P", str(HERE / "running" / "workers" / "begin.py"), told)
    return Command(f"the {environment.framework} worker", arguments, variables)


class Started:
    """A process that was begun so: it takes a task a line and answers in lines. WorkerError if it cannot be begun."""

    def __init__(self, begun: Command) -> None:
        self.name = begun.name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        # In a session of its own: Ctrl-C reaches the parent alone, which then ends its workers itself.
        try:
            self.process = subprocess.Popen(
                begun.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                encoding="utf-8",
                errors="backslashreplace",
                env=begun.variables,
                start_new_session=True,
            )
        except OSError as error:
            self._errors.close()
            raise WorkerError(f"{self.name} cannot be started: {error}") from error

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def answers(self, task: str, resources: Resources) -> Iterator[str]:
        """Hand it a task, and give each line that it answers, until it ends."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(task)
            self.process.stdin.flush()
        while line := self.process.stdout.readline(LINE):
            yield line

    def kill(self) -> None:
        """End the process and what it started; whoever waits for its answers sees their end."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End it and give back all that it held here."""
        self.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def obituary(self) -> str:
        """What it ended of, in a line; it is waited for."""
        code = self.process.wait()
        if code < 0:
            return f"{self.name} died of {signal.Signals(-code).name}"
        return f"{self.name} ended with status {code}: {_last_line(self.last_words())}"

    def excess(self) -> str:
        """What it does without end, so that it is to be ended; "" where it does not."""
        printed = os.fstat(self._errors.fileno()).st_size
        return f"printing without end, {printed >> 20} MiB by now" if printed > PRINTED else ""

    def last_words(self) -> str:
        """The end of what it has printed."""
        return last_words(self._errors)


def ended(name: str, over: str, printed: str) -> str:
    """What is said of a process that was ended for what it did."""
    return f"{name} was {over}, and was ended; its last words: {_last_line(printed)}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines()[-1:] or ["it said nothing"])[0]


def last_words(printed: IO[bytes]) -> str:
    """The end of what a process has printed; no more of it is read."""
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST_WORDS))
    return printed.read().decode(errors="replace")
