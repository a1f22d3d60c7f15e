"""The report of a benchmark run, one page and one Markdown file: ``python -m benchmarks.report FILE.json``.

Sections are made once, as text, figures and tables; page and Markdown differ only in how they write them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import words
from benchmarks.result import Result, ResultError, read
from benchmarks.sections import sections
from benchmarks.sections.pieces import Section, Table
from parity.recording.files import write_whole
from parity.report.markdown import escaped, table
from parity.report.page import PageError, check_page, plotly, render

TITLE = "How fast is it?"


@dataclass(frozen=True)
class Report:
    """Everything that the report says, before it is written as a page or as Markdown."""

    facts: str
    lead: Sequence[str]
    sections: Sequence[Section]


def build(result: Result, earlier: Result | None = None) -> Report:
    """The report of a run, and of how it differs from an ``earlier`` one."""
    machine = result.machine
    cores, memory = machine.get("cores", "?"), machine.get("memory_bytes")
    facts = [
        str(machine.get("cpu", {}).get("brand_raw", machine.get("machine", "unknown processor"))),
        f"{cores} cores",
        *([f"{words.memory(memory)} of memory"] if memory else []),
        f"Python {machine.get('python_version', '?')}",
        result.date[:16].replace("T", " ") + " UTC",
        *([result.version] if result.version else []),
    ]
    lead = [
        "The project trains the same models in NumPy, PyTorch, TensorFlow and JAX, records every epoch, and compares "
        "the recordings. This page shows what that costs. What is set against a peer was measured beside it in the "
        "same run, and, but for comparisons, in turns, round by round: a ratio is one of the same round, and below 1 "
        "means faster than the peer. A figure is the median of its rounds, beside their smallest and largest.",
    ]
    if result.quick:
        lead.append("This was a quick run: few cases, few rounds. Its spreads are wide, and not all limits are asked.")
    return Report(" · ".join(facts), lead, list(sections(result, earlier)))


def page(report: Report) -> str:
    """The report as one page that needs nothing else."""
    return render(
        "benchmarks.html",
        "benchmarks",
        title=TITLE,
        facts=report.facts,
        lead=report.lead,
        sections=report.sections,
        plotly=plotly(),
    )


def markdown(report: Report) -> str:
    """The report as Markdown: every table, and no figures."""
    lines = [f"# {TITLE}", "", escaped(report.facts), ""]
    for line in report.lead:
        lines += [escaped(line), ""]
    for section in report.sections:
        lines += [f"## {escaped(section.title)}", ""]
        for line in section.text:
            lines += [escaped(line), ""]
        for content in (section.table, section.more):
            lines += [_table(content), ""] if content else []
    return "\n".join(lines)


def _table(content: Table) -> str:
    numbers = [place for place, head in enumerate(content.heads) if head.number]
    return table([head.text for head in content.heads], [row.cells for row in content.rows], numbers)


def write(report: Report, html: Path, text: Path) -> None:
    """Both files, each put in its place whole."""
    for path, content in ((html, page(report)), (text, markdown(report))):
        write_whole(path, content.encode())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.report", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("file", type=Path, help="parity-benchmarks.json")
    parser.add_argument("--against", type=Path, metavar="FILE", help="an earlier run's, whose differences are marked")
    asked = parser.parse_args(arguments)
    html, text = asked.file.with_suffix(".html"), asked.file.with_suffix(".md")
    try:
        check_page(html, "plotly")
        write(build(read(asked.file), read(asked.against) if asked.against else None), html, text)
    except (ResultError, PageError) as error:
        print(f"benchmarks.report: {error}", file=sys.stderr)
        return 2
    print(f"wrote {html} and {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
