"""The command line. Only typer is imported here; each command imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from parity.matrix import Matrix
    from parity.suite import Suite

# Plain help: drawing it with rich would cost more than importing NumPy.
app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prove that one model, written in several frameworks, trains the same way in each.\n\n"
    "Exit status: 0 all pass, 1 a difference, 2 wrong use or unreadable input, 3 inconclusive.",
)

Cases = Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help="Cases to run; all of them by default.")]
SuiteName = Annotated[str, typer.Option("--suite", metavar="PACKAGE", help="Package that holds the cases.")]
Impls = Annotated[
    list[str] | None, typer.Option("--impl", metavar="NAME", help="Only this implementation; may be repeated.")
]
Frameworks = Annotated[
    list[str] | None, typer.Option("--framework", metavar="NAME", help="Only this framework's; may be repeated.")
]
Dtypes = Annotated[
    list[str] | None,
    typer.Option(
        "--dtype", metavar="float64|float32|float16|bfloat16", help="Only this dtype; may be repeated. Else both first."
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="cpu|cuda|cuda_tf32",
        help="Where the implementations run; the last with float32 products in TF32, which should fail.",
    ),
]
Epochs = Annotated[
    int | None, typer.Option("--epochs", min=1, metavar="N", help="Train N epochs instead of the case's own number.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where trajectories go and are found again.")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Worker processes at a time.")]
Pythons = Annotated[
    list[str] | None,
    typer.Option(
        "--python", metavar="FRAMEWORK=PATH", help="Run a framework's workers with another environment's interpreter."
    ),
]
Fresh = Annotated[bool, typer.Option("--fresh", help="Run again what is already on disk.")]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Also write the result as JSON; - is standard output.")
]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME|FILE", help="The case's other data, such as 'full', or a file of your own."),
]
LockstepLength = Annotated[
    int | None,
    typer.Option(
        "--lockstep", min=1, metavar="N", help="Also restart from the reference's exact state every N epochs."
    ),
]
CORES = max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and an exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            _fail("stopped; what had finished is on disk", 130)
        raise


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str, status: int = 2) -> NoReturn:
    typer.echo(f"parity: {message}", err=True)
    raise SystemExit(status)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """What the user can mend is said in a line; anything else is our mistake and keeps its traceback."""
    from parity.report.page import PageError
    from parity.report.plot import PlotError
    from parity.suite import SuiteError
    from parity.trajectory import TrajectoryError

    try:
        yield
    except (SuiteError, TrajectoryError, PlotError, PageError) as error:
        _fail(str(error))


def _suite(name: str) -> Suite:
    from parity.suite import load_suite

    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # A user's own suite is found from where the command is called.
    return load_suite(name)


def _writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        _fail(f"cannot write to {out}: {error.strerror}; choose another folder with --out")


def _finite(content: Any) -> Any:
    """The same with null for what JSON has no number for: NaN and the infinities."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _write_json(path: Path | None, content: Any) -> None:
    if path is None:
        return
    text = json.dumps(_finite(content), indent=1, allow_nan=False) + "\n"
    if str(path) == "-":
        typer.echo(text, nl=False)
        return
    _write(path, text)


def _write(path: Path, text: str) -> None:
    try:
        scratch = path.with_name(f".{path.name}.partial")
        scratch.write_text(text)
        scratch.replace(path)
    except OSError as error:
        _fail(f"cannot write {path}: {error.strerror}")


def _pythons(pairs: list[str] | None) -> dict[str, str]:
    pythons = {}
    for pair in pairs or []:
        framework, equals, path = pair.partition("=")
        if not equals or not path:
            _fail(f"--python takes FRAMEWORK=PATH, not {pair!r}")
        if not os.access(path, os.X_OK):
            _fail(f"--python {framework}: {path} is not an interpreter that can be run")
        pythons[framework] = path
    return pythons


def _check_device(device: str) -> None:
    from parity.frameworks import DEVICES

    if device not in DEVICES:
        _fail(f"unknown device {device!r}: choose one of {', '.join(DEVICES)}")


