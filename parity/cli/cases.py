"""Commands that run a suite's cases: run, list, show, floor."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parity.cli.addresses import storage_of
from parity.cli.asked import check_device, find_suite, interpreters, matrix_of
from parity.cli.options import (
    Cases,
    Data,
    Deep,
    Device,
    Dtypes,
    ElseFloat32,
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
from parity.cli.output import PAGE, clear_errors, say, write_json, write_page
from parity.running.on import LOCAL

if TYPE_CHECKING:
    from rich.console import Console

    from parity.judging.outcome import Outcome
    from parity.running.matrix import Matrix
    from parity.spec import Case


def run(
    cases: Cases = None,
    impl: Impls = None,
    framework: Frameworks = None,
    dtype: Dtypes = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = None,
    out: Out = Path("runs"),
    jobs: Jobs = None,
    on: On = LOCAL,
    python: Pythons = None,
    fresh: Fresh = False,
    timeout: Timeout = None,
    json_file: Json = None,
    data: Data = None,
    lockstep: LockstepLength = None,
    deep: Deep = None,
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the result as a page, report.html in the --out folder.")
    ] = True,
) -> None:
    """Train every cell and compare it with the reference.

    A cell is one implementation of one case in one dtype. Its reference is the NumPy implementation in float64. Every
    batch's loss and every snapshot of every parameter is compared. The table shows each cell's verdict and the largest
    share of its tolerance that anything used: below 1 passes. What is on disk and has not changed is not run again.

    Status 0 if every cell passes and every published figure is reproduced, 1 if one differs, 3 if one is inconclusive.

    \b
    Examples:
      parity run
      parity run iris-logistic --impl torch --impl keras
      parity run char-gru --lockstep 10 --json result.json
      parity run --on ray
    """
    from parity.judging.folder import whole_folder
    from parity.judging.outcome import as_json, total
    from parity.judging.verdict import EXIT_STATUS
    from parity.report.terminal import Watch, make_console
    from parity.running.keys import mark

    begun = time.perf_counter()
    with clear_errors():
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
        )
        asked = [*matrix.cells, *matrix.owed]
        with Watch(make_console(stderr=True), len(asked), asked) as watch:
            outcomes = matrix.run(watch.epoch, watch.outcome)
    console = make_console(stderr=str(json_file) == "-")
    _print_run(console, matrix, outcomes, time.perf_counter() - begun)
    write_json(json_file, as_json(outcomes))
    if page:
        # The page is of the whole folder: a call for one case leaves the others on it.
        said = write_page(out / PAGE, lambda: whole_folder(out, matrix.suite, outcomes, mark))
        if (storage := storage_of(out)) is not None and (out / PAGE).exists():
            with clear_errors():
                storage.publish(out / PAGE, PAGE)
        console.print(said, soft_wrap=True)
    raise SystemExit(EXIT_STATUS[total(outcomes)])


def _print_run(console: Console, matrix: Matrix, outcomes: Sequence[Outcome], seconds: float) -> None:
    """What would make the numbers meaningless, the matrix, what was left out of it, and the summary."""
    from parity.report.terminal import print_matrix, print_preflight, print_summary
    from parity.running.cells import left_out

    print_preflight(console, [(outcome.name, outcome.preflight) for outcome in outcomes])
    print_matrix(console, outcomes)
    for reason in left_out(matrix.options):
        console.print(f"left out: {reason}")
    print_summary(console, outcomes, seconds)


def list_cells(
    suite: SuiteName = None,
    device: Device = "cpu",
    python: Pythons = None,
    json_file: Json = None,
) -> None:
    """List the cells: which can run here, and why others cannot.

    A case that lacks a framework of its suite and gives no reason, or a reason for what is there, fails.
    With --device cuda each framework is imported and asked for a GPU, which takes some seconds.

    \b
    Examples:
      parity list
      parity list --device cuda --json cells.json
    """
    from parity.judging.verdict import EXIT_STATUS, Verdict
    from parity.report.data import listed
    from parity.report.terminal import make_console, print_list
    from parity.running.versions import Versions, find_devices

    with clear_errors():
        found, versions = find_suite(suite), Versions(interpreters(python))
        check_device(device)
        on_cuda = find_devices(versions, found.labels) if device != "cpu" else {}
        owed = {name: found.owed(entry) for name, entry in found.entries.items()}
        rows = [
            (
                entry.case.name,
                on_cuda.get(label) or versions.availability(label),
                owed[name].get(label) or entry.case.absent.get(label, ""),
            )
            for name, entry in found.entries.items()
            for label in dict.fromkeys((*entry.implementations, *entry.case.absent, *owed[name]))
        ]
    print_list(make_console(stderr=str(json_file) == "-"), rows)
    write_json(json_file, listed(rows))
    raise SystemExit(EXIT_STATUS[Verdict.FAIL if any(owed.values()) else Verdict.PASS])


def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case whose log is shown.")],
    impl: Impls = None,
    dtype: ElseFloat32 = None,
    suite: SuiteName = None,
    out: Out = Path("runs"),
    python: Pythons = None,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw a figure: .png, .svg or .html.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Print a case's log from our run, the published lines beside it.

    Where nobody shows the output of the source's log, ours is printed alone. Without --impl the first implementation
    that can run here is shown, in the order in which the source shows them. --plot draws the source's own figure of the
    runs that are shown, or their losses if the source has none.

    Status 0 if the runs pass and every line is reproduced, 1 if one differs, 3 if one is inconclusive.

    \b
    Examples:
      parity show iris-logistic
      parity show activations --plot figure.png
    """
    from parity.judging.outcome import total
    from parity.judging.verdict import EXIT_STATUS
    from parity.recording.reader import read
    from parity.report import data as plain
    from parity.report import plot as figures
    from parity.report.terminal import Watch, make_console, print_texts

    with clear_errors():
        if plot is not None:
            figures.check(plot)
        matrix = matrix_of(
            suite,
            out,
            [case],
            dtype=dtype or ["float32"],
            python=python,
            implementations=impl,
            variant=data,
        )
        matrix.owed = {}  # A log is shown of what there is; whether a case is whole, 'parity run' says.
        if not impl:
            chosen = _first_that_runs(matrix)
            matrix.cells = [cell for cell in matrix.cells if cell.implementation == chosen]
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            outcomes = matrix.run(watch.epoch, watch.outcome)
    console = make_console(stderr=str(json_file) == "-")
    _print_logs(console, matrix.cells[0].entry.case, outcomes)
    if plot is not None:
        with clear_errors():
            runs = {f"{cell.implementation} {cell.dtype}": read(cell.folder(out)) for cell in matrix.cells}
            figures.save(figures.draw(matrix.cells[0].entry.case, runs), plot)
    entry, epochs, written = matrix.cells[0].entry, matrix.epochs(matrix.cells[0]), None
    if entry.case.display.alphabet:
        wish = {"prime": "Th", "length": 200, "temperature": 0.8, "seed": 0}
        texts = matrix.sample(wish)
        print_texts(console, "", epochs, texts)
        written = plain.written(entry.folder, epochs, wish, "", texts)
    write_json(json_file, plain.shown(entry.folder, entry.case, outcomes, written))
    raise SystemExit(EXIT_STATUS[total(outcomes)])


