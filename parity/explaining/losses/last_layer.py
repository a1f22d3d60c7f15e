"""What the last layer's gradients say of a loss, where the loss's gradient for the prediction was not recorded.

The gradient of the last layer's bias is the sum of all rows' gradients for the prediction. And as the prediction z is
linear in that layer's parameters, their product with their gradients is that of z with its gradient G. Of a
cross-entropy with labels, whatever they are, the loss less that product is the sum of the predictions' entropies, over
the denominator: so that is known, and with it how labels are smoothed: what is left of the bias's gradient are counts.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from parity.dtypes import unit
from parity.explaining.losses.weights import Weighted
from parity.nn.activations import log_softmax
from parity.recording.steps import Step
from parity.tolerance import FACTOR, ROUNDINGS
from parity.typing import Array

SHARES = tuple(sorted({k / 100 for k in range(51)} | {k / 16 for k in range(9)} | {k / 1000 for k in range(1, 10)}))
"""The shares by which labels may be smoothed, over all classes or over the others."""
LABELLINGS = 20_000
"""Of so few ways to label a batch each is tried."""
MOST = 10_000_000
"""No more numbers are held for all of them."""
VALUES, UPDATES = 6, 2
"""Of fewer values in fewer updates no count is believed."""


@dataclass(frozen=True)
class Head:
    """The last layer of one update.

    Attributes:
        bias: Its bias's name.
        summed: (classes,): the bias's gradient, which is the sum of all rows' for the prediction.
        product: That of the prediction and its gradient, Σ z G.
        crossed: (classes, classes): (z - bias)ᵀ G.
    """

    bias: str
    summed: Array
    product: float
    crossed: Array


@dataclass(frozen=True)
class Smoothed:
    """How a run smooths its labels.

    Attributes:
        share: Over all classes.
        counts: (updates, classes): how many rows have each class.
        outputs: How many classes there are.
        unsure: How far rounding may have moved the share.
    """

    share: float
    counts: Array
    outputs: int
    unsure: float


def heads_of(step: Step) -> Iterator[Head]:
    """List the layers that may have given the prediction, by their shapes.

    Args:
        step: A recorded step.
    """
    outputs = step.prediction.shape[-1] if step.prediction.ndim > 1 else 0
    wide = {name: np.asarray(value, np.float64) for name, value in step.gradients.items()}
    kernels = [name for name, value in wide.items() if value.ndim == 2 and outputs in value.shape]
    biases = [name for name, value in wide.items() if value.shape == (outputs,)]
    for kernel, bias in itertools.product(kernels, biases):
        weight, gradient = np.asarray(step.before.params[kernel], np.float64), wide[kernel]
        if weight.shape[1] != outputs:
            weight, gradient = weight.T, gradient.T
        shift = np.asarray(step.before.params[bias], np.float64)
        crossed = weight.T @ gradient
        yield Head(bias, wide[bias], float(np.trace(crossed) + shift @ wide[bias]), crossed)


@np.errstate(all="ignore")  # a recording may hold any numbers
def smoothing_of(steps: Sequence[Step], dtype: str) -> Smoothed | None:
    """Find by how much a run smooths the labels of a mean cross-entropy in which all rows count.

    Args:
        steps: Recorded updates.
        dtype: The run's.

    Returns:
        The share and the counts of classes; None if the loss is none such in each update, or too little tells.
    """
    rounding, totals = FACTOR * ROUNDINGS * unit(dtype), []
    for step in steps:
        z = np.asarray(step.prediction, np.float64)
        if z.ndim < 2 or not np.isfinite(z).all():
            return None
        z = z.reshape(-1, z.shape[-1])
        logarithm = log_softmax(z)
        p, entropy = np.exp(logarithm), -float((np.exp(logarithm) * logarithm).sum())
        rows, loss = len(z), float(step.loss)
        fitting = [
            head for head in heads_of(step)
            if abs((loss - head.product) * rows - entropy) <= rounding * rows * (abs(loss) + abs(head.product))
        ]  # fmt: skip
        if len(fitting) != 1:
            return None
        totals.append(p.sum(0) - rows * fitting[0].summed)
    if len(totals) < UPDATES or np.size(totals) < VALUES:
        return None
    whole, outputs = np.array(totals), z.shape[1]
    allowed = 4 * rounding * rows
    for share in sorted({*SHARES, *(share * outputs / (outputs - 1) for share in SHARES)}):
        if share < 1:
            counts = (whole - share * rows / outputs) / (1 - share)
            near = np.rint(counts)
            if np.all(np.abs(counts - near) <= allowed) and np.all((near >= 0) & (near <= rows)):
                spread = float(np.abs(near - rows / outputs).max()) or 1.0
                return Smoothed(share, near, outputs, allowed / spread)
    return None


@np.errstate(all="ignore")  # a recording may hold any numbers
def signs_of(steps: Sequence[Step], dtype: str) -> tuple[str, int] | None:
    """Find a bias whose gradients are sums of signs, over one count, as those of absolute errors are.

    Args:
        steps: Recorded updates.
        dtype: The run's.

    Returns:
        The bias's name and the count; None if there is none.
    """
    if len(steps) < UPDATES or steps[0].prediction.ndim < 2:
        return None
    outputs = steps[0].prediction.shape[-1]
    for name, value in steps[0].gradients.items():
        if value.shape != (outputs,) or outputs * len(steps) < VALUES:
            continue
        rows = steps[0].prediction.size // outputs
        for count in (rows * outputs, rows, 1):
            sums = np.array(
                [np.asarray(step.gradients[name], np.float64) * count for step in steps if name in step.gradients]
            )
            near = np.rint(sums)
            # As many signs as rows: their sum is even where the rows are.
            even = np.all((near - rows) % 2 == 0) and np.all(np.abs(near) <= rows)
            if even and near.any() and np.all(np.abs(sums - near) <= FACTOR * ROUNDINGS * unit(dtype) * rows):
                return name, count
    return None


@np.errstate(all="ignore")  # a recording may hold any numbers
def labelled(step: Step, dtype: str) -> Weighted | None:
    """Find the labels and the weights of classes that make a small batch's loss and its last layer's gradients.

    Args:
        step: A recorded step.
        dtype: The run's.

    Returns:
        The shares of rows; None if there are too many ways to label the rows, or not one alone fits.
    """
    z = np.asarray(step.prediction, np.float64)
    if z.ndim != 2 or z.shape[1] < 2 or not np.isfinite(z).all():
        return None
    rows, outputs = z.shape
    if rows * np.log(outputs) > np.log(LABELLINGS) or outputs**rows * outputs**2 * (1 + outputs) > MOST:
        return None
    logarithm = log_softmax(z)
    p, rounding = np.exp(logarithm), FACTOR * ROUNDINGS * unit(dtype)
    ways = np.stack(np.meshgrid(*[np.arange(outputs)] * rows, indexing="ij"), -1).reshape(-1, rows)  # (ways, rows)
    on = np.eye(outputs)[ways]  # (ways, rows, classes)
    found = []
    for head in heads_of(step):
        shift = z - np.asarray(step.before.params[head.bias], np.float64)
        # What a row of each class would add to the bias's gradient and to (z - bias)ᵀ G.
        each = p[:, None] - np.eye(outputs)  # (rows, class, classes)
        crossed = shift[:, None, :, None] * each[:, :, None]  # (rows, class, classes, classes)
        told = np.concatenate([each, crossed.reshape(rows, outputs, -1)], -1)  # (rows, class, equations)
        wanted = np.concatenate([head.summed, head.crossed.ravel()])
        matrix = np.einsum("wrc,rce->wec", on, told)  # (ways, equations, classes)
        squares = np.einsum("wec,wed->wcd", matrix, matrix) + 1e-30 * np.eye(outputs)
        shares = np.linalg.solve(squares, np.einsum("wec,e->wc", matrix, wanted)[..., None])[..., 0]
        left = np.abs(np.einsum("wec,wc->we", matrix, shares) - wanted)
        size = np.abs(wanted).max()
        # Normal equations lose half the digits; what they leave is polished below.
        for way in np.flatnonzero((left.max(1) <= 1e-3 * size) & np.all(shares > -1e-3 * size, 1)):
            fitted = np.linalg.lstsq(matrix[way], wanted, rcond=1e-9)[0]
            occurs = np.unique(ways[way])
            if np.abs(matrix[way] @ fitted - wanted).max() > rounding * size or np.any(fitted[occurs] <= 0):
                continue
            own = fitted[ways[way]]
            whole = -float((own * logarithm[np.arange(rows), ways[way]]).sum())
            if abs(whole - float(step.loss)) <= 2 * rounding * abs(float(step.loss)):
                found.append(Weighted(own, ways[way], 0.0, 4 * rounding, outputs))
    return found[0] if len(found) == 1 else None
