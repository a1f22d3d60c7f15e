"""torch's optimizers. ``weight_decay`` is the gradient of an L2 penalty, but for AdamW's, Lion's and Adafactor's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
        own |= {name: tuple(settings[one] for one in word.split(", ")) for name, word in words.items() if ", " in word}
        if "beta2_decay" in own:  # Adafactor's
            own["beta2_decay"] *= -1
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
MUON = way(
    "muon",
    optim.Muon,
    {
        "momentum": "momentum",
        "eps": "epsilon",
        "ns_steps": "newton_schulz_steps",
        "nesterov": "nesterov",
        "adjust_lr_fn": "scale",
        **DECAY,
    },
    {"momentum": "momentum_buffer"},
    departures=(
        Departure("least norm", "Epsilon is the least norm, and is not added to it.", like={"least_norm": True}),
        Departure(
            "orthogonal in bfloat16",
            "The polynomial is computed in bfloat16, whatever the parameter's dtype.",
            size=0.25,  # eight bits; each of up to five steps makes what was lost three times as large
            results=("parameters",),
        ),
    ),
    measured=lambda: {"scale": "width"},  # None stands for it
)


def muon(*, parameter: Any, gradients: Any, scale: str, **settings: Any) -> dict[str, Any]:
    """torch's kernels are (out, in)."""
    function = {"width": "original", "rms": "match_rms_adamw"}[scale]
    found = MUON.call(parameter.T.contiguous(), gradients.swapaxes(-1, -2).contiguous(), scale=function, **settings)
    return {name: value.swapaxes(-1, -2) for name, value in found.items()}


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
    way(
        "radam",
        optim.RAdam,
        ADAM,
        MOMENTS,
        departures=(
            Departure(
                "epsilon hat",
                "Epsilon is added to the root of the second moment before that is corrected for having begun with 0, "
                "which torch's own Adam does not do.",
                like={"epsilon_hat": True},
            ),
        ),
    ),
    way(
        "rprop",
        optim.Rprop,
        {"etas": "eta_minus, eta_plus", "step_sizes": "least_step, largest_step"},
        {"step_size": "step_size"},
    ),
    replace(MUON, call=muon),
)
