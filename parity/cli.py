"""The command line. Only typer is imported here; each command imports what it needs when it is called."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from parity.matrix import Matrix
    from parity.outcome import Outcome
    from parity.suite import Suite

# Plain help: drawing it with rich would cost more than importing NumPy.
app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prove that one model, written in several frameworks, trains the same way in each.\n\n"
    "Exit status: 0 all pass, 1 a difference, 2 wrong use or unreadable input, 3 inconclusive, 70 a mistake in parity "
    "itself.",
)

Cases = Annotated[list[str] | None, typer.Argument(metavar="[CASE]...", help="Cases to run; all of them by default.")]
SuiteName = Annotated[str, typer.Option("--suite", metavar="PACKAGE", help="Package that holds the cases.")]
Impls = Annotated[
    list[str] | None, typer.Option("--impl", metavar="NAME", help="Only this implementation; may be repeated.")
]
Frameworks = Annotated[
    list[str] | None, typer.Option("--framework", metavar="NAME", help="Only this framework's; may be repeated.")
]


def _dtypes(otherwise: str) -> Any:
    return typer.Option(
        "--dtype",
        metavar="float64|float32|float16|bfloat16",
        help=f"Only this dtype; may be repeated. Else {otherwise}.",
    )


Dtypes = Annotated[list[str] | None, _dtypes("float32 and float64")]
ElseFloat32 = Annotated[list[str] | None, _dtypes("float32")]
ElseFloat64 = Annotated[list[str] | None, _dtypes("float64")]
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
Noise = Annotated[
    list[Path] | None,
    typer.Option("--noise", metavar="RUN", help="A repetition of A or B with its roundings stirred; may be repeated."),
]
LockstepLength = Annotated[
    int | None,
    typer.Option(
        "--lockstep", min=1, metavar="N", help="Also restart from the reference's exact state every N epochs."
    ),
]
PAGE = "report.html"
OURS = 70
"""The exit status of our own mistakes, as in sysexits.h: Python's 1 would read as a difference."""
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
    except Exception:
        traceback.print_exc()
        _fail("a mistake in parity itself or in the suite's code, and no verdict: report it with the lines above", OURS)


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
    _write(path, json.dumps(_finite(content), indent=1, allow_nan=False) + "\n")


def _write(path: Path, text: str) -> None:
    """Write a file whole, or to standard output where its name is -."""
    # A name that is no text, as a folder's may be, is written as its bytes.
    data = text.encode(errors="backslashreplace")
    if str(path) == "-":
        typer.echo(data, nl=False)
        return
    if path.is_dir():
        _fail(f"cannot write {path}: it is a folder, name a file")
    try:
        scratch = path.with_name(f".{path.name}.partial")
        scratch.write_bytes(data)
        scratch.replace(path)
    except OSError as error:
        _fail(f"cannot write {path}: {error.strerror}")


