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
        "What is measured: an update of a loop of one's own, four layers of 256 and a batch of 256, with nobody "
        "watching, recorded deeply, and later, without shadows. Of a deep update the seconds are taken off that the "
        "disk alone takes for as many bytes.",
        f"What is good: a deep update at most {words.ratio(DEEP_LIMIT)} × a plain one, a later one at most "
        f"{words.ratio(WATCHING_LIMIT)} ×. In JAX and Keras a deep update is made op by op, to show its layers: "
        "there it takes far longer, for as many updates as are asked for.",
    ]
    numbers = ("plain", "deep", "of it the disk", "deep less the disk, over plain", "later over plain", "memory")
    rows = []
    for one in found:
        plain, deep, disk = (Spread(tuple(one.info[f"{name}_seconds"])) for name in ("plain", "deep", "disk"))
        times = [words.seconds(each.median) for each in (plain, deep, disk)]
        ratios = [words.times(each) if each else "" for each in (deep_ratio(one), one.ratio("plain_seconds"))]
        rows.append(Row((one.info["loop"], *times, *ratios, words.memory(one.info["peak_bytes"]))))
    return Section("Watching a loop of one's own", text, table=Table(heads("loop", numbers=numbers), rows))
