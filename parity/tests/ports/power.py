"""``python -m parity.tests.ports.power``: the smallest change of a constant that is still seen, for each model."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from parity.judging.verdict import Verdict
from parity.report.terminal import make_console, plain_table
from parity.tests.ports.pairs import MODELS, STEPS, Port, judged
from parity.tests.warm import Warm

CONSTANTS = {
    "resnet": ("RATE", "EPSILON", "DECAY"),
    "gpt": ("RATE", "EPSILON", "DECAY"),
    "llama": ("RATE", "EPSILON", "DECAY"),
    "lstm": ("RATE",),
    "unet": ("RATE", "EPSILON"),
}
"""What each torch port has: learning rate, norms' epsilon, decay. An LSTM has no norm, and nothing decays there."""
LARGEST, SMALLEST = 2, -7
"""Powers of ten between which the relative change is looked for."""


def smallest(seen: Callable[[int], bool]) -> int | None:
    """Give the least power of ten from which on a change is seen; None if the largest is not.

    >>> smallest(lambda power: power >= -3), smallest(lambda power: False)
    (-3, None)
    """
    low, high = SMALLEST - 1, LARGEST + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high if high <= LARGEST else None


def main(
    model: Annotated[list[str] | None, typer.Option()] = None,
    other: str = "keras",
    dtype: str = "float32",
    steps: int = STEPS,
) -> None:
    """Change a constant of the torch port by ever less, and hold it against a right port."""
    console, table = make_console(), plain_table("model", "constant", "smallest relative change that fails")
    with tempfile.TemporaryDirectory() as root, Warm() as warm:
        number = itertools.count()

        def empty() -> Path:
            path = Path(root, str(next(number)))
            path.mkdir()
            return path

        for name in model or MODELS:
            right = Port(name, other, dtype, steps=steps).made(warm, empty, "ports").result()
            for constant in CONSTANTS[name]:

                def seen(power: int, name: str = name, constant: str = constant, right: dict = right) -> bool:
                    port = Port(name, "torch", dtype, steps=steps, constant=constant, factor=1 + 10.0**power)
                    said = judged(port.made(warm, empty, "ports").result(), right)
                    return said.verdict is Verdict.FAIL

                least = smallest(seen)
                found = "none" if least is None else f"1e{least}"
                console.print(name, constant, found)
                table.add_row(name, constant, found)
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
