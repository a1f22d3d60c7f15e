"""Name the mistake in a recurrent cell that one run has written by hand, where the other has a layer.

What a model is given is not recorded, and often that is what its recurrent layer takes. But each step's output says its
input, where a layer has more units than features: it is searched for, and found where the layer's own output is made of
it. Then the layer is replayed with each mistake, as if its input had been recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from parity.explaining.layers.alignment import Alignment
from parity.explaining.layers.calls import UNFIT, Seen, Taken, calls_of
from parity.explaining.layers.dataflow import Tensor
from parity.mistakes.catalogue.replayed import REPLAYED
from parity.mistakes.layer import LayerMistake
from parity.nn.layers import Call, compute, recurrent_step
from parity.recording.layers import Layer
from parity.tolerance import FACTOR
from parity.typing import Array

ROWS, UNITS, INPUTS = 4, 64, 200
"""So many rows stand for all; larger layers, and rows of more inputs, are not looked at: it would take too long."""
MOST, LEAST = 2, 2
"""So many ways in which the parameters may lie are tried, and of so few rows nothing is said."""
ITERATIONS, BEGINNINGS = 30, 8
"""So often the search for a step's input goes on, and so often it begins anew."""
NUDGE = 1e-6
GROWN = 64
"""So many times a state's noise floor may be what a search leaves: errors of steps before are in the cell's state."""
SHARP = 1e-3
"""A replay that rounding moves by more than this share of what was given proves nothing."""


@np.errstate(all="ignore")  # a recording may hold any numbers
def in_cell(
    alignment: Alignment, side: int, layer: Layer, other: Tensor
) -> list[tuple[LayerMistake, str, float, float]]:
    """Find the mistakes in a recurrent layer that make what the other run's own cell gave in the end.

    Args:
        alignment: The tensors of both runs.
        side: Whose layer it is, 0 or 1.
        layer: The layer, whose input was not recorded.
        other: What the other run's cell gave: (batch, units).

    Returns:
        Each mistake, its number in words, and how far its replay is from the other run, and that of the layer as it is
        from its own output, in noise floors. Empty if the input cannot be told, or the layer is not known.
    """
    flow = alignment.sides[side]
    tensor = flow.tensors.get(layer.outputs[0]) if layer.outputs else None
    if tensor is None or tensor.values is None or other.values is None or not tensor.floor or not other.floor:
        return []
    states = tensor.values[:ROWS].astype(np.float64)
    if states.ndim != 3 or other.values.ndim != 2 or states.shape[2] > UNITS:
        return []
    wanted = other.values[:ROWS].astype(np.float64)
    stirred = states + tensor.floor * np.random.default_rng(0).choice((-1.0, 1.0), states.shape)
    taken = Taken(flow, side, layer, (states,), states, tensor.floor)
    tried: list[list[tuple[str, tuple[int, ...], float]]] = []
    try:
        for seen in calls_of(alignment, taken, None):
            call = seen.call
            values = sorted((role, value.shape, float(value.sum())) for role, value in call.params.items())
            if values in tried or len(tried) == MOST or call.params["kernel"].shape[0] * states.shape[1] > INPUTS:
                continue
            tried.append(values)
            x, rows = inputs_of(call, states, tensor.floor)
            again, others = inputs_of(call, stirred, 2 * tensor.floor) if rows.any() else (x, rows)
            both = rows & others
            if both.sum() < LEAST:
                continue
            known, near = (replace(call.set(last=True), inputs=(one[both],)) for one in (x, again))
            last = states[both][:, 0 if call.settings.get("reverse") else -1]
            return _mistakes(known, near, last, wanted[both], (tensor.floor, other.floor))
    except UNFIT:
        return []
    return []


