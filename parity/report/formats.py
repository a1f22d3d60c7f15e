"""The matrix in the forms that CI reads: Markdown, JUnit XML and JSON."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence

from parity.judging.outcome import Outcome
from parity.judging.published import PRINTED_BY, counted
from parity.judging.verdict import Verdict
from parity.report.foreign import foreign
from parity.report.markdown import table
from parity.report.words import Doubt, doubts, foreign_floor, labels_of, rows_of, share, totals


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The matrix as Markdown: a table of the cells, what did not pass and why, notes, published figures."""
    labels = labels_of(outcomes)
    parts = [
        "# Parity report",
        " ".join(f"{text}." for text in totals(outcomes)),
    ]
    body = [
        [*row, *(_cell(found[label]) if label in found else "" for label in labels)]
        for row, found in rows_of(outcomes).items()
    ]
    parts.append(table(["case", "dtype", "device", *labels], body))
    doubtful = [[_name(o), str(doubt.verdict), _said(doubt)] for o in outcomes for doubt in doubts(o)]
    if doubtful:
        parts += ["## What did not pass", table(["cell", "verdict", "why"], doubtful)]
    notes = [[_name(o), o.judgement.note] for o in outcomes if o.judgement.verdict is Verdict.PASS and o.judgement.note]
    notes += [[name, note] for name, note in {o.folder: o.note for o in outcomes}.items() if note]
    if notes:
        parts += ["## Notes", table(["of", "note"], notes)]
    published = list(_published(outcomes))
    if published:
        parts += ["## Published figures", table(["case", "printed by", "reproduced"], published)]
    return "\n\n".join(parts) + "\n"


def junit(outcomes: Sequence[Outcome]) -> str:
    """The matrix as JUnit XML: a suite for each case, a test for each cell. An INCONCLUSIVE cell is an error."""
    root = ET.Element("testsuites", name="parity")
    totals = {"tests": 0, "failures": 0, "errors": 0}
    seconds = 0.0
    for folder in dict.fromkeys(o.folder for o in outcomes):
        of_case = [o for o in outcomes if o.folder == folder]
        suite = ET.SubElement(root, "testsuite", name=_text(folder))
        counts = {"tests": len(of_case), "failures": 0, "errors": 0}
        for o in of_case:
            name = f"{o.implementation}-{o.dtype}-{o.device}"
            test = ET.SubElement(suite, "testcase", classname=_text(folder), name=_text(name), time=f"{o.seconds:.3f}")
            found = doubts(o)
            failed = any(doubt.verdict is Verdict.FAIL for doubt in found)
            if found:
                counts["failures" if failed else "errors"] += 1
                kind = Verdict.FAIL if failed else Verdict.INCONCLUSIVE
                element = ET.SubElement(
                    test, "failure" if failed else "error", type=kind, message=_text(_said(found[0]))
                )
                element.text = _text("\n".join(f"{doubt.verdict}: {_said(doubt)}" for doubt in found))
            elif notes := "; ".join(filter(None, (o.judgement.note, foreign_floor(o)))):
                ET.SubElement(test, "system-out").text = _text(notes)
        spent = sum(o.seconds for o in of_case)
        suite.attrib.update({key: str(count) for key, count in counts.items()} | {"time": f"{spent:.3f}"})
        totals = {key: totals[key] + count for key, count in counts.items()}
        seconds += spent
    root.attrib.update({key: str(count) for key, count in totals.items()} | {"time": f"{seconds:.3f}"})
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


FORMATS: Mapping[str, Callable[[Sequence[Outcome]], str]] = {"md": markdown, "junit": junit}
"""The name of a format, as ``parity report --format`` takes it, to what writes it."""


def _said(doubt: Doubt) -> str:
    return f"{doubt.reason}; {doubt.explanation}" if doubt.explanation else doubt.reason


def _name(o: Outcome) -> str:
    return f"{o.name} {o.device}"


def _cell(o: Outcome) -> str:
    verdict = o.judgement.verdict
    return str(verdict) if verdict is Verdict.INCONCLUSIVE else f"{verdict} {share(o.judgement.ratio)}"


def _published(outcomes: Sequence[Outcome]) -> Iterable[list[str]]:
    for folder in dict.fromkeys(o.folder for o in outcomes):
        for kind, (held, count) in counted(f for o in outcomes if o.folder == folder for f in o.figures).items():
            yield [folder, PRINTED_BY[kind], f"{held} of {count}"]


def _text(text: str) -> str:
    """A text of characters that XML 1.0 can hold, which all that can be printed are."""
    return foreign(text, lines=True)
