"""The section on what watching a loop of one's own costs."""

from __future__ import annotations

from benchmarks import words
from benchmarks.limits import DEEP_LIMIT, WATCHING_LIMIT, deep_ratio
from benchmarks.result import Result, Spread
from benchmarks.sections.pieces import Row, Section, Table, heads


def watching(result: Result) -> Section | None:
    """A deeply recorded update and a later one, beside an update that nobody watches."""
    found = result.group("watching")
    if not found:
        return None
    text = [
        "What is measured: an update of a loop of one's own, four layers of 256 and a batch of 256, or a residual "
        "network and four images, with nobody watching, recorded deeply, and later, without shadows. Of a deep update "
        "the seconds are taken off that the disk alone takes for as many bytes. The first, in which JAX and Keras "
        "compile what shows the layers, stands by itself.",
        f"What is good: a deep update at most {words.ratio(DEEP_LIMIT)} × a plain one, a later one at most "
        f"{words.ratio(WATCHING_LIMIT)} ×. What is compiled is made once more to show its layers, in a program of its "
        "own, which about doubles what a deep update takes.",
    ]
    numbers = (
        "plain",
        "first",
        "deep",
        "of it the disk",
        "deep less the disk, over plain",
        "later over plain",
        "memory",
    )
    rows = []
    for one in found:
        plain, deep, disk = (Spread(tuple(one.info[f"{name}_seconds"])) for name in ("plain", "deep", "disk"))
        first = one.info.get("first_seconds")
        times = [words.seconds(each) if each else "" for each in (plain.median, first, deep.median, disk.median)]
        ratios = [words.times(each) if each else "" for each in (deep_ratio(one), one.ratio("plain_seconds"))]
        rows.append(Row((one.info["loop"], *times, *ratios, words.memory(one.info["peak_bytes"]))))
    return Section("Watching a loop of one's own", text, table=Table(heads("loop", numbers=numbers), rows))
