"""What the report says, as sections of text, tables and figures: a file for each group of benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.result import Result
from benchmarks.sections import commands, comparing, matching, overview, training, watching
from benchmarks.sections.pieces import Section


def sections(result: Result, earlier: Result | None = None) -> Iterator[Section]:
    """The sections for which ``result`` holds figures, in the report's order.

    ``earlier`` is another run, which the first section compares this one to.
    """
    if earlier is not None:
        yield overview.against(result, earlier)
    for section in (
        overview.limits_held(result),
        training.ratios(result),
        training.throughput(result),
        training.first_calls(result),
        training.recording(result),
        watching.watching(result),
        comparing.comparison(result),
        comparing.scaling(result),
        matching.matching(result),
        commands.startup(result),
        commands.matrix(result),
        overview.unmeasured(result),
    ):
        if section is not None:
            yield section
    yield overview.machine_and_method(result)
