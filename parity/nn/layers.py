"""A layer that somebody called, computed in NumPy from its kind, its settings, its parameters and what it took.

The words are those of ``parity.nn.configuration``. Channels are the last axis and kernels are ``(*sizes, in, out)``, as
everywhere in this package, whatever the framework has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from parity.nn import activations as functions
from parity.nn import attention as attending
from parity.nn import convolution, linear, normalization, pooling, positions, recurrent, regularization, resizing
from parity.typing import Array, Params


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a layer.

    Attributes:
        kind: What the layer is, as ``parity.nn.configuration`` calls it.
        settings: Its settings, likewise.
        inputs: What it took, channels last.
        params: Its parameters and buffers by role: kernel, bias, scale, mean, variance, slope, table.

    Examples:
        >>> Call(kind="linear", inputs=(np.ones((1, 2)),), params={"kernel": np.ones((2, 1))}).x.shape
        (1, 2)
    """

    kind: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Array, ...] = ()
    params: Params = field(default_factory=dict)

    @property
    def x(self) -> Array:
        """The first input."""
        return self.inputs[0]

    def set(self, **settings: Any) -> Call:
        """The same call with other settings."""
        return replace(self, settings={**self.settings, **settings})

    def holding(self, **params: Array) -> Call:
        """The same call with other parameters."""
        return replace(self, params={**self.params, **params})

    def without(self, *roles: str) -> Call:
        """The same call without some parameters."""
        return replace(self, params={role: p for role, p in self.params.items() if role not in roles})


def compute(call: Call) -> Array:
    """Compute what a layer gives.

    Args:
        call: The call. Settings that it does not have are those that most frameworks begin with.

    Returns:
        The first output of the layer, channels last.

    Raises:
        KeyError: The kind has no function here, or a parameter is missing.
        ValueError: Shapes do not fit each other.

    Examples:
        >>> x = np.array([[1.0, 3.0]])
        >>> compute(Call(kind="layer_norm", settings={"epsilon": 0.0}, inputs=(x,))).tolist()
        [[-1.0, 1.0]]
    """
    found = FUNCTIONS[call.kind](call)
    activation = call.settings.get("activation", "") if call.kind in FUSED else ""
    return compute(Call(kind=activation, inputs=(found,))) if activation else found


def _softmax(call: Call) -> Array:
    temperature: float = call.settings.get("temperature", 1.0)
    return functions.softmax(call.x / temperature, call.settings.get("axis", -1))


def _softplus(call: Call) -> Array:
    beta: float = call.settings.get("beta", 1.0)
    return functions.softplus(beta * call.x) / beta


def _gelu(call: Call) -> Array:
    return (functions.gelu_tanh if call.settings.get("approximate") else functions.gelu)(call.x)


def _batch_norm(call: Call) -> Array:
    """Of statistics that nobody recorded, those of the batch are meant."""
    p, settings = call.params, call.settings
    channels = call.x.shape[-1]
    found, _, _ = normalization.batch_norm(
        call.x,
        p.get("mean", np.zeros(channels)),
        p.get("variance", np.ones(channels)),
        p.get("scale"),
        p.get("bias"),
        epsilon=settings["epsilon"],
        momentum=1.0,
        training=not settings.get("uses_running_statistics", False),
    )
    return found


def _layer_norm(call: Call) -> Array:
    p = call.params
    return normalization.layer_norm(
        call.x, p.get("scale"), p.get("bias"), epsilon=call.settings["epsilon"], axes=call.settings.get("axes", 1)
    )


def _rms_norm(call: Call) -> Array:
    axes = call.settings.get("axes", 1)
    return normalization.rms_norm(call.x, call.params.get("scale"), epsilon=call.settings["epsilon"], axes=axes)


def _group_norm(call: Call) -> Array:
    p, settings = call.params, call.settings
    groups = settings["groups"] if call.kind == "group_norm" else call.x.shape[-1]
    groups = call.x.shape[-1] if groups == -1 else groups
    return normalization.group_norm(call.x, p.get("scale"), p.get("bias"), groups=groups, epsilon=settings["epsilon"])


