"""torch's optimizers. ``weight_decay`` is the gradient of an L2 penalty, but for AdamW's, Lion's and Adafactor's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import optim

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way


def way(function: str, kind: type, words: Mapping[str, str], slots: Mapping[str, str], **more: Any) -> Way:
    """How an optimizer is made of common words, by its own names of them, and what it calls its slots."""
    fixed = more.pop("fixed", {})

    def call(parameter: Any, gradients: Any, *, learning_rates: tuple[float, ...], **settings: Any) -> dict[str, Any]:
        p = torch.nn.Parameter(parameter.clone())
        own = {name: settings[word] for name, word in words.items() if word in settings} | fixed
        if "betas" in words:
            own["betas"] = settings["beta1"], settings["beta2"]
        if "beta2_decay" in own:  # Adafactor's
            own |= {"beta2_decay": -own["beta2_decay"], "eps": (settings["epsilon"], settings["epsilon_scale"])}
        optimizer = kind([p], lr=learning_rates[0], **own)
        path = []
        for gradient, rate in zip(gradients, learning_rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate
            p.grad = gradient.clone()
            optimizer.step()
            path.append(p.detach().clone())
        kept = optimizer.state[p]
        missing = torch.zeros_like(parameter)
        found = {slot: kept.get(name) for slot, name in slots.items()}
        return {
            "parameters": torch.stack(path),
            **{slot: missing if value is None else value for slot, value in found.items()},
        }

    # Adafactor's decay has the other sign, which a table of defaults would not say.
    said = {name: word for name, word in words.items() if word != "decay_rate"}
    return Way(function, (f"torch.optim.{kind.__name__}",), call, words={"lr": "learning_rate", **said}, **more)


DECAY = {"weight_decay": "weight_decay"}
ADAM = {"betas": "beta1, beta2", "eps": "epsilon", **DECAY}
MOMENTS = {"first_moment": "exp_avg", "second_moment": "exp_avg_sq"}
NO_ROOT = {"epsilon under the root": lambda asked: bool(asked.configuration["epsilon_root"])}
WAYS = (
    way(
        "sgd",
        optim.SGD,
        {"momentum": "momentum", "dampening": "dampening", "nesterov": "nesterov", **DECAY},
        {"momentum": "momentum_buffer"},
    ),
    way("adam", optim.Adam, ADAM, MOMENTS, cannot=NO_ROOT),
    way("adamw", optim.AdamW, ADAM, MOMENTS),
    way(
        "amsgrad",
        optim.Adam,
        ADAM,
        {**MOMENTS, "largest_second_moment": "max_exp_avg_sq"},
        fixed={"amsgrad": True},
    ),
    way(
        "nadam",
        optim.NAdam,
        {**ADAM, "momentum_decay": "momentum_decay"},
        MOMENTS,
        departures=(
            Departure(
                "product of momenta in float32",
                "The product of all momenta so far is kept in torch's default dtype, float32 unless it is set "
                "otherwise.",
                size=16 * unit("float32"),  # a rounding at each step, and those of 1 less the product
            ),
        ),
    ),
    way(
        "adamax",
        optim.Adamax,
        ADAM,
        {"first_moment": "exp_avg", "infinity_norm": "exp_inf"},
        departures=(
            Departure(
                "epsilon in the norm",
                "Epsilon is added to the size of each gradient before the norm takes it up, and stays in the norm.",
                like={"epsilon_in_norm": True},
            ),
        ),
    ),
    way(
        "rmsprop",
        optim.RMSprop,
        {"alpha": "rho", "eps": "epsilon", "centered": "centered", "momentum": "momentum", **DECAY},
        {"mean_square": "square_avg", "mean_gradient": "grad_avg", "momentum": "momentum_buffer"},
        cannot={"Nesterov's momentum": lambda asked: asked.configuration["nesterov"]},
    ),
    way(
        "adagrad",
        optim.Adagrad,
        {
            "eps": "epsilon",
            "initial_accumulator_value": "initial_sum_of_squares",
            "lr_decay": "learning_rate_decay",
            **DECAY,
        },
        {"sum_of_squares": "sum"},
    ),
    way(
        "adadelta",
        optim.Adadelta,
        {"rho": "rho", "eps": "epsilon", **DECAY},
        {"mean_square": "square_avg", "mean_square_update": "acc_delta"},
    ),
    way(
        "adafactor",
        optim.Adafactor,
        {
            "beta2_decay": "decay_rate",
            "eps": "epsilon, epsilon_scale",
            "d": "clip_threshold",
            **DECAY,
        },
        {},
        departures=(
            Departure(
                "epsilon is a least value",
                "Epsilon is not added to squared gradients: it is the least mean of the rows, and its square the least "
                "second moment.",
                like={"epsilon_is_floor": True},
            ),
            Departure(
                "decay after the scale",
                "The parameter shrinks after its root mean square has been taken.",
                like={"decay": "after"},
            ),
        ),
    ),
)
