"""The section on matching tensors by value, and on explaining where two recordings part."""

from __future__ import annotations

from benchmarks import words
from benchmarks.limits import ASKED_VALUES, MATCHING_SECONDS
from benchmarks.result import Benchmark, Result
from benchmarks.sections.pieces import Row, Section, Table, heads, memory_or_dot, spread_cells


def matching(result: Result) -> Section | None:
    """Tensors matched by value, and an explanation, as they grow."""
    found = [*result.group("matching"), *result.group("explaining")]
    if not found:
        return None
    text = [
        "What is measured: matching two checkpoints of one transformer, in which one framework's users fuse query, key "
        "and value and the other's keep them by heads; and explaining where two recorded updates of "
        "many layers part, of which one computes otherwise in the middle. Files are read and their hashes checked.",
        f"What is good: {ASKED_VALUES:,} values matched in {words.seconds(MATCHING_SECONDS)}.",
    ]
    numbers = ("values", "median", "fastest", "slowest", "memory beyond the files")
    rows = [
        Row((_what(b), f"{b.info['values']:,}", *spread_cells(b.seconds), memory_or_dot(b)))
        for b in sorted(found, key=lambda b: (b.group, b.info["values"]))
    ]
    return Section("Matching and explaining", text, table=Table(heads("what", numbers=numbers), rows))


def _what(benchmark: Benchmark) -> str:
    if benchmark.group == "explaining":
        return f"two updates explained, {benchmark.info['layers']} layers"
    return f"two checkpoints matched, {benchmark.info['proven']} of {benchmark.info['tensors']} tensors proven"
