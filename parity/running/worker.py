"""A worker process: one framework on one device, one job after another, told what to do in lines of JSON.

It is begun by ``parity.running.begin``. It reads one task a line from what was its standard input and answers, one
message a line, on what was its standard output: ``parity.running.messages`` has them. Everything that a framework
prints goes to standard error instead, and whoever asks standard input for a word is told that it has ended. The
parent has set the framework's environment; NumPy and the implementation are imported only when a job asks for them.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from typing import Any, TextIO

from parity.running.executor import Job, Progress
from parity.running.messages import Done, Failed, Told, record, write


def main() -> None:
    """Do the jobs that standard input asks for until it ends, or the parent does."""
    _end_with_parent()
    tasks, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for line in tasks:
        Answering(answers, line).answer()


def _end_with_parent() -> None:
    """End this process when its parent ends, however that ends and whatever this one is doing then."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


class Answering:
    """One task, from the line that it came in to its last answer. Another task's answers are never mixed with it."""

    def __init__(self, answers: TextIO, line: str) -> None:
        self._answers, self._lock = answers, threading.Lock()
        self._task = json.loads(line)
        self._over = False

    def answer(self) -> None:
        number, job = self._task["id"], None
        try:
            job = record(self._task["job"])
            result = write(Done(number, job.run(self.emit)))
        except Exception as error:
            # The cell is lost, not the worker; the parent reports the error as the cell's reason.
            result = write(Failed(number, _reason(error, job), traceback.format_exc()))
        with self._lock:
            self._over = True
            self._answers.write(result)

    def emit(self, progress: Progress) -> None:
        """Say how far the job is; RuntimeError once it is over, as where a thread has outlived it."""
        with self._lock:
            if self._over:
                raise RuntimeError("the job that says how far it is has ended")
            self._answers.write(write(Told(self._task["id"], progress)))


_NO_KERNEL = (
    r"\"(?P<op>\w+)\" not implemented for '",  # torch
    r"No OpKernel was registered to support Op '(?P<op>\w+)'",  # TensorFlow in a graph, and the next two elsewhere
    r"Could not find device for node: [^=]*= (?P<op>\w+)\[",
    r"Value for attr 'T' of \w+ is not in the list of allowed values.*Op<name=(?P<op>\w+);",
)
"""How frameworks say that an operation cannot be had in a dtype on a device."""


def _reason(error: Exception, job: Job[Any] | None) -> str:
    """The error in one line; what a framework has no kernel for is said the same way for all of them."""
    text = " ".join(str(error).split())
    cell = getattr(job, "cell", None)
    for pattern in _NO_KERNEL:
        found = re.search(pattern, text)
        if found and cell is not None:
            return f"{cell.implementation} has no {cell.dtype} kernel for {found['op']} on {cell.device}"
    return f"{type(error).__name__}: {text}".removesuffix(": ")
