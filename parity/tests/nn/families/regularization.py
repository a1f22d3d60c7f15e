"""Dropout: the mask is drawn by each framework, and given to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from parity.nn import regularization as nn
from parity.tests.nn.conformance import Arrays, Asked, Function


@st.composite
def asked(draw: Any) -> Asked:
    random = np.random.default_rng(draw(st.integers(0, 99)))
    shape = draw(st.sampled_from([(3, 4), (2, 3, 4)]))
    configuration = {"rate": draw(st.sampled_from([0.0, 0.1, 0.5, 0.9])), "training": draw(st.booleans())}
    mask = random.uniform(size=shape) >= configuration["rate"]
    return Asked(configuration, {"x": random.normal(size=shape), "mask": mask})


def backward(d_results: Arrays, arrays: Arrays, results: Arrays, configuration: Any) -> Arrays:
    return {"x": nn.dropout_backward(d_results["output"], arrays["mask"], **configuration)}


FUNCTIONS = (Function(nn.dropout, asked(), backward=backward),)