def _matrix(
    suite: str,
    out: Path,
    cases: list[str] | None,
    *,
    dtype: list[str] | None = None,
    device: str = "cpu",
    python: list[str] | None = None,
    **options: Any,
) -> Matrix:
    """What a command's options ask for; ``options`` are those that ``parity.matrix.Options`` takes as they are."""
    from parity.dtypes import DTYPES, KNOWN
    from parity.matrix import Matrix, Options

    for name in dtype or ():
        if name not in KNOWN:
            _fail(f"unknown dtype {name!r}: choose one of {', '.join(KNOWN)}")
    _check_device(device)
    wanted = Options(
        _suite(suite),
        out,
        cases or (),
        dtypes=dtype or DTYPES,
        device=device,
        pythons=_pythons(python),
        **{name: value for name, value in options.items() if value is not None},
    )
    matrix = Matrix(wanted)
    _writable(out)
    return matrix


@app.command()
def run(
    cases: Cases = None,
    impl: Impls = None,
    framework: Frameworks = None,
    dtype: Dtypes = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    jobs: Jobs = CORES,
    python: Pythons = None,
    fresh: Fresh = False,
    json_file: Json = None,
    data: Data = None,
    lockstep: LockstepLength = None,
) -> None:
    """Train every case in every implementation and compare each with the float64 reference, epoch by epoch.

    What is on disk and has not changed is not run again. Each cell of the table shows its verdict and the largest
    share of its tolerance that any loss or parameter used at any epoch: below 1 passes.
    """
    from parity.matrix import as_json, left_out
    from parity.report.terminal import Watch, make_console, print_matrix, print_summary
    from parity.verdict import EXIT_STATUS, overall

    begun = time.perf_counter()
    with _clear_errors():
        matrix = _matrix(
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
            jobs=jobs,
            fresh=fresh,
        )
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            outcomes = matrix.run(watch.epoch, watch.outcome)
    console = make_console(stderr=str(json_file) == "-")
    print_matrix(console, outcomes)
    for reason in left_out(matrix.options):
        console.print(f"left out: {reason}", markup=False, highlight=False)
    print_summary(console, outcomes, time.perf_counter() - begun)
    _write_json(json_file, as_json(outcomes))
    verdicts = [outcome.judgement.verdict for outcome in outcomes]
    verdicts += [figure.verdict for outcome in outcomes for figure in outcome.figures]
    raise SystemExit(EXIT_STATUS[overall(verdicts)])


@app.command("list")
def list_cells(
    suite: SuiteName = "impls",
    device: Device = "cpu",
    python: Pythons = None,
    json_file: Json = None,
) -> None:
    """List cases × implementations: what can run here, and why not where it cannot.

    With --device cuda each framework is imported and asked for a GPU, which takes some seconds.
    """
    from parity.matrix import Versions, find_devices
    from parity.report.terminal import make_console, print_list

    with _clear_errors():
        found, versions = _suite(suite), Versions(_pythons(python))
        _check_device(device)
        on_cuda = find_devices(versions, found.labels) if device != "cpu" else {}
        rows = [
            (entry.case.name, on_cuda.get(label) or versions.availability(label), entry.case.absent.get(label, ""))
            for entry in found.entries.values()
            for label in (
                *entry.implementations,
                *(name for name in entry.case.absent if name not in entry.implementations),
            )
        ]
    print_list(make_console(stderr=str(json_file) == "-"), rows)
    cells = [
        {
            "case": case,
            "implementation": availability.implementation,
            "framework": availability.framework,
            "available": availability.available and not absent,
            "reason": absent or availability.reason,
        }
        for case, availability, absent in rows
    ]
    _write_json(json_file, {"cells": cells})


