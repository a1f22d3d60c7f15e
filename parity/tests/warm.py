"""Processes that stay: what tests ask of a framework is asked in one process of it, for as long as pytest runs.

A test that needs a process of its own, because it is the process that it tests, starts one. Every other says what it
asks for, and by whom it is answered, and finds the answer in the fixture ``answer``::

    def sizes(label: str) -> dict[str, int]:
        '''Called where the framework is; arguments and result are plain values, as those of jobs are.'''

    @pytest.mark.asks(question=sizes)
    @pytest.mark.parametrize("label", LABELS)
    def test_sizes(label: str, answer: dict[str, int]) -> None:
        assert answer == {...}

The function's parameters are the test's own, and ``folder``, an empty one for its answer. The framework is the test's
``framework``, or that of its ``label``, or named in the mark, as what is no parameter of the test is:
``framework="torch"``. The process has the settings of a CPU and answers many, unless a ``device`` is named likewise, or
what it is kept for alone: ``apart="..."``. All questions are put when pytest begins, and answered beside the tests that
ask nothing.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from parity.frameworks import FRAMEWORKS, framework_of
from parity.running.executor import Emit, Environment, Job, Progress, Resources
from parity.running.packages import DOCUMENTS, reach_of
from parity.running.workers.pool import Pool
from parity.suite import load_suite

PACKAGES = {package for known in FRAMEWORKS for packages in known.packages.values() for package in packages}
"""What is imported with a framework, by the names of the distributions, which are those of the modules as well."""


RESOURCES = Resources(about="a question of a test")
PROCESSES = {"jax": 2}
"""How many processes a framework has, if not one: JAX compiles for longer than all others work together."""


@dataclass(frozen=True)
class Ask:
    """Call a function, ``module:name``; arguments and result are such as travel to and from a worker."""

    environment: Environment
    function: str
    arguments: Mapping[str, Any]
    resources: Resources = RESOURCES

    def run(self, emit: Emit) -> Any:
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)(**self.arguments)


class Warm:
    """An executor with a process or two for each environment, begun by the first jobs and kept until the end.

    ``apart`` names another of the same environment, which does nothing else. ``renewed`` says what a process was
    begun anew for, each time: a job had left something behind. That costs an import of the framework.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._pools: dict[tuple[Environment, str], Pool] = {}
        self._answers: dict[str, Future[Any]] = {}
        self.renewed: list[str] = []

    def submit(self, job: Job[Any], on_event: Callable[[Progress], None] = lambda progress: None) -> Future[Any]:
        return self._pool(job.environment, "").submit(job, on_event)

    def _pool(self, environment: Environment, apart: str) -> Pool:
        if (environment, apart) not in self._pools:
            number = 1 if apart else PROCESSES.get(environment.framework, 1)
            pool = self._stack.enter_context(Pool(number, reach=reach_of(DOCUMENTS), on_changed=self._renew))
            self._pools[environment, apart] = pool
            if environment.device == "cpu" and not apart:
                self.ask(begin, environment, {"framework": environment.framework})
        return self._pools[environment, apart]

    def _renew(self, job: Job[Any], changes: tuple[str, ...]) -> None:
        asked, what = getattr(job, "function", type(job).__name__), changes[0].partition(" was ")[0]
        self.renewed.append(f"{asked} in {job.environment.framework} changes {what}")

    def ask(
        self,
        question: Callable[..., Any],
        environment: Environment,
        arguments: Mapping[str, Any],
        apart: str = "",
        folder: Callable[[], Path] | None = None,
    ) -> Future[Any]:
        """The answer to a question, asked in a framework's process; who asks the same again gets the same answer.

        ``folder`` makes an empty folder for an answer that needs one.
        """
        name = f"{question.__module__}:{question.__qualname__}"
        known = json.dumps([*astuple(environment), apart, name, arguments], sort_keys=True)
        pool = self._pool(environment, apart)
        if known not in self._answers:
            given = {**arguments, "folder": str(folder())} if folder else arguments
            self._answers[known] = pool.submit(Ask(environment, name, given))
        return self._answers[known]

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Warm:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


def begin(framework: str) -> dict[str, list[str]]:
    """Import every implementation of the documents' models in a framework, one by one, flax's last.

    By module, which packages of frameworks this process has then.
    """
    found = [
        implementation
        for entry in load_suite(DOCUMENTS).entries.values()
        for implementation in entry.implementations.values()
        if framework_of(implementation.label).name == framework
    ]
    loaded = {}
    for implementation in sorted(found, key=lambda one: one.label.startswith("flax")):
        if implementation.module not in loaded:
            implementation.load()
            loaded[implementation.module] = sorted(PACKAGES & {name.split(".")[0] for name in sys.modules})
    return loaded


def put(warm: Warm, item: pytest.Item, folder: Callable[[], Path]) -> Future[Any] | None:
    """Put the question of a test that asks one; the same question, asked again, has its first answer."""
    mark = item.get_closest_marker("asks")
    if mark is None or not isinstance(item, pytest.Function):
        return None
    known = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    known |= mark.kwargs
    framework = known.get("framework") or framework_of(known["label"]).name
    environment = Environment(framework, known.get("device", "cpu"))
    question = mark.kwargs["question"]
    wanted = inspect.signature(question).parameters
    arguments = {name: known[name] for name in wanted if name != "folder"}
    return warm.ask(question, environment, arguments, known.get("apart", ""), folder if "folder" in wanted else None)
