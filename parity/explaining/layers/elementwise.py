"""Name the function that made one recorded tensor of another: each is replayed on what was recorded.

It is an activation function, or what is left of an axis, as its mean.
"""

from __future__ import annotations

import numpy as np

from parity.explaining.layers.dataflow import Dataflow, Tensor
from parity.explaining.layers.reductions import reduction_of
from parity.nn.activations import ELEMENTWISE, log_softmax
from parity.recording.sketch import evenly
from parity.tolerance import FACTOR
from parity.typing import Array

VALUES = 4096
"""So many values of a tensor are enough to tell one function from another."""


ALIKE = 2
"""So many functions may fit: relu and relu6 do where no value is above 6."""


def functions_in_words(sides: tuple[Dataflow, Dataflow], ours: Tensor, theirs: Tensor) -> str:
    """Say which functions two tensors that part were made by, if each run's is known and they differ.

    Args:
        sides: The updates of both runs.
        ours: What parts in the first run.
        theirs: What parts in the second.

    Returns:
        A sentence; empty if either function is unknown, or if both are one.
    """
    first, second = (function_of(flow, tensor) for flow, tensor in zip(sides, (ours, theirs), strict=True))
    if first is None or second is None or first[0] == second[0]:
        return ""
    return (
        f"the first run computes {first[0]} (replay agrees to {first[1]:.2g} of the noise floor), the second "
        f"{second[0]} ({second[1]:.2g})"
    )


@np.errstate(all="ignore")  # a recording may hold any numbers
def function_of(flow: Dataflow, tensor: Tensor) -> tuple[str, float] | None:
    """Find the function that makes a tensor of the tensor that it came from.

    Args:
        flow: The update.
        tensor: What was made.

    Returns:
        The function's name, and how far its replay is from the tensor, in noise floors; None if no function is within
        the tolerance, or more than two.
    """
    sources = [flow.tensors[label] for label in tensor.sources]
    # A recurrent layer gives its last states beside the sequence.
    of_one_layer = bool(sources) and sources[0].layer is not None and len({id(one.layer) for one in sources}) == 1
    source = max(sources, key=lambda one: one.size) if len(sources) == 1 or of_one_layer else None
    if source is None or source.values is None or tensor.values is None:
        return None
    if source.values.size > tensor.values.size and tensor.floor and _finite(source.values, tensor.values):
        return reduction_of(source.values, tensor.values, tensor.floor)
    if source.values.shape != tensor.values.shape:
        return None
    places = evenly(tensor.values.size, VALUES)
    x, y = (np.asarray(one.values, np.float64).reshape(-1)[places] for one in (source, tensor))
    floor = tensor.floor
    if not floor:
        return None
    left = {name: float(np.max(np.abs(function(x) - y), initial=0.0)) / floor for name, function in ELEMENTWISE.items()}
    fitting = [name for name, floors in left.items() if floors <= FACTOR]
    if not fitting and source.values.ndim and source.values.size <= VALUES:
        far = np.abs(np.exp(log_softmax(source.values.astype(np.float64), -1)) - tensor.values)
        left["softmax"] = float(np.max(far, initial=0.0)) / floor
        fitting = ["softmax"] if left["softmax"] <= FACTOR else []
    return (" or ".join(fitting), max(left[name] for name in fitting)) if 0 < len(fitting) <= ALIKE else None


def _finite(*values: Array) -> bool:
    return all(one.dtype.kind == "f" and bool(np.isfinite(one).all()) for one in values)