@app.command()
def show(
    case: Annotated[str, typer.Argument(metavar="CASE", help="The case whose log is shown.")],
    impl: Impls = None,
    dtype: Dtypes = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    python: Pythons = None,
    data: Data = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw a figure: .png, .svg or .html.")
    ] = None,
) -> None:
    """Print the log that the case's source printed, from our run, with the published lines beside it.

    Without --impl the first implementation that can run here, in the order in which the source shows them. --plot
    draws the source's own figure where the case has one, the losses elsewhere, of the runs that are shown.
    """
    from parity.report import plot as figures
    from parity.report.terminal import Watch, make_console, print_log, print_texts
    from parity.trajectory import read
    from parity.verdict import EXIT_STATUS, overall

    with _clear_errors():
        if plot is not None:
            figures.check(plot)
        matrix = _matrix(
            suite,
            out,
            [case],
            dtype=dtype or ["float32"],
            python=python,
            implementations=impl,
            variant=data,
            jobs=CORES,
        )
        available = [cell for cell in matrix.cells if matrix.versions.availability(cell.implementation).available]
        if not impl:
            labels = [cell.implementation for cell in available if cell.implementation != matrix.suite.reference]
            chosen = (labels or [matrix.suite.reference])[0]
            matrix.cells = [cell for cell in matrix.cells if cell.implementation == chosen]
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            outcomes = matrix.run(watch.epoch, watch.outcome)
    console = make_console()
    verdicts = []
    for outcome in outcomes:
        if not outcome.figures and outcome.judgement.reason:
            console.print(f"{outcome.cell.name}: {outcome.judgement.reason}", markup=False)
        print_log(console, outcome.cell.entry.case, outcome.cell.implementation, outcome.cell.dtype, outcome.figures)
        verdicts += [outcome.judgement.verdict, *(figure.verdict for figure in outcome.figures)]
    if plot is not None:
        with _clear_errors():
            runs = {f"{cell.implementation} {cell.dtype}": read(cell.folder(out)) for cell in matrix.cells}
            figures.save(figures.draw(matrix.cells[0].entry.case, runs), plot)
    if matrix.cells[0].entry.case.alphabet:
        texts = matrix.sample({"prime": "Th", "length": 200, "temperature": 0.8, "seed": 0})
        print_texts(console, "", matrix.epochs(matrix.cells[0]), texts)
    raise SystemExit(EXIT_STATUS[overall(verdicts)])


@app.command()
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
    dtype: Dtypes = None,
    epochs: Epochs = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    jobs: Jobs = CORES,
    python: Pythons = None,
    data: Data = None,
) -> None:
    """Let each implementation write text after its own run, in float64 unless told otherwise.

    A run that is not on disk is made first. The random numbers are NumPy's: the same parameters write the same text
    in every framework.
    """
    from parity.report.terminal import Watch, make_console, print_texts
    from parity.sampling import check
    from parity.suite import SuiteError

    with _clear_errors():
        matrix = _matrix(
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
        )
        try:
            check(matrix.cells[0].entry.case.alphabet, prime, length, temperature)
        except ValueError as error:
            raise SuiteError(f"{case}: {error}") from error
        if weights:
            matrix.suite.implementation(matrix.cells[0].entry, weights)
        wish = {"prime": prime, "length": length, "temperature": temperature, "seed": seed}
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            texts = matrix.sample(wish, weights, watch.epoch)
    print_texts(make_console(), weights, matrix.epochs(matrix.cells[0]), texts)
    raise SystemExit(3 if any(isinstance(text, BaseException) for text in texts.values()) else 0)


@app.command()
def explain(
    what: Annotated[list[str], typer.Argument(metavar="CASE | A B", help="A case with --impl, or two trajectories.")],
    impl: Impls = None,
    dtype: Dtypes = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    python: Pythons = None,
    json_file: Json = None,
    data: Data = None,
) -> None:
    """Say where a failed run first parts from the reference, what that looks like, and which mistake explains it.

    With a case the implementation is run again from a state that it shares with the reference, phase by phase. With
    two recorded trajectories, A held against B, the recording alone must do; A's case is looked up in the suite.
    """
    from parity.matrix import explain_folders
    from parity.report.terminal import Watch, make_console, print_explanation
    from parity.verdict import EXIT_STATUS, overall

    found: list[tuple[str, Any, Any]] = []
    with _clear_errors():
        if len(what) == 2 and all(Path(name).is_dir() for name in what):
            judgement, explanation = explain_folders(_suite(suite), Path(what[0]), Path(what[1]))
            found.append((f"{what[0]} against {what[1]}", judgement, explanation))
        elif len(what) > 1:
            _fail("explain takes one case, or the folders of two trajectories")
        else:
            matrix = _matrix(
                suite,
                out,
                what,
                dtype=dtype or ["float64"],
                device=device,
                python=python,
                implementations=impl,
                epochs=epochs,
                variant=data,
                jobs=CORES,
            )
            with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
                outcomes = matrix.run(watch.epoch, watch.outcome)
            found = [(outcome.cell.name, outcome.judgement, outcome.explanation) for outcome in outcomes]
    console = make_console(stderr=str(json_file) == "-")
    for title, judgement, explanation in found:
        print_explanation(console, title, judgement, explanation)
    _write_json(json_file, {"explanations": [explanation for _, _, explanation in found]})
    raise SystemExit(EXIT_STATUS[overall([judgement.verdict for _, judgement, _ in found])])


