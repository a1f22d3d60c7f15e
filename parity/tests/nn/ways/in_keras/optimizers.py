"""Keras's optimizers. Their ``weight_decay`` is decoupled, whichever optimizer it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf
from keras import optimizers

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.optimizers import in_float32
from parity.tests.nn.ways.in_keras import in_float64

FLOAT32 = Departure(
    "constants through float32",
    "Python floats among the hyper-parameters become float32 before they become float64, but not wherever they are "
    "used.",
    # Of 1 - beta2, which may be .001, a rounding of beta2 is a thousand roundings.
    size=1000 * unit("float32"),
    when=lambda asked: not in_float32(asked),
)
DECOUPLED = Departure(
    "weight_decay is decoupled",
    "The parameter shrinks by learning_rate * weight_decay before the step; no gradient of an L2 penalty is added.",
    like={"decoupled": True},
    when=lambda asked: bool(asked.configuration["weight_decay"]),
)
HAT = Departure(
    "epsilon hat",
    "Epsilon is added to the root of the second moment before that is corrected for having begun with 0.",
    like={"epsilon_hat": True},
)
IN_ROOT = Departure("epsilon in the root", "Epsilon is added under the root.", like={"epsilon_in_root": True})


def way(
    function: str,
    kind: type,
    words: Mapping[str, str],
    slots: Mapping[str, str],
    *departures: Departure,
    fixed: Mapping[str, Any] | None = None,
    cannot: Mapping[str, Any] | None = None,
    **more: Any,
) -> Way:
    """How an optimizer is made of common words, by its own names of them, and what it calls its slots."""

    def call(parameter: Any, gradients: Any, *, learning_rates: tuple[float, ...], **settings: Any) -> dict[str, Any]:
        own = {name: settings[word] for name, word in words.items() if word in settings} | dict(fixed or {})
        if "beta_2_decay" in own:  # Adafactor's
            own["beta_2_decay"] *= -1
        with in_float64():  # else the learning rate is a variable of float32
            variable = keras.Variable(parameter, name="p")
            optimizer = kind(learning_rates[0], **own)
            optimizer.build([variable])
            path = []
            for gradient, rate in zip(gradients, learning_rates, strict=True):
                optimizer.learning_rate = rate
                optimizer.apply([gradient], [variable])
                path.append(tf.identity(variable.value))
        kept = {one.path.rpartition("/p_")[2]: one.value for one in optimizer.variables}
        missing = tf.zeros_like(parameter)
        return {"parameters": tf.stack(path), **{slot: kept.get(name, missing) for slot, name in slots.items()}}

    # Adafactor's decay has the other sign, which a table of defaults would not say.
    named = {"learning_rate": "learning_rate"} | {name: word for name, word in words.items() if word != "decay_rate"}
    return Way(function, (f"keras.optimizers.{kind.__name__}",), call, cannot or {}, departures, named, **more)


def sgd(**given: Any) -> dict[str, Any]:
    """Keras adds the velocity to the parameter: its sign is the other one."""
    found = SGD.call(**given)
    return {**found, "momentum": -found["momentum"]}


DECAY = {"weight_decay": "weight_decay"}
ADAM = {"beta_1": "beta1", "beta_2": "beta2", "epsilon": "epsilon", **DECAY}
MOMENTS = {"first_moment": "momentum", "second_moment": "velocity"}
NO_NESTEROV = {"Nesterov's momentum": lambda asked: asked.configuration["nesterov"]}
SGD = way(
    "sgd",
    optimizers.SGD,
    {"momentum": "momentum", "nesterov": "nesterov", **DECAY},
    {"momentum": "momentum"},
    Departure(
        "learning rate in the velocity",
        "The velocity adds up steps, each with the learning rate it had, and not gradients.",
        like={"rate_in_velocity": True},
        when=lambda asked: bool(asked.configuration["momentum"]),
    ),
    DECOUPLED,
    FLOAT32,
    cannot={"dampening": lambda asked: bool(asked.configuration["dampening"])},
)
MUON = way(
    "muon",
    optimizers.Muon,
    {
        "momentum": "momentum",
        "ns_steps": "newton_schulz_steps",
        "nesterov": "nesterov",
        "rms_rate": "scale",
        **DECAY,
    },
    {"momentum": "momentum"},
    Departure(
        "momentum adds gradients up",
        "The momentum adds gradients up, and is no average of them; the direction is the same.",
        like={"averaged": False},
    ),
    Departure(
        "no scale by the width",
        "Without rms_rate, the step is not multiplied by √max(1, out / in).",
        like={"scale": "none"},
        when=lambda asked: asked.configuration["scale"] == "width",
    ),
    Departure("epsilon is 1e-7", "What is added to the norm cannot be set.", like={"epsilon": 1e-7}),
    FLOAT32,
    measured=lambda: {"scale": "rms"},  # for a number
)


def muon(*, scale: str, **given: Any) -> dict[str, Any]:
    return MUON.call(scale={"width": None, "rms": 0.2}[scale], **given)


WAYS = (
    replace(SGD, call=sgd),
    way(
        "adam",
        optimizers.Adam,
        ADAM,
        MOMENTS,
        HAT,
        DECOUPLED,
        FLOAT32,
        cannot={"epsilon under the root": lambda asked: bool(asked.configuration["epsilon_root"])},
    ),
    way("adamw", optimizers.AdamW, ADAM, MOMENTS, HAT, FLOAT32),
    way(
        "amsgrad",
        optimizers.Adam,
        ADAM,
        {**MOMENTS, "largest_second_moment": "velocity_hat"},
        HAT,
        DECOUPLED,
        FLOAT32,
        fixed={"amsgrad": True},
    ),
    way(
        "nadam",
        optimizers.Nadam,
        ADAM,
        MOMENTS,
        Departure(
            "momentum_decay is 1",
            "The momentum of step t is beta1 (1 - 0.96^t / 2): it reaches beta1 250 times as fast as in the paper.",
            like={"momentum_decay": 1.0},
        ),
        DECOUPLED,
        Departure(
            "0.96 through float32",
            "The 0.96 of the momentum's schedule becomes float32 before it becomes float64.",
            size=16 * unit("float32"),  # at each step, and in 1 less the product of all
        ),
        FLOAT32,
    ),
    way("adamax", optimizers.Adamax, ADAM, {"first_moment": "momentum", "infinity_norm": "norm"}, DECOUPLED, FLOAT32),
    way(
        "rmsprop",
        optimizers.RMSprop,
        {"rho": "rho", "epsilon": "epsilon", "centered": "centered", "momentum": "momentum", **DECAY},
        {"mean_square": "velocity", "mean_gradient": "average_gradient", "momentum": "momentum"},
        IN_ROOT,
        Departure(
            "learning rate in the velocity",
            "The velocity adds up steps, each with the learning rate it had.",
            like={"rate_in_velocity": True},
            when=lambda asked: bool(asked.configuration["momentum"]),
        ),
        DECOUPLED,
        FLOAT32,
        cannot=NO_NESTEROV,
    ),
    way(
        "adagrad",
        optimizers.Adagrad,
        {"initial_accumulator_value": "initial_sum_of_squares", "epsilon": "epsilon", **DECAY},
        {"sum_of_squares": "accumulator"},
        IN_ROOT,
        DECOUPLED,
        FLOAT32,
        cannot={"a decay of the learning rate": lambda asked: bool(asked.configuration["learning_rate_decay"])},
    ),
    way(
        "adadelta",
        optimizers.Adadelta,
        {"rho": "rho", "epsilon": "epsilon", **DECAY},
        {"mean_square": "accumulated_grad", "mean_square_update": "accumulated_delta_var"},
        DECOUPLED,
        FLOAT32,
    ),
    way(
        "lion",
        optimizers.Lion,
        {"beta_1": "beta1", "beta_2": "beta2", **DECAY},
        {"first_moment": "momentum"},
        FLOAT32,
    ),
    way("lamb", optimizers.Lamb, ADAM, MOMENTS, DECOUPLED, FLOAT32),
    way(
        "adafactor",
        optimizers.Adafactor,
        {
            "beta_2_decay": "decay_rate",
            "epsilon_1": "epsilon",
            "epsilon_2": "epsilon_scale",
            "clip_threshold": "clip_threshold",
            **DECAY,
        },
        {},
        FLOAT32,
    ),
    way(
        "ftrl",
        optimizers.Ftrl,
        {
            "learning_rate_power": "learning_rate_power",
            "initial_accumulator_value": "initial_sum_of_squares",
            "l1_regularization_strength": "l1",
            "l2_regularization_strength": "l2",
            "l2_shrinkage_regularization_strength": "l2_shrinkage",
            "beta": "beta",
        },
        {"sum_of_squares": "accumulator", "linear": "linear"},
        FLOAT32,
    ),
    replace(MUON, call=muon),
)
