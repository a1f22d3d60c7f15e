"""TF1's optimizers, none of which has a weight decay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import tensorflow.compat.v1 as tf

from parity.dtypes import unit
from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.families.optimizers import in_float32

FLOAT32 = Departure(
    "constants through float32",
    "Python floats among the hyper-parameters become float32 before they become float64.",
    # Of 1 - beta2, which may be .001, a rounding of beta2 is a thousand roundings.
    size=1000 * unit("float32"),
    when=lambda asked: not in_float32(asked),
)


def way(
    function: str,
    kind: type,
    words: Mapping[str, str],
    slots: Mapping[str, str],
    *departures: Departure,
    cannot: Mapping[str, Any] | None = None,
) -> Way:
    """How an optimizer is made of common words, by its own names of them, and what it calls its slots."""

    def call(parameter: Any, gradients: Any, *, learning_rates: tuple[float, ...], **settings: Any) -> dict[str, Any]:
        own = {name: settings[word] for name, word in words.items() if word in settings}
        variable = tf.Variable(tf.zeros(parameter.shape, parameter.dtype), use_resource=True)
        rate = tf.Variable(0.0, dtype=tf.float64, use_resource=True)
        optimizer = kind(rate, **own)
        done: Any = variable.assign(parameter)
        path = []
        for step, value in enumerate(learning_rates):
            with tf.control_dependencies([done]), tf.control_dependencies([rate.assign(value)]):
                applied = optimizer.apply_gradients([(tf.identity(gradients[step]), variable)])
            with tf.control_dependencies([applied]):
                done = variable.read_value()
                path.append(done)
        with tf.control_dependencies([done]):
            kept = {slot: optimizer.get_slot(variable, name) for slot, name in slots.items()}
            kept = {slot: tf.zeros_like(parameter) if one is None else one.read_value() for slot, one in kept.items()}
        return {"parameters": tf.stack(path), **kept}

    named = {"learning_rate": "learning_rate", **words}
    return Way(function, (f"tensorflow.compat.v1.train.{kind.__name__}",), call, cannot or {}, departures, named)


def has(word: str) -> Any:
    return lambda asked: bool(asked.configuration[word])


def rmsprop(*, momentum: float, **given: Any) -> dict[str, Any]:
    """Without momentum the slot has the last step."""
    found = RMSPROP.call(momentum=momentum, **given)
    return found if momentum else {**found, "momentum": tf.zeros_like(found["momentum"])}


NO_DECAY = {"weight decay": has("weight_decay")}
RMSPROP = way(
    "rmsprop",
    tf.train.RMSPropOptimizer,
    {"decay": "rho", "momentum": "momentum", "epsilon": "epsilon", "centered": "centered"},
    {"mean_square": "rms", "mean_gradient": "mg", "momentum": "momentum"},
    Departure(
        "mean square begins with 1",
        "The mean square of gradients begins with 1, not with 0, so that the first steps are short.",
        like={"initial_mean_square": 1.0},
    ),
    Departure("epsilon in the root", "Epsilon is added under the root.", like={"epsilon_in_root": True}),
    Departure(
        "learning rate in the velocity",
        "The velocity adds up steps, each with the learning rate it had.",
        like={"rate_in_velocity": True},
        when=has("momentum"),
    ),
    FLOAT32,
    cannot={"Nesterov's momentum": has("nesterov"), **NO_DECAY},
)
WAYS = (
    way(
        "sgd",
        tf.train.GradientDescentOptimizer,
        {},
        {"momentum": "none"},
        cannot={"momentum": has("momentum"), **NO_DECAY},
    ),
    way(
        "sgd",
        tf.train.MomentumOptimizer,
        {"momentum": "momentum", "use_nesterov": "nesterov"},
        {"momentum": "momentum"},
        FLOAT32,
        cannot={
            "no momentum": lambda asked: not asked.configuration["momentum"],
            "dampening": has("dampening"),
            **NO_DECAY,
        },
    ),
    way(
        "adam",
        tf.train.AdamOptimizer,
        {"beta1": "beta1", "beta2": "beta2", "epsilon": "epsilon"},
        {"first_moment": "m", "second_moment": "v"},
        Departure(
            "epsilon hat",
            "Epsilon is added to the root of the second moment before that is corrected for having begun with 0.",
            like={"epsilon_hat": True},
        ),
        FLOAT32,
        cannot={"epsilon under the root": has("epsilon_root"), **NO_DECAY},
    ),
    replace(RMSPROP, call=rmsprop),
    way(
        "adagrad",
        tf.train.AdagradOptimizer,
        {"initial_accumulator_value": "initial_sum_of_squares"},
        {"sum_of_squares": "accumulator"},
        Departure("no epsilon", "Nothing is added to the root.", like={"epsilon": 0.0}),
        cannot={"a decay of the learning rate": has("learning_rate_decay"), **NO_DECAY},
    ),
    way(
        "adadelta",
        tf.train.AdadeltaOptimizer,
        {"rho": "rho", "epsilon": "epsilon"},
        {"mean_square": "accum", "mean_square_update": "accum_update"},
        FLOAT32,
        cannot=NO_DECAY,
    ),
    way(
        "ftrl",
        tf.train.FtrlOptimizer,
        {
            "learning_rate_power": "learning_rate_power",
            "initial_accumulator_value": "initial_sum_of_squares",
            "l1_regularization_strength": "l1",
            "l2_regularization_strength": "l2",
            "l2_shrinkage_regularization_strength": "l2_shrinkage",
            "beta": "beta",
        },
        {"sum_of_squares": "accum", "linear": "linear"},
        FLOAT32,
    ),
)