@app.command()
def prove(
    subset: Annotated[bool, typer.Option("--subset", help="A representative part, within a minute.")] = False,
    suite: SuiteName = "impls",
    jobs: Jobs = CORES,
    python: Pythons = None,
    json_file: Json = None,
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Also write the result as an HTML page.")
    ] = None,
) -> None:
    """Plant every porting mistake of the catalogue and see whether it is caught, located and named.

    Right runs with other seeds and weights must raise no alarm, and the smallest change of a learning rate that
    fails is measured. Status 0 where every mistake is caught and there is no false alarm, else 1.
    """
    from parity.prove import prove as prove_suite
    from parity.report import evidence as report
    from parity.report.page import check_page
    from parity.report.terminal import make_console

    with _clear_errors():
        if page_file is not None:
            check_page(page_file)
        found, pythons = _suite(suite), _pythons(python)
        with report.Steps(make_console(stderr=True)) as steps:
            evidence = prove_suite(found, subset, jobs, pythons, sys.path, steps.plan, steps.step, steps.job)
    report.print_evidence(make_console(stderr=str(json_file) == "-"), evidence)
    _write_json(json_file, evidence.as_json())
    if page_file is not None:
        _write(page_file, report.page(evidence))
    raise SystemExit(0 if evidence.proved else 1)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trajectory's folder, or a folder of runs.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What it is held against.")],
    json_file: Json = None,
) -> None:
    """Compare two recorded trajectories; no framework is needed.

    The tolerance is the noise floor that 'parity run' left beside the trajectories. Two folders of runs, as --out
    names them, are compared wherever both hold the same case in the same dtype.
    """
    from parity.crosscheck import compare_folders
    from parity.report.terminal import make_console, print_diff
    from parity.verdict import EXIT_STATUS, overall

    with _clear_errors():
        comparisons = compare_folders(a, b)
    print_diff(make_console(stderr=str(json_file) == "-"), comparisons)
    _write_json(json_file, {"pairs": [comparison.as_json() for comparison in comparisons]})
    raise SystemExit(EXIT_STATUS[overall([comparison.judgement.verdict for comparison in comparisons])])


@app.command()
def floor(
    cases: Cases = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    jobs: Jobs = CORES,
    python: Pythons = None,
    fresh: Fresh = False,
    dtype: Dtypes = None,
    data: Data = None,
    lockstep: LockstepLength = None,
) -> None:
    """Measure the noise floors that are missing or were measured on something else, and keep them with the suite.

    A floor belongs to its case as the data does: commit it. 'parity run' measures for itself what is missing.
    """
    from parity.report.terminal import Watch, make_console

    with _clear_errors():
        matrix = _matrix(
            suite,
            out,
            cases,
            dtype=dtype,
            python=python,
            variant=data,
            lockstep=lockstep,
            jobs=jobs,
            fresh=fresh,
        )
        with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
            measured = matrix.measure_floors(watch.epoch)
    for path, error in measured.items():
        typer.echo(f"{path.stem}: " + (f"failed, {error}" if error else "measured"))
    typer.echo(f"{len(measured)} floors measured, the others fit")
    raise SystemExit(3 if any(measured.values()) else 0)
