"""A worker process: one framework, one cell after another, told what to do in JSON lines.

``python -m parity.running.worker`` reads one job a line from standard input and answers with events, one a line,
on what was its standard output. Everything that a framework prints goes to standard error instead. The parent
has set the framework's environment; this module imports NumPy and the implementation only after it was asked.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from parity.running.jobs import Emit, Job, climb_ladder, explain_run, find_cuda, measure_floor, record_run, sample_text


def main() -> None:
    jobs = {
        "record": record_run,
        "climb": climb_ladder,
        "floor": measure_floor,
        "sample": sample_text,
        "explain": explain_run,
    }
    serve(jobs | {"find": find_cuda})


def serve(jobs: Mapping[str, Callable[[Job, Emit], Any]]) -> None:
    """Do the jobs that standard input asks for, each by the function of its name, until the input ends."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def emit(event: str, **fields: Any) -> None:
        channel.write(json.dumps({"event": event, **fields}) + "\n")

    for line in sys.stdin:
        job = json.loads(line)
        begun = time.perf_counter()
        try:
            result = jobs[job["do"]](job, emit)
        except Exception as error:
            # The cell is lost, not the worker; the parent reports the error as the cell's reason.
            emit("error", message=_reason(error, job), trace=traceback.format_exc())
        else:
            emit("done", seconds=time.perf_counter() - begun, result=result)


_NO_KERNEL = (
    r"\"(?P<op>\w+)\" not implemented for '",  # torch
    r"No OpKernel was registered to support Op '(?P<op>\w+)'",  # TensorFlow in a graph, and the next two elsewhere
    r"Could not find device for node: [^=]*= (?P<op>\w+)\[",
    r"Value for attr 'T' of \w+ is not in the list of allowed values.*Op<name=(?P<op>\w+);",
)
"""How frameworks say that an operation cannot be had in a dtype on a device."""


def _reason(error: Exception, job: Job) -> str:
    """The error in one line; what a framework has no kernel for is said the same way for all of them."""
    text = " ".join(str(error).split())
    for pattern in _NO_KERNEL:
        found = re.search(pattern, text)
        if found and "dtype" in job:
            return f"{job['implementation']} has no {job['dtype']} kernel for {found['op']} on {job['device']}"
    return f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    main()