def _conv(call: Call) -> Array:
    """The setting ``outputs`` asks for the first channels alone."""
    settings, few = call.settings, slice(call.settings.get("outputs"))
    kernel, bias = call.params["kernel"][..., few], call.params.get("bias")
    ones = (1,) * (kernel.ndim - 2)
    function = convolution.conv if call.kind == "conv" else convolution.conv_transpose
    return function(
        call.x,
        kernel,
        None if bias is None else bias[few],
        stride=settings.get("stride", ones),
        padding=settings.get("padding", "VALID"),
        dilation=settings.get("dilation", ones),
        groups=settings.get("groups", 1),
    )


def _pool(call: Call) -> Array:
    settings = call.settings
    size = settings["kernel_size"]
    where = {"kernel_size": size, "stride": settings.get("stride", size), "padding": settings.get("padding", "VALID")}
    where["ceil_mode"] = bool(settings.get("ceil_mode", False))
    if call.kind == "max_pool":
        return pooling.max_pool(call.x, **where)
    return pooling.average_pool(call.x, **where, count_padding=settings.get("count_padding", False))


def _resize(call: Call) -> Array:
    settings = call.settings
    how = {word: settings[word] for word in ("places", "antialias", "cubic", "border") if word in settings}
    return resizing.resize(call.x, output_size=settings["output_size"], method=settings["method"], **how)


def _response_norm(call: Call) -> Array:
    words = ("radius", "alpha", "beta", "bias", "divided")
    return normalization.local_response_norm(call.x, **{word: call.settings[word] for word in words})


def _positions(call: Call) -> Array:
    """Sines and cosines added to (batch, steps, width), either times a number."""
    _, steps, width = call.x.shape
    at = np.arange(steps) + call.settings.get("start", 0)
    interleaved, base = bool(call.settings.get("interleaved", True)), float(call.settings.get("base", 10000.0))
    waves = positions.sinusoidal_positions(at, width, base=base, interleaved=interleaved)
    return call.settings.get("factor", 1.0) * call.x + call.settings.get("times", 1.0) * waves


def _sum(call: Call) -> Array:
    """Tensors of one shape, each times a factor; with an activation around all, or of the first or second alone."""
    factors: tuple[float, ...] = call.settings.get("factors", (1.0,) * len(call.inputs))
    where = call.settings.get("where", "")
    activation = functions.ELEMENTWISE[call.settings.get("activation", "relu")]
    terms = [factor * term for factor, term in zip(factors, call.inputs, strict=True)]
    for number, place in enumerate(("first", "second")):
        if where == place:
            terms[number] = activation(terms[number])
    found = sum(terms[1:], terms[0])
    return activation(found) if where == "around" else found


def _place(call: Call) -> Array:
    """What is made of a sequence (batch, steps, width): one place, another of each example, or all of them."""
    place, x = call.settings["place"], call.x
    if place == "each":
        return x[np.arange(len(x)), call.settings["places"]]
    if place == "mean":
        return np.asarray(x.mean(1))
    if place in ("sum", "largest"):
        return np.asarray(x.sum(1) if place == "sum" else x.max(1))
    return x[:, {"first": 0, "last": -1}.get(place, place)]


def _global_pool(call: Call) -> Array:
    found = pooling.global_average_pool(call.x)
    kept = (len(found), *(1 for _ in call.x.shape[1:-1]), found.shape[-1])
    return found.reshape(kept) if call.settings.get("keepdims") else found


def _embedding(call: Call) -> Array:
    return linear.embedding(call.x, call.params["table"])


def _dropout(call: Call) -> Array:
    """Without a mask it is off."""
    mask = call.params.get("mask")
    if mask is None:
        return call.x
    return regularization.dropout(call.x, mask, rate=call.settings["rate"])


def _recurrent(call: Call) -> Array:
    """What each step gives, or with the setting ``last`` the last one that is read."""
    p, settings = call.params, call.settings
    given = p["kernel"], p["recurrent_kernel"], p.get("bias"), p.get("recurrent_bias")
    reverse = bool(settings.get("reverse", False))
    if settings["cell"] == "LSTM":
        found = recurrent.lstm(call.x, *given, reverse=reverse)[0]
    elif settings["cell"] == "GRU":
        found = recurrent.gru(call.x, *given, reverse=reverse, reset_after=settings.get("reset_after", True))[0]
    else:
        found = recurrent.rnn(call.x, *given, reverse=reverse, activation=settings.get("activation") or "tanh")[0]
    return found[:, 0 if reverse else -1] if settings.get("last") else found


