"""The command that lets a model write: sample."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parity.cli.asked import matrix_of
from parity.cli.options import (
    Data,
    ElseFloat64,
    Epochs,
    Frameworks,
    Impls,
    Jobs,
    Json,
    Out,
    Pythons,
    SuiteName,
    Timeout,
)
from parity.cli.output import clear_errors, write_json

if TYPE_CHECKING:
    from parity.running.cells import Cell
    from parity.running.matrix import Matrix
    from parity.running.writing import Mark


def sample(
    case: Annotated[str, typer.Argument(metavar="CASE", help="A case whose model writes text.")],
    prime: Annotated[str, typer.Option("--prime", metavar="TEXT", help="How the text begins.")] = "Th",
    length: Annotated[int, typer.Option("--length", min=0, metavar="N", help="Characters to add.")] = 200,
    temperature: Annotated[
        float, typer.Option("--temperature", metavar="T", help="Below 1 keeps to the likely, above 1 strays from it.")
    ] = 0.8,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**32 - 1, metavar="N", help="Of the uniforms drawn.")] = 0,
    weights: Annotated[
        str, typer.Option("--weights", metavar="NAME", help="All take this implementation's trained parameters.")
    ] = "",
    impl: Impls = None,
    framework: Frameworks = None,
    dtype: ElseFloat64 = None,
    epochs: Epochs = None,
    suite: SuiteName = None,
    out: Out = Path("runs"),
    jobs: Jobs = None,
    timeout: Timeout = None,
    python: Pythons = None,
    data: Data = None,
    every: Annotated[
        int | None,
        typer.Option("--every", min=1, metavar="N", help="Train now, and write after epochs 1, 1 + N, … as well."),
    ] = None,
    json_file: Json = None,
) -> None:
    """Let each implementation write text after its own run.

    In float64 unless told otherwise. A run that is not on disk is made first. The random numbers are NumPy's: the same
    parameters write the same text in every framework. With --every a run is made for its texts alone, whatever is on
    disk, and recorded nowhere: each text comes with the time elapsed and the loss.

    Status 0 if every implementation wrote, 3 if one could not.

    \b
    Examples:
      parity sample char-gru --prime Th
      parity sample char-gru --weights torch --temperature 0.5
      parity sample char-gru --impl torch --every 50
    """
    from parity.report.data import written
    from parity.report.terminal import Watch, make_console, print_texts
    from parity.report.writing import print_mark
    from parity.running.writing import write_while_training
    from parity.suite import SuiteError

    with clear_errors():
        matrix = matrix_of(
            suite,
            out,
            [case],
            dtype=dtype or ["float64"],
            python=python,
            implementations=impl,
            frameworks=framework,
            epochs=epochs,
            variant=data,
            jobs=jobs,
            timeout=timeout,
        )
        wish = {"prime": prime, "length": length, "temperature": temperature, "seed": seed}
        _check_wish(matrix, wish, weights)
        if weights and every:
            raise SuiteError("--every writes with the parameters of a run that goes on, --weights with trained ones")
        console = make_console(stderr=str(json_file) == "-")
        marks: list[tuple[Cell, Mark]] = []

        def on_mark(cell: Cell, mark: Mark) -> None:
            marks.append((cell, mark))
            print_mark(console, cell, mark)

        if every:
            texts = write_while_training(matrix, wish, every, on_mark)
        else:
            with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
                texts = matrix.sample(wish, weights, watch.epoch)
    epochs = matrix.epochs(matrix.cells[0])
    print_texts(console, weights, epochs, texts)
    write_json(json_file, written(matrix.cells[0].entry.folder, epochs, wish, weights, texts, marks))
    raise SystemExit(3 if any(isinstance(text, BaseException) for text in texts.values()) else 0)


def _check_wish(matrix: Matrix, wish: Mapping[str, Any], weights: str) -> None:
    """SuiteError says what about a wish for text the case cannot meet, before anything is trained."""
    from parity.running.sampling import check
    from parity.suite import SuiteError

    entry = matrix.cells[0].entry
    try:
        check(entry.case.display.alphabet, wish["prime"], wish["length"], wish["temperature"])
    except ValueError as error:
        raise SuiteError(f"{entry.case.name}: {error}") from error
    if weights:
        matrix.suite.implementation(entry, weights)
