"""The command that says where frameworks differ: semantics."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from parity.cli.options import Json
from parity.cli.output import fail, write_json


def semantics(
    function: Annotated[
        str | None, typer.Argument(metavar="[FUNCTION]", help="A layer, loss, optimizer or schedule; else all of them.")
    ] = None,
    json_file: Json = None,
) -> None:
    """Say where frameworks differ in what a layer, loss, optimizer or schedule means.

    Each was held against NumPy in random configurations, forward, backward and in its state. What is shown is what was
    found: the defaults in one vocabulary, what a framework cannot express, and what it computes otherwise. Momentum of
    a running average is the share that stays.

    Status 0.

    \b
    Examples:
      parity semantics
      parity semantics batch_norm
      parity semantics batch_norm --json -
    """
    from parity.nn.table import as_json, read
    from parity.report import semantics as report
    from parity.report.terminal import make_console

    found = read()
    if function is not None:
        if function not in found:
            near = get_close_matches(function, found)
            known = f"did you mean {' or '.join(near)}?" if near else "'parity semantics' lists those that there are"
            fail(f"unknown function {function!r}: {known}")
        found = {function: found[function]}
    console = make_console(stderr=str(json_file) == "-")
    if function is None:
        report.print_all(console, found.values())
    else:
        report.print_one(console, found[function])
    write_json(json_file, as_json(found))
