"""Commands on recordings: report, explain, diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from parity.cli.addresses import fetch, there
from parity.cli.asked import known_suite, matrix_of, offline, suite_of_recordings
from parity.cli.options import (
    Accept,
    Data,
    Device,
    ElseFloat64,
    Epochs,
    Impls,
    Json,
    Limits,
    Map,
    Noise,
    Out,
    Pythons,
    Shards,
    SuiteName,
)
from parity.cli.output import PAGE, clear_errors, fail, say, write, write_json
from parity.cli.seeds import diff_seeds

if TYPE_CHECKING:
    from parity.judging.diff import Comparison
    from parity.judging.verdict import Judgement
    from parity.running.matrix import Matrix
    from parity.suite import Entry, Suite


def report(
    root: Annotated[
        Path, typer.Argument(parser=there, metavar="DIR", help="A folder of runs, or its address, as --out names it.")
    ] = Path("runs"),
    form: Annotated[
        str, typer.Option("--format", metavar="html|md|junit|json", help="A page, or what CI reads.")
    ] = "html",
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Where it goes; - is standard output, the default but for html."),
    ] = None,
    suite: SuiteName = None,
    limits: Limits = None,
) -> None:
    """Make a report of recorded runs, from their folder alone.

    Nothing is trained and no framework is needed. Every run below DIR is judged as 'parity run' judges it, against the
    reference run and the noise floor that lie there. The page, DIR/report.html unless --output says otherwise, needs
    nothing else and asks for nothing from elsewhere. It holds the matrix as a heat map; for each cell its loss, its
    distance from the reference, the published figures, versions and settings; for each case its sources side by side.

    'md' is for a pull request's summary, 'junit' for a CI server's test view, 'json' is what 'parity run --json'
    writes. A run that is damaged, unfinished or has no reference is inconclusive, with the reason. A case that the
    suite does not have is reported without published figures and sources.

    Status 0 if all passes, 1 if a run or a published figure differs, 3 if one is inconclusive.

    \b
    Examples:
      parity report runs
      parity report runs --format junit --output parity.xml
    """
    from parity.judging.folder import recorded
    from parity.judging.outcome import as_json, total
    from parity.judging.verdict import EXIT_STATUS
    from parity.report.current import PACKAGES
    from parity.report.formats import FORMATS
    from parity.report.html import page
    from parity.report.page import check_page
    from parity.report.words import count_cells
    from parity.running.keys import mark

    if form not in (*FORMATS, "html", "json"):
        fail(f"unknown format {form!r}: choose html, md, junit or json")
    target = output or (root / PAGE if form == "html" else Path("-"))
    with clear_errors(), offline():
        if form == "html":
            check_page(target, *PACKAGES)
        outcomes = recorded(root, suite_of_recordings(suite), mark)
    if form == "json":
        write_json(target, as_json(outcomes))
    else:
        text = page(outcomes) if form == "html" else FORMATS[form](outcomes)
        write(target, text)
    if str(target) != "-":
        say(f"{target}: {count_cells(outcomes)}")
    raise SystemExit(EXIT_STATUS[total(outcomes)])


def explain(
    what: Annotated[list[str], typer.Argument(metavar="CASE | A B", help="A case with --impl, or two trajectories.")],
    impl: Impls = None,
    dtype: ElseFloat64 = None,
    device: Device = "cpu",
    epochs: Epochs = None,
    suite: SuiteName = None,
    out: Out = Path("runs"),
    python: Pythons = None,
    noise: Noise = None,
    json_file: Json = None,
    data: Data = None,
    accept: Accept = None,
    map_file: Map = None,
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="Also write a page of the two trajectories.")
    ] = None,
    limits: Limits = None,
) -> None:
    """Say where and why a run parts from its reference.

    It names the first epoch, batch, phase and tensor that differ, describes the difference, and lists the porting
    mistakes whose replay explains it.

    With a CASE the implementation is run again from states that it shares with the reference. With two recordings A
    and B nothing is run: what they hold must do, and A's case is looked up in the suite. parity.Recorder records what
    is needed of loops of your own.

    The page that --page writes of two recordings needs nothing else and asks for nothing from elsewhere. It holds their
    layers side by side with the first that parts, their losses and distances, matched tensors, and settings.

    Status 0 if nothing parts, 1 if something does, 3 if that is inconclusive.

    \b
    Examples:
      parity explain iris-logistic --impl torch
      parity explain runs/torch runs/numpy
      parity explain runs/torch runs/flax --page explained.html
    """
    from parity.judging.verdict import EXIT_STATUS, overall
    from parity.report.page import check_page
    from parity.report.terminal import make_console, print_explanation, print_lines, print_preflight

    with clear_errors():
        if len(what) == 2:
            _belongs_to_a_case(impl=impl, dtype=dtype, device=device != "cpu", epochs=epochs, python=python)
            a, b = (fetch(there(one)) for one in what)
            if page_file is not None:
                check_page(page_file)
            with offline():
                found = _explain_recordings(suite, a, b, noise, data, accept or (), map_file)
        elif len(what) > 2:
            fail("explain takes one case, or the folders of two trajectories")
        elif noise:
            fail("--noise belongs to two trajectories: a case has its own noise floor")
        elif accept:
            fail("--accept belongs to two trajectories: a case departs in nothing")
        elif map_file:
            fail("--map belongs to two trajectories: the implementations of a case have one layout")
        elif page_file:
            fail("--page belongs to two trajectories: 'parity report' makes a page of cases")
        else:
            matrix = matrix_of(
                suite,
                out,
                what,
                dtype=dtype or ["float64"],
                device=device,
                python=python,
                implementations=impl,
                epochs=epochs,
                variant=data,
            )
            found = _explain_cells(matrix)
    console = make_console(stderr=str(json_file) == "-")
    print_preflight(console, [(one.title, one.preflight) for one in found])
    for one in found:
        print_explanation(console, one.title, one.judgement, one.explanation)
        if one.comparison is not None and one.judgement.verdict != "FAIL":
            # Of runs that do not fail, the notes say on what grounds.
            print_lines(console, (f"note: {note}" for note in one.comparison.notes))
    write_json(json_file, {"explanations": [one.explanation for one in found]})
    if page_file is not None:
        write(page_file, _page(found[0]))
    raise SystemExit(EXIT_STATUS[overall([one.judgement.verdict for one in found])])


class _Explained(NamedTuple):
    """A run that was looked at: its title, its judgement, what to know beforehand, and the explanation."""

    title: str
    judgement: Judgement
    preflight: Sequence[str]
    explanation: Mapping[str, Any] | None
    comparison: Comparison | None = None
    """Of two recordings."""


def _page(found: _Explained) -> str:
    from parity.recording.artefacts import open_run
    from parity.report.pair import page

    assert found.comparison is not None
    with clear_errors():
        runs = open_run(found.comparison.a), open_run(found.comparison.b)
    return page(found.comparison, *runs, found.explanation)


def _explain_recordings(
    suite: str | None,
    a: Path,
    b: Path,
    noise: list[Path] | None,
    data: str | None,
    accept: Sequence[str],
    map_file: Path | None,
) -> list[_Explained]:
    from parity.explaining.folders import explain_folders

    known = known_suite(suite)
    replay = partial(_replay, known.suite, a, b, noise or ())
    comparison, explanation = explain_folders(known, a, b, noise or (), data, replay, accept, map_file)
    return [_Explained(f"{a} against {b}", comparison.judgement, comparison.preflight, explanation, comparison)]


def _replay(
    suite: Suite | None, a: Path, b: Path, noise: Sequence[Path], entry: Entry, second: bool
) -> Mapping[str, Any]:
    """Explain a recording on the suite's reference, in a worker of its framework."""
    from parity.running.executor import WorkerError
    from parity.running.jobs import CellName, Replay
    from parity.running.packages import reach_of
    from parity.running.versions import Versions
    from parity.running.workers.pool import Pool
    from parity.suite import SuiteError
    from parity.trajectory import TrajectoryError

    assert suite is not None
    availability = Versions({}).availability(suite.reference)
    if not availability.available:
        raise SuiteError(availability.reason)
    cell = CellName(suite.package, entry.case.name, entry.data, suite.reference, "float64", "cpu", entry.seed)
    repetitions = tuple(str(folder) for folder in noise)
    job = Replay(cell, cell.environment, cell.resources, str(a), str(b), repetitions, second)
    try:
        with Pool(1, reach=reach_of(suite.package)) as pool:
            found = pool.submit(job).result()
    except WorkerError as error:
        raise SuiteError(str(error)) from error
    if found.refusal:
        raise TrajectoryError(found.refusal)
    return found.explanation


