"""A worker process: one framework on one device, one job after another, told what to do in lines of JSON.

It is begun by ``parity.running.workers.begin``. It reads one task a line from what was its standard input and answers,
one message a line, on what was its standard output: ``parity.running.workers.messages`` has them. Everything that a
framework prints goes to standard error instead, and whoever asks standard input for a word is told that it has ended.
The parent has set the framework's environment; NumPy and the implementation are imported only when a job asks for them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import select
import signal
import sys
import threading
import traceback
from dataclasses import replace
from typing import Any, TextIO

from parity.running.executor import Environment, Job, Progress, out_of_room
from parity.running.packages import Reach
from parity.running.reading.reads import watch
from parity.running.workers.messages import Done, Failed, Told, record, write
from parity.running.workers.process import Process


def main(reach: Reach, environment: Environment) -> None:
    """Do the jobs that standard input asks for until it ends, or the parent does: all of them of one environment."""
    _end_with_parent()
    _end_before_parent()
    _end_all_with_parent()
    tasks, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    _leave_to_this_process(nothing, tasks.fileno(), answers.fileno())
    watch(reach)
    process = Process(environment)
    for line in tasks:
        Answering(answers, line, process).answer()


def _leave_to_this_process(nothing: int, *channels: int) -> None:
    """Let no process that is forked from this one read tasks or answer: what it does is nobody's job."""

    def in_child() -> None:
        for channel in channels:
            os.dup2(nothing, channel)

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)


def _end_with_parent() -> None:
    """End this process the moment that its parent ends, where the system can."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _end_all_with_parent() -> None:
    """End this process and all that it starts when its parent ends, however that ends and whatever they do then.

    A process beside this one waits for the end of the tasks, which only the parent can write. It is no child of this
    one: whoever waits for all children here must not wait for it.
    """
    if not hasattr(os, "fork") or os.getpgrp() != os.getpid():
        return  # the group is somebody else's
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork() == 0:
        # With the answers open here, too, the parent would not see that this process has ended.
        os.closerange(1, 64)
        ended = select.poll()
        ended.register(0, 0)  # a hang-up alone: what can be read is not its own
        ended.poll()
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _end_before_parent() -> None:
    """Where the system runs out of memory, let it end this process and not the parent, which has all the others."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


class Answering:
    """One task, from the line that it came in to its last answer. Another task's answers are never mixed with it."""

    def __init__(self, answers: TextIO, line: str, process: Process) -> None:
        self._answers, self._lock, self._process = answers, threading.Lock(), process
        self._task = json.loads(line)
        self._over = False
        self._pid = os.getpid()

    def answer(self) -> None:
        number, job = self._task["id"], None
        try:
            job = record(self._task["job"])
            self._process.begin()
            done: Done | Failed = Done(number, job.run(self.emit))
        except Exception as error:
            # The cell is lost, not the worker; the parent reports the error as the cell's reason.
            done = Failed(number, _reason(error, job), traceback.format_exc(), full=out_of_room(error))
        if os.getpid() != self._pid:
            os._exit(1)  # forked from this one within the job, which goes on here
        try:
            changed = self._process.changed()
        except Exception as error:
            changed = (f"what it keeps cannot be looked at any more: {_reason(error, job)}",)
        try:
            result = write(replace(done, changed=changed))
        except Exception as error:  # it cannot travel
            result = write(Failed(number, _reason(error, job), traceback.format_exc(), changed))
        with self._lock:
            self._over = True
            self._answers.write(result)

    def emit(self, progress: Progress) -> None:
        """Say how far the job is; RuntimeError once it is over, as where a thread has outlived it.

        What was forked from this process ends here: its parent does the job.
        """
        if os.getpid() != self._pid:
            os._exit(1)
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
