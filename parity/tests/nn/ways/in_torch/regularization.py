"""torch's dropout, from a seed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from parity.tests.nn.conformance import Arrays, Asked, Way


def dropout(x: Any, mask: Any, *, rate: float, training: bool) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {"output": nn.Dropout(rate).train(training)(x)}


def mask(asked: Asked) -> Arrays:
    """What is kept of ones is kept of all."""
    ones = torch.ones(asked.arrays["x"].shape, dtype=torch.float64)
    return {"mask": dropout(ones, None, **asked.configuration)["output"].numpy() != 0}


WAYS = (Way("dropout", ("torch.nn.Dropout",), dropout, draws=mask),)