def _write_page(path: Path, outcomes: list[Outcome]) -> str:
    """Write the report's page unless it is there, and say so; a run does not fail for want of a page."""
    from parity.report import html
    from parity.report.page import PageError, check_page

    try:
        check_page(path, "plotly")
    except PageError as error:
        return f"no report: {error}"
    if not html.is_current(path, html.fingerprint(outcomes)):
        _write(path, html.page(outcomes))
    return f"report: {path}"


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
    deep: Annotated[
        int | None,
        typer.Option("--deep", min=1, metavar="N", help="Record all of the first N updates, for 'explain A B'."),
    ] = None,
    page: Annotated[
        bool, typer.Option("--report/--no-report", help="Write the result as a page, report.html in the --out folder.")
    ] = True,
) -> None:
    """Train every case in every implementation and compare each with the float64 reference, epoch by epoch.

    What is on disk and has not changed is not run again. Each cell of the table shows its verdict and the largest
    share of its tolerance that any loss or parameter used at any epoch: below 1 passes.
    """
    from parity.matrix import left_out
    from parity.outcome import as_json, total
    from parity.report.terminal import Watch, make_console, print_matrix, print_preflight, print_summary
    from parity.verdict import EXIT_STATUS

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
            deep=deep,
            jobs=jobs,
            fresh=fresh,
        )
        with Watch(make_console(stderr=True), len(matrix.cells), matrix.cells) as watch:
            outcomes = matrix.run(watch.epoch, watch.outcome)
    console = make_console(stderr=str(json_file) == "-")
    print_preflight(console, [(outcome.name, outcome.preflight) for outcome in outcomes])
    print_matrix(console, outcomes)
    for reason in left_out(matrix.options):
        console.print(f"left out: {reason}", markup=False, highlight=False)
    print_summary(console, outcomes, time.perf_counter() - begun)
    _write_json(json_file, as_json(outcomes))
    if page:
        console.print(_write_page(out / PAGE, outcomes), markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(EXIT_STATUS[total(outcomes)])


@app.command()
def report(
    root: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of runs, as --out names it.")] = Path("runs"),
    form: Annotated[
        str, typer.Option("--format", metavar="html|md|junit|json", help="A page, or what CI reads.")
    ] = "html",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where it goes; - is standard output, the default but for html."),
    ] = None,
    suite: SuiteName = "impls",
) -> None:
    """Make a report of recorded runs, from the folder alone: nothing is trained and no framework is needed.

    Every run below DIR is judged as 'parity run' judges it, against the reference run and the noise floor that lie
    there. The page, DIR/report.html unless --output says otherwise, needs nothing else and asks for nothing from
    elsewhere: send it, keep it, print it. It holds the matrix as a heat map; for each cell its loss, its distance
    from the reference, the published figures, versions and settings; for each case its sources side by side.

    'md' is for a pull request's summary, 'junit' for a CI server's test view, 'json' is what 'parity run --json'
    writes. A run that is damaged, unfinished or has no reference is inconclusive, with the reason. What the suite
    knows of a case (published figures, sources) is missing for cases that it does not have.
    """
    from parity.outcome import as_json, total
    from parity.recorded import recorded
    from parity.report.formats import FORMATS
    from parity.report.html import page
    from parity.report.page import check_page
    from parity.report.words import count_cells
    from parity.verdict import EXIT_STATUS

    if form not in (*FORMATS, "html", "json"):
        _fail(f"unknown format {form!r}: choose html, md, junit or json")
    target = output or (root / PAGE if form == "html" else Path("-"))
    with _clear_errors():
        if form == "html":
            check_page(target, "plotly")
        outcomes = recorded(root, _suite(suite))
    if form == "json":
        _write_json(target, as_json(outcomes))
    else:
        text = page(outcomes) if form == "html" else FORMATS[form](outcomes)
        _write(target, text)
    if str(target) != "-":
        typer.echo(f"{target}: {count_cells(outcomes)}")
    raise SystemExit(EXIT_STATUS[total(outcomes)])


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
    dtype: ElseFloat32 = None,
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
            console.print(f"{outcome.name}: {outcome.judgement.reason}", markup=False)
        print_log(console, matrix.cells[0].entry.case, outcome.implementation, outcome.dtype, outcome.figures)
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
    dtype: ElseFloat64 = None,
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
    dtype: ElseFloat64 = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = "impls",
    out: Out = Path("runs"),
    python: Pythons = None,
    noise: Noise = None,
    json_file: Json = None,
    data: Data = None,
) -> None:
    """Say where a failed run first parts from the reference, what that looks like, and which mistake explains it.

    With a case the implementation is run again from a state that it shares with the reference, phase by phase. With
    two recorded trajectories, A held against B, the recording alone must do; A's case is looked up in the suite. Of
    runs of your own parity.recorder keeps what is needed.
    """
    from parity.matrix import explain_folders
    from parity.report.terminal import Watch, make_console, print_explanation, print_preflight
    from parity.verdict import EXIT_STATUS, overall

    found: list[tuple[str, Any, Sequence[str], Any]] = []
    with _clear_errors():
        if len(what) == 2:
            _belongs_to_a_case(impl=impl, dtype=dtype, device=device != "cpu", epochs=epochs, python=python)
            comparison, explanation = explain_folders(_suite(suite), Path(what[0]), Path(what[1]), noise or (), data)
            title = f"{what[0]} against {what[1]}"
            found.append((title, comparison.judgement, comparison.preflight, explanation))
        elif len(what) > 2:
            _fail("explain takes one case, or the folders of two trajectories")
        elif noise:
            _fail("--noise belongs to two trajectories: a case has its own noise floor")
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
            found = [(one.name, one.judgement, one.preflight, one.explanation) for one in outcomes]
    console = make_console(stderr=str(json_file) == "-")
    print_preflight(console, [(title, notes) for title, _, notes, _ in found])
    for title, judgement, _, explanation in found:
        print_explanation(console, title, judgement, explanation)
    _write_json(json_file, {"explanations": [explanation for *_, explanation in found]})
    raise SystemExit(EXIT_STATUS[overall([judgement.verdict for _, judgement, *_ in found])])


