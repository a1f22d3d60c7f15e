"""What lies between projections and has no layer of its own, as people write it: attention, and a gate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.calls import Seen, Taken
from parity.explaining.layers.dataflow import Tensor
from parity.nn.activations import ELEMENTWISE
from parity.nn.layers import Call
from parity.tolerance import FACTOR
from parity.typing import Array

KINDS = ("attend", "gated")
"""What may lie there, in the words of ``parity.nn.layers``."""
PARTS = {"attend": 3, "gated": 2}
"""What each takes: query, key and value; the gate and what it gates. A layer may give them in one tensor."""
HEADS, ROTARY = (1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 32), ("halves", "interleaved")
BASES = (10000.0, 500000.0, 1000000.0)
"""Bases of rotary positions that right models have."""
EXAMPLES, QUERIES = 2, 64
"""Attention is replayed for so many examples and queries, if there are many values."""
FEW = 20_000
"""Of so many values a gate is replayed, and attention over all examples."""


def taken_between(
    alignment: Alignment, kind: str, given: tuple[Tensor, Tensor], after: tuple[Sequence[str], Sequence[str]]
) -> tuple[Taken | None, Taken | None]:
    """Say what either run took and gave between its projections, if that may be of a kind.

    What a layer gave in one tensor is cut into its parts, and the second run's parts come in the order of the first's,
    if they are the same: a model may compute its key before its query.

    Args:
        alignment: The tensors of both runs.
        kind: One of ``KINDS``.
        given: What came of it in the first run, and in the second.
        after: Of each run the last tensors before it that agree.

    Returns:
        What each run has; None where it is none such.
    """
    first, second = (_taken(alignment, kind, side, given[side], after[side]) for side in (0, 1))
    if first is not None and second is not None:
        order = _order(first, second)
        second = replace(second, inputs=tuple(second.inputs[place] for place in order))
    return first, second


def calls_between(found: Taken) -> Iterator[Seen]:
    """List the calls that may have made what was given.

    Args:
        found: What was taken and given, of one of ``KINDS``.

    Yields:
        Attention of so many heads and groups of them, causal or not, its queries and keys turned or not; a gate of
        either half, with each activation.
    """
    if found.between == "gated":
        for gate, activation in itertools.product((0, 1), ELEMENTWISE):
            yield seen_between(found, Call(kind="gated", settings={"gate": gate, "activation": activation}))
        return
    for order in itertools.permutations(range(3)):
        query, key, value = (found.inputs[place] for place in order)
        if query.size != found.output.size or key.shape != value.shape:
            continue
        width, group = query.shape[-1], key.shape[-1]
        counts = (
            [query.shape[2]] if query.ndim == 4 else [n for n in HEADS if width % n == 0 and group * n % width == 0]
        )
        turns = [("", BASES[0]), *itertools.product(ROTARY, BASES if order == (0, 1, 2) else BASES[:1])]
        for heads, (rotary, base), causal in itertools.product(counts, turns, (True, False)):
            if rotary and (width if query.ndim == 4 else width // heads) % 2:
                continue
            settings = {"heads": heads, "order": order, "causal": causal, "rotary": rotary, "base": base}
            seen = seen_between(found, Call(kind="attend", settings=settings))
            # The first query of causal attention sees the first value alone, whatever the scores are.
            if not causal or _begins(seen):
                yield seen


def seen_between(found: Taken, call: Call) -> Seen:
    """Say what was taken and given as a call would have it.

    Args:
        found: What was taken and given.
        call: A call of the kind, its inputs not known.

    Returns:
        The call with its inputs, and what it gave, in float64. A part of the values stands for all.
    """
    if call.kind == "gated":
        width = found.output.shape[-1]
        rows = max(1, FEW // width)
        inputs = tuple(one.reshape(-1, one.shape[-1])[:rows].astype(np.float64) for one in found.inputs)
        return Seen(
            replace(call, inputs=inputs), found.output.reshape(-1, width)[:rows].astype(np.float64), found.floor
        )
    heads = call.settings["heads"]
    query, key, value = (found.inputs[place] for place in call.settings["order"])
    width = query.shape[-1] if query.ndim == 4 else query.shape[-1] // heads
    query, key, value = (
        (one if one.ndim == 4 else one.reshape(*one.shape[:2], -1, width)).astype(np.float64)
        for one in (query, key, value)
    )
    output = found.output.astype(np.float64).reshape(*query.shape[:3], -1)
    if output.shape[1] > 2 * QUERIES:
        query, output = query[:, :QUERIES], output[:, :QUERIES]
    return Seen(replace(call, inputs=(query, key, value)), output, found.floor)


def _taken(alignment: Alignment, kind: str, side: int, tensor: Tensor, labels: Sequence[str]) -> Taken | None:
    flow = alignment.sides[side]
    tensors = sorted((flow.tensors[label] for label in labels), key=lambda one: one.place)
    values = [one.values for one in tensors if one.values is not None and one.values.dtype.kind == "f"]
    output = tensor.values
    if output is None or not tensor.floor or len(values) != len(tensors) or len(values) not in (1, PARTS[kind]):
        return None
    if not all(one.ndim > 1 and np.isfinite(one).all() for one in (*values, output)):
        return None
    if kind == "attend":
        examples = EXAMPLES if max(one.size for one in (*values, output)) > FEW else None
        values, output = [one[:examples] for one in values], output[:examples]
    parts = _parts(kind, values, output)
    strayed = max(one.floor for one in tensors)
    return Taken(flow, side, None, parts, output, tensor.floor, strayed, between=kind) if parts else None


def _parts(kind: str, values: Sequence[Array], output: Array) -> tuple[Array, ...]:
    """Cut what one layer gave for all; empty if the sizes do not fit: attention's query is as large as its output."""
    whole, size = values[0], output.size
    if kind == "gated":
        parts = values if len(values) > 1 else [] if whole.shape[-1] % 2 else np.split(whole, 2, -1)
        return tuple(parts) if all(one.shape == output.shape for one in parts) else ()
    if any(one.ndim not in (3, 4) or one.ndim != whole.ndim for one in values):
        return ()
    if len(values) == 1 and (whole.size <= size or size % len(whole[..., 0].ravel())):
        return ()
    if len(values) == 1:
        width = size // len(whole[..., 0].ravel())
        values = np.split(whole, (width, (width + whole.shape[-1]) // 2), -1)
    sizes = sorted(one.size for one in values)
    return tuple(values) if sizes[0] and sizes[0] == sizes[1] and sizes[2] == size and size % sizes[0] == 0 else ()


def _order(first: Taken, second: Taken) -> list[int]:
    """Which of the second run's parts each of the first's is; as they are if that is not known."""
    allowed, found = FACTOR * max(first.strayed, second.strayed), list[int]()
    for one in first.inputs:
        for place, other in enumerate(second.inputs):
            if place in found or one.size != other.size:
                continue
            if np.max(np.abs(one.ravel().astype(np.float64) - other.ravel()), initial=0.0) <= allowed:
                found.append(place)
                break
    return found if len(found) == len(first.inputs) else [*range(len(second.inputs))]


def _begins(seen: Seen) -> bool:
    """Tell whether the first query got the first value."""
    value = seen.call.inputs[2][:, 0]  # (batch, groups, width)
    got = seen.output[:, 0]  # (batch, heads, width)
    if value.shape[-1] != got.shape[-1] or got.shape[1] % value.shape[1]:
        return False
    apart = np.abs(np.repeat(value, got.shape[1] // value.shape[1], 1) - got)
    return bool(np.max(apart, initial=0.0) <= FACTOR * seen.floor)
