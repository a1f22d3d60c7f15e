"""A worker process: one framework, one cell after another, told what to do in JSON lines.

``python -m parity.worker`` reads one job a line from standard input and answers with events, one a line,
on what was its standard output. Everything that a framework prints goes to standard error instead. The parent
has set the framework's environment; this module imports NumPy and the implementation only after it was asked.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

Job = dict[str, Any]
Emit = Callable[..., None]


def main() -> None:
    jobs = {"record": _record, "climb": _climb, "floor": _floor, "sample": _sample, "explain": _explain}
    serve(jobs | {"prove": _prove, "clean": _clean, "smallest": _smallest, "find": _find_cuda})


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


def _find(job: Job) -> tuple[Any, Any, Any]:
    from parity.suite import load_suite

    suite = load_suite(job["suite"])
    entry = suite.entry(job["case"], job.get("variant"))
    return entry, suite.implementation(entry, job["implementation"]), suite.implementation(entry, suite.reference)


def _record(job: Job, emit: Emit) -> dict[str, Any]:
    from parity.deep import Watched
    from parity.frameworks import settings_of
    from parity.tolerance import Lockstep, checked
    from parity.trainer import record
    from parity.trajectory import Writer, batch_order_hash

    entry, implementation, reference = _find(job)
    case = entry.case
    begun = time.perf_counter()
    implementation.load()
    imported = time.perf_counter()
    if job["dtype"] == "checked":
        trainer, case = checked(implementation.build, case, longdouble=implementation.label == "numpy")
    else:
        trainer = implementation.build(case, job["dtype"], job["device"])
    if job["lockstep"]:
        trainer = Lockstep(trainer, reference.build(case, "float64", "cpu"), case, job["lockstep"])
        state, go_on = trainer.checkpoint, trainer.resume
    elif job["dtype"] == "checked":
        # Neither a longdouble nor the order of random numbers can be stored: such a run begins anew.
        state, go_on = lambda: None, trainer.load
    else:
        state, go_on = trainer.export, trainer.load
    watched = Watched(trainer, case, job["deep"]) if job.get("deep") else None
    machine = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    threads, settings = int(os.environ["OMP_NUM_THREADS"]), settings_of(implementation.label, job["device"])
    order = batch_order_hash(case.schedule, len(case.data().x), job["epochs"])
    meta = {**job["meta"], "batch_order": order, "platform": machine, "threads": threads, "settings": settings}
    built = time.perf_counter()
    # The framework itself is imported by the first run of its process alone.
    meta["timings"] = {"import": imported - begun, "build": built - imported}
    with Writer(job["folder"], meta, state, resume=job["resume"]) as writer:
        if writer.resumed is not None:
            go_on(writer.resumed)
        for chunk in record(watched or trainer, case, job["epochs"], writer.start):
            writer.add(chunk, watched.take() if watched else None)
            emit("epoch", epoch=int(chunk.epochs[-1]), of=job["epochs"])
        writer.finish(seconds=time.perf_counter() - built)
    return {}


def _climb(job: Job, emit: Emit) -> list[dict[str, Any]]:
    from dataclasses import asdict
    from pathlib import Path

    from parity.ladder import climb
    from parity.tolerance import load

    entry, implementation, reference = _find(job)
    floors = load(Path(job["floor"]), job["fingerprint"])
    lockstep = load(Path(job["lockstep_floor"]), job["fingerprint"]) if job["lockstep_floor"] else None
    if floors is None:
        raise FileNotFoundError(f"no noise floor at {job['floor']}")
    steps = climb(
        implementation.build,
        reference.build,
        entry.case,
        job["dtype"],
        job["device"],
        floors[job["dtype"]],
        lockstep[job["dtype"]] if lockstep else None,
    )
    return [asdict(step) for step in steps]


def _sample(job: Job, emit: Emit) -> str:
    from parity.sampling import sample
    from parity.trajectory import read

    entry, implementation, _ = _find(job)
    trainer = implementation.build(entry.case, job["dtype"], job["device"])
    state = trainer.export()
    state.params = {name: values[len(values) - 1] for name, values in read(job["folder"]).params.items()}
    trainer.load(state)
    return sample(trainer.predict, entry.case.alphabet, job["prime"], job["length"], job["temperature"], job["seed"])


def _floor(job: Job, emit: Emit) -> dict[str, Any]:
    from pathlib import Path

    from parity.tolerance import measure, runs_of, save

    entry, implementation, _ = _find(job)
    dtypes = job["dtypes"]
    runs = itertools.count(1)
    floors = measure(
        implementation.build,
        entry.case,
        job["epochs"],
        job["lockstep"],
        lambda: emit("epoch", epoch=next(runs), of=runs_of(dtypes)),
        dtypes,
    )
    save(floors, Path(job["path"]), job["fingerprint"])
    return {}


def _explain(job: Job, emit: Emit) -> dict[str, Any]:
    from pathlib import Path

    from parity.explain import explain
    from parity.tolerance import load
    from parity.trajectory import read
    from parity.verdict import judge

    entry, implementation, reference = _find(job)
    floors = load(Path(job["floor"]), job["fingerprint"])
    if floors is None:
        raise FileNotFoundError(f"no noise floor at {job['floor']}")
    run, other = read(job["folder"]), read(job["reference"])
    floor = floors[job["dtype"]].until(len(run.loss), len(run.epochs))
    done = itertools.count(1)
    explanation = explain(
        entry,
        implementation.build(entry.case, job["dtype"], job["device"]),
        reference,
        run,
        judge(run, other, floor),
        job["dtype"],
        floor,
        lambda: emit("epoch", epoch=next(done), of=job["epochs"]),
    )
    return explanation.as_json()


def _find_cuda(job: Job, emit: Emit) -> str:
    import importlib

    return str(importlib.import_module(job["trainer"]).find_cuda())


def _prove(job: Job, emit: Emit) -> Any:
    from parity.experiments import plants

    suite, entry, implementation = _of_suite(job)
    return plants(suite, entry, implementation, job["plants"], lambda: emit("step"), job["alternate"])


def _clean(job: Job, emit: Emit) -> Any:
    from parity.experiments import clean

    suite, entry, implementation = _of_suite(job)
    return clean(suite, entry, implementation, job["seeds"], lambda: emit("step"))


def _smallest(job: Job, emit: Emit) -> Any:
    from parity.experiments import smallest

    suite, entry, _ = _of_suite(job)
    return smallest(suite, entry, lambda: emit("step"))


def _of_suite(job: Job) -> tuple[Any, Any, Any]:
    from parity.suite import load_suite

    suite = load_suite(job["suite"])
    entry = suite.entry(job["case"])
    return suite, entry, suite.implementation(entry, job["implementation"])


if __name__ == "__main__":
    main()
