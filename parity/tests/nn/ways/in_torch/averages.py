"""torch's averages, each a copy of the model beside it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import swa_utils

from parity.tests.nn.conformance import Way


def averages(initial: Any, values: Any, **settings: Any) -> dict[str, Any]:
    model = torch.nn.ParameterList([initial.clone()])
    averaged = swa_utils.AveragedModel(model, **settings)
    found = []
    for value in values:
        model[0].data = value.clone()
        averaged.update_parameters(model)
        found.append(averaged.module[0].detach().clone())
    return {"averages": torch.stack(found)}


def exponential_average(initial: Any, values: Any, *, decay: float, debias: bool, warm_up: bool) -> dict[str, Any]:
    return averages(initial, values, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay))


WAYS = (
    Way(
        "exponential_average",
        ("torch.optim.swa_utils.get_ema_multi_avg_fn",),
        exponential_average,
        {
            "a beginning with 0 that is corrected": lambda asked: asked.configuration["debias"],
            "a warm-up of the decay": lambda asked: asked.configuration["warm_up"],
        },
        words={"decay": "decay"},
    ),
    Way("equal_average", ("torch.optim.swa_utils.AveragedModel",), averages),
)
