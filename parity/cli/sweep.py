"""The command that trains cases with many seeds: sweep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.cli.asked import matrix_of
from parity.cli.options import (
    Cases,
    Data,
    Deep,
    Device,
    Dtypes,
    Epochs,
    Frameworks,
    Fresh,
    Impls,
    Jobs,
    Json,
    LockstepLength,
    On,
    Out,
    Pythons,
    SuiteName,
    Timeout,
)
from parity.cli.output import clear_errors, write, write_json
from parity.running.on import LOCAL

if TYPE_CHECKING:
    from parity.judging.outcome import Outcome


def sweep(
    cases: Cases = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=10_000, metavar="N", help="The number of seeds.")] = 16,
    first: Annotated[
        int, typer.Option("--from", min=0, max=10**8, metavar="SEED", help="The first seed; the others follow it.")
    ] = 0,
    impl: Impls = None,
    framework: Frameworks = None,
    dtype: Dtypes = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = None,
    out: Out = Path("runs/sweep"),
    jobs: Jobs = None,
    on: On = LOCAL,
    python: Pythons = None,
    fresh: Fresh = False,
    timeout: Timeout = None,
    json_file: Json = None,
    data: Data = None,
    lockstep: LockstepLength = None,
    deep: Deep = None,
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Also write the result as an HTML page.")
    ] = None,
) -> None:
    """Train cells with many seeds, and bound how often a right one is called wrong.

    Each seed draws other initial parameters and another order of batches, the same for every implementation; published
    figures, which are of the documents' own seed, are left out. Every implementation and the reference are trained with
    each seed and judged as 'parity run' judges them, on a noise floor that is measured for that seed. The table has a
    mark for each seed; those that did not pass are named with the reason. From the number of seeds follows how many of
    all may fail at most, exactly, at a confidence of 95 %. What is on disk and has not changed is not run again: a
    sweep that was stopped goes on, and one of more seeds trains only those that are new.

    Status 0 if every cell passes with every seed, 1 if one fails, 3 if one is inconclusive.

    \b
    Examples:
      parity sweep iris-logistic --seeds 64
      parity sweep iris-logistic linear-gd --impl torch --dtype float64 --page sweep.html
      parity sweep iris-logistic --impl torch --seeds 1 --from 7
      parity sweep --seeds 64 --on ray
    """
    from parity.judging.verdict import EXIT_STATUS
    from parity.report.page import check_page
    from parity.report.sweep import of_draws, page, print_sweep
    from parity.report.terminal import Watch, make_console
    from parity.running.sweep import sweep as sweep_over

    begun = time.perf_counter()
    with clear_errors():
        if page_file is not None:
            check_page(page_file)
        matrix = matrix_of(
            suite,
            out,
            cases,
            dtype=dtype,
            device=device,
            python=python,
            implementations=impl,
            frameworks=framework,
            epochs=epochs,
            variant=data,
            lockstep=lockstep,
            deep=deep,
            jobs=jobs,
            on=on,
            timeout=timeout,
            fresh=fresh,
            seeds=range(first, first + seeds),
        )
        aside = make_console(stderr=True)
        told = of_draws(aside, matrix.cells)
        with Watch(aside, len(matrix.cells), each=False) as watch:

            def outcome(one: Outcome) -> None:
                watch.outcome(one)
                if not aside.is_terminal:
                    told(one)

            found = sweep_over(matrix, watch.epoch, outcome)
    print_sweep(make_console(stderr=str(json_file) == "-"), found, time.perf_counter() - begun)
    write_json(json_file, found.as_json())
    if page_file is not None:
        write(page_file, page(found))
    raise SystemExit(EXIT_STATUS[found.verdict])
