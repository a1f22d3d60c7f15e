"""``python -m parity.tests.nn [EXAMPLES] [FUNCTION]...``: hold ``parity.nn`` to every framework in many configurations.

In 200 of each function unless told otherwise, where the tests ask for ``conformance.EXAMPLES``. Status 1 if one fails.
"""

from __future__ import annotations

import sys

from rich.console import Console

from parity.running.executor import WorkerError
from parity.tests.nn.table import asked, described
from parity.tests.warm import Warm


def main(examples: int, named: list[str]) -> int:
    console, failed, count = Console(highlight=False), 0, 0
    with Warm() as warm:
        put = asked(warm, named or [name for name, _, _ in described()], examples)
        for function, framework, answer in ((name, *one) for name, answers in put.items() for one in answers.items()):
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