def _first_that_runs(matrix: Matrix) -> str:
    """The first implementation that can run here; the reference only where no other can."""
    labels = [cell.implementation for cell in matrix.cells if cell.implementation != matrix.suite.reference]
    able = [label for label in labels if matrix.versions.availability(label).available]
    return next(iter(able), matrix.suite.reference)


def _print_logs(console: Console, case: Case, outcomes: Sequence[Outcome]) -> None:
    """The data as a table where the source shows one; of each run its log, the published one beside it, or why not."""
    from parity.report.terminal import print_data, print_log

    if case.display.columns:
        print_data(console, case)
    for outcome in outcomes:
        if outcome.judgement.reason:
            console.print(f"{outcome.name}: {outcome.judgement.reason}")
        print_log(console, case, outcome)


def floor(
    cases: Cases = None,
    suite: SuiteName = None,
    out: Out = Path("runs"),
    jobs: Jobs = None,
    on: On = LOCAL,
    timeout: Timeout = None,
    python: Pythons = None,
    fresh: Fresh = False,
    dtype: Dtypes = None,
    data: Data = None,
    lockstep: LockstepLength = None,
    json_file: Json = None,
) -> None:
    """Measure the noise floors that are missing or out of date.

    They are kept with the suite. A floor belongs to its case as the data do: commit it. 'parity run' measures for
    itself what is missing.

    Status 0 if all that was missing is measured, 3 if a measurement failed.

    \b
    Examples:
      parity floor
      parity floor iris-logistic --fresh
    """
    from parity.report.data import measured as plain
    from parity.report.terminal import Watch, make_console

    with clear_errors():
        matrix = matrix_of(
            suite,
            out,
            cases,
            dtype=dtype,
            python=python,
            variant=data,
            lockstep=lockstep,
            jobs=jobs,
            on=on,
            timeout=timeout,
            fresh=fresh,
        )
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            measured = matrix.measure_floors(watch.epoch)
    aside = str(json_file) == "-"
    for path, error in measured.items():
        say(f"{path.stem}: " + (f"failed, {error}" if error else "measured"), err=aside)
    say(f"{len(measured)} floors measured, the others fit", err=aside)
    write_json(json_file, plain(measured))
    raise SystemExit(3 if any(measured.values()) else 0)
