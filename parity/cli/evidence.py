"""Commands that measure the harness itself: prove, bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from parity.cli.asked import find_suite, interpreters
from parity.cli.options import Impls, Jobs, Json, On, Pythons, SuiteName, Timeout
from parity.cli.output import check_writable, clear_errors, fail, write, write_json
from parity.running.on import LOCAL


def prove(
    subset: Annotated[bool, typer.Option("--subset", help="A representative part, within a minute.")] = False,
    field: Annotated[
        bool, typer.Option("--field", help="Prove the pairs of small runs with public faults instead; needs no suite.")
    ] = False,
    pair: Annotated[
        list[str] | None, typer.Option("--pair", metavar="NAME", help="With --field, only this pair; may be repeated.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="With --field, keep the recordings here.")
    ] = None,
    suite: SuiteName = None,
    jobs: Jobs = None,
    on: On = LOCAL,
    timeout: Timeout = None,
    python: Pythons = None,
    json_file: Json = None,
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Also write the result as an HTML page.")
    ] = None,
) -> None:
    """Plant every known porting mistake and see what is noticed.

    Each mistake of the catalogue is planted into right implementations: is it caught, located and named? Right runs
    with other seeds and weights must raise no alarm. The smallest change of a learning rate that fails is measured.

    Status 0 if every mistake is caught, 95 % of them in their phase and 85 % under their name, and there is no false
    alarm, else 1.

    With --field it trains pairs of small models in two frameworks, each with a fault that people reported in public, as
    watched or recorded loops of one's own. Is the right pair judged right, and is the fault caught, located, and never
    taken for another? Status 0 if no right pair fails, every fault fails in float64, 95 % are located, and none is
    named wrongly, else 1.

    \b
    Examples:
      parity prove --subset
      parity prove --field --json field.json
      parity prove --json prove.json --page prove.html
    """
    if field:
        _prove_field(subset, pair, keep, jobs, timeout, python, json_file, on, suite, page_file)
    if pair or keep:
        fail("--pair and --keep belong to --field")
    from parity.proving.prove import prove as prove_suite
    from parity.report import proof as report
    from parity.report.page import check_page
    from parity.report.terminal import make_console

    with clear_errors():
        if page_file is not None:
            check_page(page_file)
        found, pythons = find_suite(suite), interpreters(python)
        with report.Steps(make_console(stderr=True)) as steps:
            evidence = prove_suite(found, subset, jobs, pythons, timeout, steps.plan, steps.step, steps.job, on)
    report.print_evidence(make_console(stderr=str(json_file) == "-"), evidence)
    write_json(json_file, evidence.as_json())
    if page_file is not None:
        write(page_file, report.page(evidence))
    raise SystemExit(0 if evidence.proved else 1)


def _prove_field(
    subset: bool,
    pair: list[str] | None,
    keep: Path | None,
    jobs: int | None,
    timeout: float | None,
    python: list[str] | None,
    json_file: Path | None,
    on: str,
    suite: str | None,
    page_file: Path | None,
) -> NoReturn:
    """Prove the field, print what was found, and end the command."""
    from parity.proving.field.prove import prove_field
    from parity.report.field import print_field
    from parity.report.proof import Steps
    from parity.report.terminal import make_console

    for name, given in (("on", on != LOCAL), ("suite", suite), ("page", page_file)):
        if given:
            fail(f"--{name} does not go with --field: its pairs are of no suite, and are run on this machine")
    try:
        with Steps(make_console(stderr=True)) as steps:
            found = prove_field(
                pair or (), subset, jobs, interpreters(python), timeout, keep, steps.plan, steps.step, steps.job
            )
    except ValueError as error:
        fail(str(error))
    print_field(make_console(stderr=str(json_file) == "-"), found)
    write_json(json_file, found.as_json())
    raise SystemExit(0 if found.proved else 1)


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
            help="Only training, recording, watching, comparison, matching, startup or matrix; may be repeated.",
        ),
    ] = None,
    impl: Impls = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the report is written.")] = Path("."),
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="An earlier parity-benchmarks.json to compare to."),
    ] = None,
) -> None:
    """Measure how fast everything is, beside its peers.

    Measured are training beside the documents' own scripts, what recording and watching cost, comparing, matching and
    explaining, start-up and the whole matrix. The report is written as parity-benchmarks.html, .md and .json. A limit
    that is not held is reported and is no failure.

    Status 0, or 3 if something could not be measured.

    \b
    Examples:
      parity bench --quick
      parity bench --part training --against parity-benchmarks.json
    """
    from parity.report.terminal import make_console

    suites, results, report, limits = _benchmarks("run", "result", "report", "limits")
    file = out / "parity-benchmarks.json"
    try:
        earlier = results.read(against) if against is not None else None
        check_writable(out)
        with clear_errors():
            suites.run(file, quick, case or (), impl or (), part or (), make_console(stderr=True))
        result = results.read(file)
        report.write(report.build(result, earlier), file.with_suffix(".html"), file.with_suffix(".md"))
    except (results.ResultError, suites.BenchError) as error:
        fail(str(error))
    console = make_console()
    for limit in limits.limits(result):
        word = "holds   " if limit.holds else "exceeded"
        console.print(f"{word} {limit.what}: {limit.measured}, at most {limit.limit}")
    console.print(f"{len(result.benchmarks)} benchmarks in {file.with_suffix('.html')}, .md and .json")
    raise SystemExit(3 if result.unmeasured else 0)


def _benchmarks(*names: str) -> list[Any]:
    """Modules of the package ``benchmarks``, which a clone has; where it or what it needs is missing, say so."""
    from importlib import import_module
    from importlib.util import find_spec

    from parity.running.packages import HERE, clone

    cloned = clone()
    if cloned is None:
        fail(f"the benchmarks are in a clone of the project, and {HERE} is in none: call 'pip install -e .' there")
    missing = [name for name in ("pytest", "pytest_benchmark", "jinja2", "plotly") if find_spec(name) is None]
    if missing:
        fail(f"bench needs {', '.join(missing)}: python -m pip install 'cross-framework-parity[bench]'")
    cloned.extend()
    return [import_module(f"benchmarks.{name}") for name in names]
