"""``python -m parity.tests.nn [EXAMPLES] [FUNCTION]...``: hold ``parity.nn`` to every framework in many configurations.

In 200 of each function unless told otherwise, where the tests ask for ``conformance.EXAMPLES``. Status 1 if one fails.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from rich.console import Console

from parity.running.executor import Environment, WorkerError
from parity.tests.nn.conformance import FRAMEWORKS, families, held
from parity.tests.warm import Warm


def asked(warm: Warm, examples: int, named: list[str]) -> Iterator[tuple[str, str, Future[Any]]]:
    """Put every question: the function, the framework, and the answer to come."""
    for function in (one.name for some in families().values() for one in some):
        if not named or function in named:
            for framework in FRAMEWORKS:
                arguments = {"framework": framework, "function": function, "examples": examples}
                yield function, framework, warm.ask(held, Environment(framework), arguments)


def main(examples: int, named: list[str]) -> int:
    console, failed, count = Console(highlight=False), 0, 0
    with Warm() as warm:
        for function, framework, answer in list(asked(warm, examples, named)):
            try:
                ways = answer.result()
            except WorkerError as error:
                failed += 1
                console.print(f"{function} in {framework}: {error}", markup=False)
                continue
            count += sum(way["held"] for way in ways)
            for way in ways:
                console.print(f"{function} in {', '.join(way['names'])}: {way['held']} configurations", markup=False)
    console.print(f"{count:,} configurations held, {failed} questions failed")
    return int(bool(failed))


sys.exit(main(int(next(iter(sys.argv[1:2]), "200")), sys.argv[2:]))
