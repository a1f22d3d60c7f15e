"""The jobs that a worker process does, each by a function of its own."""

from __future__ import annotations

import itertools
import os
import platform
import time
from collections.abc import Callable
from typing import Any

Job = dict[str, Any]
Emit = Callable[..., None]


def _find(job: Job) -> tuple[Any, Any, Any]:
    from parity.suite import load_suite

    suite = load_suite(job["suite"])
    entry = suite.entry(job["case"], job.get("variant"))
    return entry, suite.implementation(entry, job["implementation"]), suite.implementation(entry, suite.reference)


def record_run(job: Job, emit: Emit) -> dict[str, Any]:
    from parity.frameworks import settings_of
    from parity.judging.noise import checked, in_lockstep
    from parity.recording.format import batch_order_hash
    from parity.recording.steps import watched
    from parity.recording.writer import Writer
    from parity.trainer import record

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
        trainer, state, go_on = in_lockstep(trainer, reference.build(case, "float64", "cpu"), case, job["lockstep"])
    elif job["dtype"] == "checked":
        # Neither a longdouble nor the order of random numbers can be stored: such a run begins anew.
        state, go_on = lambda: None, trainer.load
    else:
        state, go_on = trainer.export, trainer.load
    seen = watched(trainer, case, job["deep"]) if job.get("deep") else None
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
        for chunk in record(seen.trainer if seen else trainer, case, job["epochs"], writer.start):
            writer.add(chunk, seen.take() if seen else None)
            emit("epoch", epoch=int(chunk.epochs[-1]), of=job["epochs"])
        writer.finish(seconds=time.perf_counter() - built)
    return {}


def climb_ladder(job: Job, emit: Emit) -> list[dict[str, Any]]:
    from dataclasses import asdict
    from pathlib import Path

    from parity.judging.floor import load
    from parity.judging.ladder import climb

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


def sample_text(job: Job, emit: Emit) -> str:
    from parity.recording.reader import read
    from parity.running.sampling import sample

    entry, implementation, _ = _find(job)
    trainer = implementation.build(entry.case, job["dtype"], job["device"])
    state = trainer.export()
    state.params = {name: values[len(values) - 1] for name, values in read(job["folder"]).params.items()}
    trainer.load(state)
    return sample(trainer.predict, entry.case.alphabet, job["prime"], job["length"], job["temperature"], job["seed"])


def measure_floor(job: Job, emit: Emit) -> dict[str, Any]:
    from pathlib import Path

    from parity.judging.floor import save
    from parity.judging.noise import measure, runs_of

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


def explain_run(job: Job, emit: Emit) -> dict[str, Any]:
    from pathlib import Path

    from parity.explaining.explain import explain
    from parity.judging.floor import load
    from parity.judging.verdict import judge
    from parity.recording.reader import read

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


def find_cuda(job: Job, emit: Emit) -> str:
    import importlib

    return str(importlib.import_module(job["trainer"]).find_cuda())