def _belongs_to_a_case(**given: Any) -> None:
    """Refuse options that say how a case is run, where two recorded trajectories are named."""
    for name, value in given.items():
        if value:
            _fail(f"--{name} belongs to a case: two recorded trajectories are taken as they are")


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
    fails is measured. Status 0 where every mistake is caught, 95 % of them in their phase and 85 % under their name,
    and there is no false alarm, else 1.
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
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Few cases and few rounds: about a minute.")] = False,
    case: Annotated[
        list[str] | None, typer.Option("--case", metavar="NAME", help="Only what trains this case; may be repeated.")
    ] = None,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part",
            metavar="NAME",
            help="Only training, recording, comparison, startup or matrix; may be repeated.",
        ),
    ] = None,
    impl: Impls = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report is written.")] = Path("."),
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="An earlier parity-benchmarks.json to compare to."),
    ] = None,
) -> None:
    """Measure how fast everything is beside its peers, and write parity-benchmarks.html, .md and .json.

    Training beside the documents' own scripts, what recording costs, comparing, start-up and the whole matrix. A limit
    that is not held is reported and is no failure. Status 3 where something could not be measured.
    """
    from importlib import import_module
    from importlib.util import find_spec

    missing = [name for name in ("pytest", "pytest_benchmark", "jinja2", "plotly") if find_spec(name) is None]
    if missing:
        _fail(f"bench needs {', '.join(missing)}: python -m pip install 'cross-framework-parity[bench]'")
    if find_spec("benchmarks") is None or find_spec("benchmarks.result") is None:  # a common name
        _fail("bench runs the package 'benchmarks', which cannot be found: call it in a clone of the project")
    from parity.report.terminal import make_console

    suites, results, report = (import_module(f"benchmarks.{name}") for name in ("run", "result", "report"))
    file = out / "parity-benchmarks.json"
    try:
        earlier = results.read(against) if against is not None else None
        _writable(out)
        with _clear_errors():
            suites.run(file, quick, case or (), impl or (), part or (), make_console(stderr=True))
        result = results.read(file)
        report.write(report.build(result, earlier), file.with_suffix(".html"), file.with_suffix(".md"))
    except (results.ResultError, suites.BenchError) as error:
        _fail(str(error))
    console = make_console()
    for limit in report.limits(result):
        word = "holds   " if limit.holds else "exceeded"
        console.print(f"{word} {limit.what}: {limit.measured}, at most {limit.limit}", markup=False, highlight=False)
    console.print(f"{len(result.benchmarks)} benchmarks in {file.with_suffix('.html')}, .md and .json", markup=False)
    raise SystemExit(3 if result.unmeasured else 0)


@app.command()
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trajectory's folder, or a folder of runs.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What it is held against.")],
    noise: Noise = None,
    json_file: Json = None,
) -> None:
    """Compare the losses and parameters of two recorded trajectories, not their metrics; no framework is needed.

    The tolerance is the noise floor that 'parity run' left beside the trajectories. Runs of your own have none: run
    one of the scripts again, a few times, from initial values that parity.tolerance.stir has moved by one unit in the
    last place, and name those recordings with --noise. Two folders of runs, as --out names them, are compared wherever
    both hold the same case in the same dtype.
    """
    from parity.crosscheck import compare_folders, unpaired
    from parity.report.terminal import make_console, print_diff, print_unpaired
    from parity.verdict import EXIT_STATUS, overall

    with _clear_errors():
        comparisons = compare_folders(a, b, noise or ())
    console = make_console(stderr=str(json_file) == "-")
    print_diff(console, comparisons)
    alone = unpaired(a, b, comparisons)
    print_unpaired(console, alone)
    _write_json(
        json_file,
        {
            "pairs": [comparison.as_json() for comparison in comparisons],
            "unpaired": [str(run) for runs in alone.values() for run in runs],
        },
    )
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
