"""The command line. Only typer is imported here; each command imports what it needs when it is called."""

from __future__ import annotations

import signal
import traceback
from typing import NoReturn

import typer

from parity.cli import cases, evidence, match, recordings, seeds, semantics, sketch, sweep, texts
from parity.cli.addresses import fetching, kept_until_the_end
from parity.cli.output import OURS, UNHEARD, check_heard, fail, is_unheard, say, unheard

# Plain help: drawing it with rich would cost more than importing NumPy.
app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Prove that one model, written in several frameworks, trains the same way in each.\n\n"
    "Exit status: 0 all pass, 1 a difference, 2 wrong use or unreadable input, 3 inconclusive, 70 a mistake in parity "
    "itself.\n\n\b\nExamples:\n  parity diff runs/torch runs/numpy\n  parity explain runs/torch runs/numpy\n"
    "  parity run --help",
)

# In the order in which the help lists them.
app.command()(fetching(cases.run))
app.command()(fetching(sweep.sweep))
app.command()(fetching(recordings.report))
app.command("list")(cases.list_cells)
app.command()(fetching(cases.show))
app.command()(fetching(texts.sample))
app.command()(fetching(recordings.explain))
app.command()(evidence.prove)
app.command()(evidence.bench)
app.command(cls=seeds.Several)(fetching(recordings.diff))
app.command()(fetching(match.match))
app.command()(fetching(sketch.sketch))
app.command()(semantics.semantics)
app.command()(fetching(cases.floor))


def main() -> None:
    """Run the command line; every expected failure is one line on standard error and an exit status."""
    signal.signal(signal.SIGTERM, _interrupt)
    # A terminal that is closed stops a run as Ctrl-C does; 'nohup' has it ignored, and it stays so.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _interrupt)
    check_heard()  # where standard output is closed, a file that is opened would take its place
    try:
        with kept_until_the_end():
            app(standalone_mode=True)
    except SystemExit as end:
        if end.code == 130:  # typer's answer to Ctrl-C
            fail("stopped; what had finished is on disk", 130)
        if isinstance(end.__context__, BrokenPipeError):
            raise SystemExit(UNHEARD) from None
        check_heard()
        raise
    except Exception as error:
        if is_unheard(error):
            unheard(error)
        say(traceback.format_exc().rstrip(), err=True, lines=True)
        fail("a mistake in parity itself or in the suite's code, and no verdict: report it with the lines above", OURS)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