def _mistakes(
    known: Call, near: Call, last: Array, wanted: Array, floors: tuple[float, float]
) -> list[tuple[LayerMistake, str, float, float]]:
    """The mistakes that make the other run's states of a layer, whose input was found twice, the outputs stirred once.

    How far rounding moves a replay is how far the second one is from the first.
    """
    right = Seen(known, last, floors[0]).floors(compute(known))
    if right > FACTOR or Seen(known, wanted, floors[1]).floors(compute(known)) <= FACTOR:
        return []
    found: dict[str, tuple[LayerMistake, str, float, float]] = {}
    for mistake in REPLAYED:
        if "recurrent" not in mistake.kinds:
            continue
        try:
            # One after the other: a mistake may replace a function while it is made.
            ones, twos = list(mistake.wrong(known, wanted)), list(mistake.wrong(near, wanted))
        except UNFIT:
            continue
        for one, two in zip(ones, twos, strict=True):
            if mistake.name in found or one.output.shape != wanted.shape:
                continue
            floor = max(floors[1], float(np.abs(one.output - two.output).max()))
            far = Seen(known, wanted, floor).floors(one.output)
            if far <= FACTOR and FACTOR * floor < SHARP * np.abs(wanted).max():
                found[mistake.name] = mistake, one.said, far, right
    return list(found.values())


def inputs_of(call: Call, states: Array, floor: float) -> tuple[Array, Array]:
    """Find the inputs of a recurrent layer that make its outputs.

    Args:
        call: The layer, without its input.
        states: (batch, steps, units): what each step gave.
        floor: Their noise floor.

    Returns:
        (batch, steps, features); and for each row whether all of its inputs were found, (batch,). None are where the
        layer has no more units than features, so that any outputs have inputs.
    """
    features, units = call.params["kernel"].shape[0], states.shape[2]
    found, rows = np.zeros((*states.shape[:2], features)), np.full(len(states), features < units)
    order = range(states.shape[1])[:: -1 if call.settings.get("reverse") else 1]
    hidden = cell = np.zeros((len(states), units))
    for step in order if rows.any() else ():
        found[rows, step], solved = _solved(call, (hidden[rows], cell[rows]), states[rows, step], floor)
        moved = _step(call, hidden, cell)(found[:, step])[1]
        rows[rows] = solved
        hidden, cell = states[:, step], moved
        if rows.sum() < LEAST:
            return found, np.zeros_like(rows)
    return found, rows


def _step(call: Call, hidden: Array, cell: Array) -> Callable[[Array], tuple[Array, Array]]:
    """One step of a layer, as a function of its input (batch, features)."""
    return lambda x: recurrent_step(call, x, hidden, cell)


def _solved(call: Call, before: tuple[Array, Array], wanted: Array, floor: float) -> tuple[Array, Array]:
    """Find the input (batch, features) that takes a layer from one state to another, and for which rows it is found."""
    draw, features = np.random.default_rng(0), call.params["kernel"].shape[0]
    best, solved = np.zeros((len(wanted), features)), np.zeros(len(wanted), bool)
    for beginning in range(BEGINNINGS):
        left = np.flatnonzero(~solved)
        x = draw.normal(size=best.shape)[left] * (beginning % 4) / 2
        x, far = _descended(_step(call, before[0][left], before[1][left]), x, wanted[left])
        best[left], solved[left] = x, far <= FACTOR * GROWN * floor
        if solved.all():
            break
    return best, solved


def _descended(function: Callable[[Array], tuple[Array, Array]], x: Array, wanted: Array) -> tuple[Array, Array]:
    """Go from x (batch, features) to where a step's state is what is wanted, as far as each row comes; and how far off.

    The way is Levenberg's and Marquardt's.
    """
    damping, left = np.full(len(x), 1e-3), function(x)[0] - wanted
    for _ in range(ITERATIONS):
        nudges = np.eye(x.shape[1]) * NUDGE
        slopes = np.stack([function(x + one)[0] - function(x - one)[0] for one in nudges], -1) / (2 * NUDGE)
        squares = np.einsum("ruf,rug->rfg", slopes, slopes) + damping[:, None, None] * np.eye(x.shape[1])
        moved = x - np.linalg.solve(squares, np.einsum("ruf,ru->rf", slopes, left)[..., None])[..., 0]
        now = function(moved)[0] - wanted
        closer = (now**2).sum(1) < (left**2).sum(1)
        x, left = np.where(closer[:, None], moved, x), np.where(closer[:, None], now, left)
        damping = np.where(closer, damping / 10, damping * 10)
        if not closer.any() and damping.min() > 1:
            break
    return x, np.abs(left).max(1)


def alone(chain: Sequence[Layer]) -> Layer | None:
    """Give the recurrent layer that alone lies between what agrees and what parts.

    Args:
        chain: The layers there of the run that has any.
    """
    return chain[0] if len(chain) == 1 and chain[0].common.kind == "recurrent" else None
