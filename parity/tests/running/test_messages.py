"""Jobs and answers travel as JSON and come out as they went in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from parity.judging.ladder import Rung
from parity.judging.verdict import Verdict
from parity.proving.plan import Plan, Planned
from parity.proving.worker import Clean, CleanRun, Plants, Prove, SmallestSeen, Subject
from parity.running.executor import Environment, Progress, Resources
from parity.running.jobs import (
    CellName,
    Climb,
    Explain,
    FindDevice,
    FloorFile,
    MeasureFloor,
    OnDisk,
    Record,
    SampleText,
)
from parity.running.workers.messages import Done, Failed, Task, Told, read, write

CELL = CellName("impls", "char-gru", None, "jax", "float32", "cuda")
ON = CELL, CELL.environment, CELL.resources
FLOOR = FloorFile("floors/char-gru.safetensors", "a mark")
OF = Subject("impls", "iris-logistic", "torch"), Environment("torch"), Resources(cpus=0.5, memory=1 << 30)
JOBS = (
    Record(*ON, 100, "runs/a", {"versions": {"jax": None}, "list": [1, [2]], "deep": 0}, lockstep=10, resume=True),
    Climb(*ON, FLOOR, FLOOR),
    SampleText(*ON, "runs/a", "Th", 200, 0.1, 3),
    MeasureFloor(*ON, 100, ("float32", "float64"), FLOOR),
    Explain(*ON, 100, "runs/a", "runs/b", FLOOR),
    FindDevice(Environment("jax", "cuda"), "parity.trainers.jax_trainer"),
    Prove(*OF, ("one", "another"), alternate=True),
    Plan("impls", False, Environment("numpy")),
)
RESULTS = (
    None,
    "a text with\na line in it",
    OnDisk(cached=True),
    (Rung("contract", Verdict.PASS, 0.25, ""), Rung("update", Verdict.FAIL, None, "why")),
    (CleanRun("a", "numpy", "float32", 0, Verdict.INCONCLUSIVE, float("inf"), ""),),
    Plants((), ("one",), ("two",), (), "cut"),
    SmallestSeen({"float64": 1e-14, "float32": None}, ""),
    Planned((Clean(*OF, seeds=4),), ("nowhere",)),
    {"sentence": "what --json writes", "parts": [["dense/bias", 0.5]], "none": None},
)


@pytest.mark.parametrize("job", JOBS, ids=lambda job: type(job).__name__)
def test_a_job_comes_out_as_it_went_in(job: Any) -> None:
    line = write(Task(7, job))
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    assert read(line) == Task(7, job)
    assert type(read(line).job) is type(job)


@pytest.mark.parametrize("result", RESULTS, ids=range(len(RESULTS)))
def test_an_answer_comes_out_as_it_went_in(result: Any) -> None:
    assert read(write(Done(8, result))) == Done(8, result)


def test_a_verdict_is_one_again_and_lists_of_plain_json_stay_lists() -> None:
    steps = read(write(Done(1, RESULTS[3]))).result
    assert steps[0].verdict is Verdict.PASS
    assert read(write(Done(1, RESULTS[-1]))).result["parts"] == [["dense/bias", 0.5]]
    assert read(write(Told(1, Progress(1, 2)))) == Told(1, Progress(1, 2))
    assert read(write(Failed(1, "why", "where"))) == Failed(1, "why", "where")


@dataclass(frozen=True)
class Odd:
    what: Any


@pytest.mark.parametrize("what", [Path("a"), object(), {1, 2}, b"bytes", Odd(Path("a"))])
def test_what_cannot_travel_is_refused_where_it_is_sent(what: Any) -> None:
    with pytest.raises(TypeError):
        write(Done(1, Odd(what)))


MESSAGES: Mapping[str, Any] = {
    "no JSON": "no JSON",
    "no module": {"__type__": "no_such_module:Record"},
    "no name": {"__type__": "parity.running.jobs:NoSuchJob"},
    "no record": {"__type__": "pathlib:Path"},
    "a function": {"__type__": "os:getcwd"},
    "no text": {"__type__": 3},
    "fields missing": {"__type__": "parity.running.workers.messages:Done"},
    "fields too many": {"__type__": "parity.running.executor:Progress", "done": 1, "of": 2, "more": 3},
    "no member": {"__type__": "parity.judging.verdict:Verdict", "value": "MAYBE"},
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_what_is_no_message_is_refused_in_a_line(message: Any) -> None:
    with pytest.raises(ValueError, match="is no message of ours: ") as caught:
        read(message if isinstance(message, str) else json.dumps(message))
    assert "\n" not in str(caught.value)
