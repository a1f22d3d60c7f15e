"""torch's activation functions."""

from __future__ import annotations

from typing import Any

from torch.nn import functional

from parity.tests.nn.conformance import Departure, Way, calling
from parity.tests.nn.ways.in_torch import first, last


def prelu(x: Any, negative_slope: Any) -> dict[str, Any]:
    return {"output": last(functional.prelu(first(x), negative_slope.reshape(-1)))}


THRESHOLD = Departure(
    "x beyond a threshold",
    "Where x is larger than 20, the threshold by default, it is given as it is: up to 2e-9 less, with the gradient 1.",
    like={"threshold": 20},
)
SIXTH = Departure(
    "a sixth in float32",
    "The gradient is 1/6 rounded to float32: 3e-8 of itself off.",
    size=2**-24,
    results=("gradient of x",),
)
F = "torch.nn.functional"
WAYS = (
    *(calling(name, f"{F}.{name}") for name in ("relu", "relu6", "silu", "mish", "softsign", "selu", "gelu")),
    *(calling(name, f"{F}.{name}", {"axis": "dim"}) for name in ("softmax", "log_softmax", "glu")),
    *(calling(name, f"{F}.{name}") for name in ("elu", "celu", "leaky_relu")),
    calling("softplus", f"{F}.softplus", departures=(THRESHOLD,)),
    calling("gelu_tanh", f"{F}.gelu", fixed={"approximate": "tanh"}),
    Way("prelu", ("torch.nn.PReLU",), prelu),
    calling("sigmoid", "torch.sigmoid"),
    calling("tanh", "torch.tanh"),
    calling("log_sigmoid", f"{F}.logsigmoid"),
    calling("hard_sigmoid", f"{F}.hardsigmoid", departures=(SIXTH,)),
    calling("hard_silu", f"{F}.hardswish"),
    calling("hard_tanh", f"{F}.hardtanh"),
    calling("hard_shrink", f"{F}.hardshrink", {"threshold": "lambd"}),
    calling("soft_shrink", f"{F}.softshrink", {"threshold": "lambd"}),
    calling("tanh_shrink", f"{F}.tanhshrink"),
)
