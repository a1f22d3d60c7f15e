"""optax's optimizers: chains of transformations, of which the last multiplies by the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way, resolve


def way(
    function: str,
    name: str,
    words: Mapping[str, str],
    slots: Mapping[str, str],
    *departures: Departure,
    cannot: Mapping[str, Any] | None = None,
    fixed: Mapping[str, Any] | None = None,
    scheduled: bool = True,
    **more: Any,
) -> Way:
    """How an optimizer is made of common words, by its own names of them, and what it calls its slots."""

    def call(parameter: Any, gradients: Any, *, learning_rates: tuple[float, ...], **settings: Any) -> dict[str, Any]:
        own = {own: settings[word] for own, word in words.items() if word in settings} | dict(fixed or {})
        if "momentum" in own:
            own["momentum"] = own["momentum"] or None  # with 0 there would be a velocity
        rates = jnp.asarray(learning_rates)
        optimizer = resolve(f"optax.{name}")((lambda count: rates[count]) if scheduled else learning_rates[0], **own)
        state = optimizer.init(parameter)
        path = []
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, parameter)
            parameter = optax.apply_updates(parameter, updates)
            path.append(parameter)
        kept = {slot: optax.tree.get(state, theirs, filtering=held) for slot, theirs in slots.items()}
        missing = jnp.zeros_like(parameter)
        return {"parameters": jnp.stack(path), **{k: missing if v is None else v for k, v in kept.items()}}

    named = {"learning_rate": "learning_rate", **words}
    return Way(function, (f"optax.{name}",), call, cannot or {}, departures, named, **more)


def held(path: Any, value: Any) -> bool:
    """Of parameters that another optimizer of a partition has, a state has a mask."""
    return not isinstance(value, optax.MaskedNode)


def rmsprop(**given: Any) -> dict[str, Any]:
    """Its steps have been turned downhill before the velocity adds them up."""
    found = RMSPROP.call(**given)
    return {**found, "momentum": -found["momentum"]}


NO_DECAY = {"weight decay": lambda asked: bool(asked.configuration["weight_decay"])}
DECAY = {"weight_decay": "weight_decay"}
ADAM = {"b1": "beta1", "b2": "beta2", "eps": "epsilon"}
MOMENTS = {"first_moment": "mu", "second_moment": "nu"}
RMSPROP = way(
    "rmsprop",
    "rmsprop",
    {"decay": "rho", "eps": "epsilon", "centered": "centered", "momentum": "momentum", "nesterov": "nesterov"},
    {"mean_square": "nu", "mean_gradient": "mu", "momentum": "trace"},
    Departure(
        "epsilon in the root",
        "Epsilon is added under the root, unless eps_in_sqrt is False.",
        like={"epsilon_in_root": True},
    ),
    Departure(
        "learning rate in the velocity",
        "The velocity adds up steps, each with the learning rate it had.",
        like={"rate_in_velocity": True},
        when=lambda asked: bool(asked.configuration["momentum"]),
    ),
    cannot=NO_DECAY,
)
MUON = way(
    "muon",
    "contrib.muon",
    {
        "beta": "momentum",
        "eps": "epsilon",
        "ns_steps": "newton_schulz_steps",
        "nesterov": "nesterov",
        "consistent_rms": "scale",
        **DECAY,
    },
    {"momentum": "mu"},
    Departure(
        "corrected momentum",
        "Momentum and gradient are corrected for the momentum's having begun with 0 before they are added up: in the "
        "first steps the gradient weighs otherwise.",
        like={"corrected": True},
    ),
    measured=lambda: {"scale": "width"},  # None stands for it
)


def muon(*, scale: str, **given: Any) -> dict[str, Any]:
    return MUON.call(scale={"width": None, "rms": 0.2}[scale], **given)


WAYS = (
    way(
        "sgd",
        "sgd",
        {"momentum": "momentum", "nesterov": "nesterov"},
        {"momentum": "trace"},
        cannot={"dampening": lambda asked: bool(asked.configuration["dampening"]), **NO_DECAY},
    ),
    way("adam", "adam", {**ADAM, "eps_root": "epsilon_root"}, MOMENTS, cannot=NO_DECAY),
    way("adamw", "adamw", {**ADAM, **DECAY}, MOMENTS),
    way(
        "amsgrad",
        "amsgrad",
        ADAM,
        {**MOMENTS, "largest_second_moment": "nu_max"},
        Departure(
            "maximum of corrected moments",
            "The maximum is that of second moments that were corrected for having begun with 0, and is not corrected "
            "itself.",
            like={"corrected_maximum": True},
        ),
        cannot=NO_DECAY,
    ),
    way(
        "nadam",
        "nadam",
        ADAM,
        MOMENTS,
        Departure(
            "no schedule of the momentum",
            "The momentum is beta1 from the first step on, as if momentum_decay were infinite.",
            like={"momentum_decay": float("inf")},
        ),
        cannot=NO_DECAY,
    ),
    way(
        "adamax",
        "adamax",
        ADAM,
        {"first_moment": "mu", "infinity_norm": "nu"},
        Departure(
            "epsilon in the norm",
            "Epsilon is added to the size of each gradient before the norm takes it up, and stays in the norm.",
            like={"epsilon_in_norm": True},
        ),
        cannot=NO_DECAY,
    ),
    replace(RMSPROP, call=rmsprop),
    way(
        "adagrad",
        "adagrad",
        {"eps": "epsilon", "initial_accumulator_value": "initial_sum_of_squares"},
        {"sum_of_squares": "sum_of_squares"},
        Departure("epsilon in the root", "Epsilon is added under the root.", like={"epsilon_in_root": True}),
        cannot={
            "a decay of the learning rate": lambda asked: bool(asked.configuration["learning_rate_decay"]),
            **NO_DECAY,
        },
    ),
    way(
        "adadelta",
        "adadelta",
        {"rho": "rho", "eps": "epsilon", **DECAY},
        {"mean_square": "e_g", "mean_square_update": "e_x"},
    ),
    way("lion", "lion", {"b1": "beta1", "b2": "beta2", **DECAY}, {"first_moment": "mu"}),
    way("lamb", "lamb", {**ADAM, **DECAY}, MOMENTS),
    way(
        "adafactor",
        "adafactor",
        {
            "decay_rate": "decay_rate",
            "eps": "epsilon",
            "clipping_threshold": "clip_threshold",
            "weight_decay_rate": "weight_decay",
        },
        {},
        Departure(
            "any learning rate",
            "The learning rate is taken as it is, also where it is more than 1 / √step.",
            like={"relative_step": False},
        ),
        Departure(
            "decay without the learning rate",
            "The parameter shrinks by weight_decay, which the learning rate does not multiply.",
            like={"decay": "without_rate"},
        ),
        Departure(
            "decay rate in float32",
            "The share of the old moment that is kept is computed in float32, also where JAX has float64.",
            size=16 * unit("float32"),  # a rounding or two at each step
        ),
        cannot={"another least scale than 0.001": lambda asked: asked.configuration["epsilon_scale"] != 0.001},
        fixed={"min_dim_size_to_factor": 1},
    ),
    way(
        "radam",
        "radam",
        ADAM,
        MOMENTS,
        cannot=NO_DECAY,
    ),
    way(
        "rprop",
        "rprop",
        {
            "eta_minus": "eta_minus",
            "eta_plus": "eta_plus",
            "min_step_size": "least_step",
            "max_step_size": "largest_step",
        },
        {"step_size": "step_sizes"},
        Departure(
            "the first step has no bounds",
            "A step size is held within its bounds only where it changes: the learning rate, which is the first one, "
            "may be beyond them.",
            like={"first_bounded": False},
        ),
        Departure(
            "a step late",
            "Each step is made when the next gradient comes, and not at all if the sign has changed by then: the first "
            "update moves nothing.",
            like={"late": True},
        ),
        scheduled=False,
    ),
    replace(MUON, call=muon),
)