def recurrent_step(call: Call, x: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """Take one step of a recurrent layer.

    Args:
        call: The layer; its inputs count for nothing.
        x: What the step takes, (batch, features).
        hidden: The state before it, (batch, units).
        cell: The cell's state before it, of the same shape, for those that have one.

    Returns:
        Both states after it.

    Examples:
        >>> params = {"kernel": np.ones((1, 1)), "recurrent_kernel": np.ones((1, 1))}
        >>> call = Call(kind="recurrent", settings={"cell": "RNN", "activation": "relu"}, params=params)
        >>> recurrent_step(call, np.ones((1, 1)), np.ones((1, 1)), np.zeros((1, 1)))[0].tolist()
        [[2.0]]
    """
    p, settings = call.params, call.settings
    given = p["kernel"], p["recurrent_kernel"], p.get("bias"), p.get("recurrent_bias")
    if settings["cell"] == "LSTM":
        return recurrent.lstm(x[:, None], *given, hidden, cell)[1:]
    if settings["cell"] == "GRU":
        return recurrent.gru(x[:, None], *given, hidden, reset_after=settings.get("reset_after", True))[1], cell
    return recurrent.rnn(x[:, None], *given, hidden, activation=settings.get("activation") or "tanh")[1], cell


def _attend(call: Call) -> Array:
    """Query, key and value (batch, steps, heads, width), the first two turned by their positions if it is said how."""
    query, key, value = call.inputs
    settings = call.settings
    if how := settings.get("rotary"):
        turning = {"base": settings.get("base", 10000.0), "interleaved": how == "interleaved"}
        query, key = (positions.rotary(one, np.arange(one.shape[1]), **turning) for one in (query, key))
    return attending.attention(
        query, key, value, scale=settings.get("scale"), causal=bool(settings.get("causal", False))
    )


def _gated(call: Call) -> Array:
    """One half of the features, times an activation of the other, the gate."""
    place = call.settings["gate"]
    return functions.ELEMENTWISE[call.settings["activation"]](call.inputs[place]) * call.inputs[1 - place]


FUNCTIONS: Mapping[str, Callable[[Call], Array]] = {
    "identity": lambda call: call.x,
    "relu": lambda call: functions.relu(call.x),
    "relu6": lambda call: functions.relu6(call.x),
    "gelu": _gelu,
    "gelu_sigmoid": lambda call: functions.gelu_sigmoid(call.x),
    "silu": lambda call: functions.silu(call.x),
    "tanh": lambda call: functions.tanh(call.x),
    "sigmoid": lambda call: functions.sigmoid(call.x),
    "hard_sigmoid": lambda call: functions.hard_sigmoid(call.x),
    "hard_swish": lambda call: functions.hard_silu(call.x),
    "leaky_relu": lambda call: functions.leaky_relu(call.x, call.settings["negative_slope"]),
    "prelu": lambda call: functions.prelu(call.x, call.params["slope"]),
    "elu": lambda call: functions.elu(call.x, call.settings.get("alpha", 1.0)),
    "selu": lambda call: functions.selu(call.x),
    "mish": lambda call: functions.mish(call.x),
    "softplus": _softplus,
    "softmax": _softmax,
    "log_softmax": lambda call: functions.log_softmax(call.x, call.settings.get("axis", -1)),
    "linear": lambda call: linear.dense(call.x, call.params["kernel"], call.params.get("bias")),
    "conv": _conv,
    "conv_transpose": _conv,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _group_norm,
    "response_norm": _response_norm,
    "glu": lambda call: functions.glu(call.x, axis=call.settings.get("axis", -1)),
    "upsample": _resize,
    "positions": _positions,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _global_pool,
    "embedding": _embedding,
    "dropout": _dropout,
    "recurrent": _recurrent,
    "attend": _attend,
    "gated": _gated,
    "sum": _sum,
    "side_by_side": lambda call: np.concatenate(call.inputs, call.settings.get("axis", -1)),
    "place": _place,
}
"""What each kind computes.

``attend`` is what attention does between its projections, ``gated`` what a feed-forward network with a gate does,
``identity`` no activation, and ``positions`` what is added to an embedding. ``sum``, ``side_by_side`` and ``place`` are
what models compute between their layers: a residual connection, a concatenation, and what is taken of a sequence.
"""
FUSED = frozenset(("linear", "conv", "conv_transpose"))
"""The kinds that Keras lets have an activation within them."""
