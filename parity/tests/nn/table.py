"""Write ``parity/nn/table.json`` anew from what the frameworks that are installed here say.

    python -m parity.tests.nn.table [FUNCTION]...

It asks what ``test_conformance`` asks; where something does not hold, nothing is written. Of functions that are not
named, where some are, the table says what it said.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from parity.running.executor import Environment
from parity.tests.nn.conformance import EXAMPLES, FRAMEWORKS, families, held
from parity.tests.warm import Warm

FILE = Path(__file__).parents[2] / "nn" / "table.json"


def row(name: str, family: str, about: str, ways: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """A function's entry, from the answers of each framework."""
    return {
        "name": name,
        "family": family,
        "about": about,
        "ways": [{"framework": framework, **way} for framework, answers in ways.items() for way in answers],
    }


def described() -> list[tuple[str, str, str]]:
    """Every function's name, family, and what it does."""
    return [
        (one.name, family, (inspect.getdoc(one.compute) or "").splitlines()[0])
        for family, functions in families().items()
        for one in functions
    ]


def asked(warm: Warm, names: Iterable[str], examples: int) -> dict[str, dict[str, Future[Any]]]:
    """Put the question of each function to each framework: the answers to come, by both."""
    return {
        name: {
            framework: warm.ask(
                held, Environment(framework), {"framework": framework, "function": name, "examples": examples}
            )
            for framework in FRAMEWORKS
        }
        for name in names
    }


def main(named: list[str]) -> None:
    kept = {one["name"]: one for one in json.loads(FILE.read_text(encoding="utf-8"))["functions"]} if named else {}
    functions = [one for one in described() if one[0] in named or one[0] not in kept]
    with Warm() as warm:
        put = asked(warm, [name for name, _, _ in functions], EXAMPLES)
        for name, family, about in functions:
            answers = {framework: answer.result() for framework, answer in put[name].items()}
            kept[name] = row(name, family, about, answers)
    rows = [kept[name] for name, _, _ in described()]
    FILE.write_text(json.dumps({"functions": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