def _explain_cells(matrix: Matrix) -> list[_Explained]:
    from parity.report.terminal import Watch, make_console

    with Watch(make_console(stderr=True), len(matrix.cells)) as watch:
        outcomes = matrix.run(watch.epoch, watch.outcome)
    return [_Explained(one.name, one.judgement, one.preflight, one.explanation) for one in outcomes]


def _belongs_to_a_case(**given: Any) -> None:
    """Refuse options that say how a case is run, where two recorded trajectories are named."""
    for name, value in given.items():
        if value:
            fail(f"--{name} belongs to a case: two recorded trajectories are taken as they are")


def diff(
    a: Annotated[
        Path | None,
        typer.Argument(
            parser=there,
            metavar="[A",
            help="A trajectory's folder, a checkpoint or a sketch of one, or a folder of runs.",
            show_default=False,
        ),
    ] = None,
    b: Annotated[
        Path | None, typer.Argument(parser=there, metavar="B]", help="What it is held against.", show_default=False)
    ] = None,
    noise: Noise = None,
    seeds: Annotated[
        list[Path] | None,
        typer.Option(
            "--seeds", parser=there, metavar="RUN…", help="Runs of one implementation, each with a seed of its own."
        ),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option("--against", parser=there, metavar="RUN…", help="Runs of another, likewise, for --seeds."),
    ] = None,
    json_file: Json = None,
    suite: SuiteName = None,
    accept: Accept = None,
    map_file: Map = None,
    shards: Shards = "",
    page_file: Annotated[
        Path | None, typer.Option("--page", metavar="FILE", help="With --seeds, also write a page of all the runs.")
    ] = None,
    limits: Limits = None,
) -> None:
    """Compare two recordings, two checkpoints, two folders of runs, or many runs with other seeds.

    Losses, parameters and metrics are compared. No framework is needed. If two runs of your own have other names or
    layouts, their tensors are matched by value first, as 'parity match' shows. The tolerance follows from the noise
    floor that 'parity run' left beside the recordings. Runs of your own have none: run one of the scripts again, a few
    times, from initial values that parity.stir has moved by one unit in the last place, and name those recordings with
    --noise. A metric that differs without a measured noise floor is inconclusive, for how many rows are near a tie is
    not known. Two folders of runs, as --out names them, are compared wherever both hold the same case in the same
    dtype.

    Two checkpoints of any size are compared as they are read, in little memory. --shards joins those whose ranks saved
    a file each: a statement names tensors and their axes, in brackets those that are split over an axis of the mesh,
    which may come first, as 'dp=2 tp=4;'. All other tensors must be equal in all ranks. Of a checkpoint that lies
    elsewhere, name the sketch that 'parity sketch' made of it there.

    Runs that cannot share a seed part from the first update. --seeds and --against take several of each implementation
    and ask whether both are the same in distribution: a difference is shown by permutation, equivalence by how far the
    means may be apart beside the spread between seeds. --map says which tensors are the same where the sides have other
    names, A in the map being --seeds. The page that --page writes draws the losses of both sides, and what differs
    most, as bands over all runs.

    Status 0 if everything was compared and agrees, 1 if something differs, 3 if that is inconclusive or a run of one
    folder has no counterpart in the other.

    \b
    Examples:
      parity diff runs/torch runs/numpy
      parity diff runs/torch runs/numpy --noise runs/torch-stirred
      parity diff --seeds runs/torch-* --against runs/jax-* --page seeds.html
      parity diff ranks model.safetensors --shards 'h.*.fc1.weight: (tp out) in; h.*.fc2.weight: out (tp in)'
    """
    from parity.judging.diff import compare, unpaired
    from parity.judging.verdict import EXIT_STATUS, Verdict, overall
    from parity.recording.artefacts import is_artefact
    from parity.report.terminal import bytes_read, make_console, print_diff, print_unpaired

    if seeds or against:
        files = json_file, map_file, page_file
        diff_seeds(seeds, against, *files, a=a, b=b, noise=noise, accept=accept, suite=suite, shards=shards)
    if page_file is not None:
        fail("--page belongs to --seeds: 'parity explain A B --page FILE' makes a page of two recordings")
    if a is None or b is None:
        fail("name two recordings, A and B, or several with --seeds and --against")
    checkpoints = is_artefact(a) and is_artefact(b)
    if shards and not checkpoints:
        fail("--shards belongs to two checkpoints: a recording is not sharded by rank")
    with clear_errors(), offline(), bytes_read(make_console(stderr=True)) as begin:
        if checkpoints:
            found = compare(a, b, noise or (), accept=accept or (), matching=map_file, begin=begin, shards=shards)
            comparisons = [found]
        else:
            from parity.explaining.folders import diff_folders  # which two checkpoints need not wait for

            comparisons = diff_folders(a, b, noise or (), known_suite(suite), accept or (), map_file)
    console = make_console(stderr=str(json_file) == "-")
    print_diff(console, comparisons)
    alone = unpaired(a, b, comparisons)
    print_unpaired(console, alone)
    write_json(
        json_file,
        {
            "pairs": [comparison.as_json() for comparison in comparisons],
            "unpaired": [str(run) for runs in alone.values() for run in runs],
        },
    )
    verdicts = [comparison.judgement.verdict for comparison in comparisons]
    # What was not compared never passes.
    verdicts += [Verdict.INCONCLUSIVE for runs in alone.values() for _ in runs]
    raise SystemExit(EXIT_STATUS[overall(verdicts)])
