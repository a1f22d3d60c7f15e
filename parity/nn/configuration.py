"""What layers are called and how they are set, in one vocabulary: torch's, flax's and Keras's words side by side.

A recording keeps each layer's kind and settings as its framework says them. Here they become common words, so that two
layers can be held against each other: *epsilon 1e-05 against 0.001*. A setting that nobody has said has no value here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KINDS: Mapping[str, tuple[str, ...]] = {
    "batch_norm": ("BatchNorm", "BatchNormalization", "SyncBatchNorm"),
    "layer_norm": ("LayerNorm", "LayerNormalization"),
    "rms_norm": ("RMSNorm", "RMSNormalization"),
    "group_norm": ("GroupNorm", "GroupNormalization"),
    "instance_norm": ("InstanceNorm",),
    "linear": ("Linear", "Dense", "DenseGeneral", "LinearGeneral", "EinsumDense", "NonDynamicallyQuantizableLinear"),
    "conv": ("Conv", "DepthwiseConv", "SeparableConv"),
    "conv_transpose": ("ConvTranspose",),
    "embedding": ("Embed", "Embedding"),
    "attention": ("MultiheadAttention", "MultiHeadAttention", "MultiHeadDotProductAttention", "SelfAttention"),
    "dropout": ("Dropout", "SpatialDropout", "GaussianDropout", "AlphaDropout"),
    "recurrent": (
        *("RNN", "SimpleRNN", "LSTM", "GRU"),
        *("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleRNNCell", "RNNCell", "Bidirectional"),
    ),
    "max_pool": ("MaxPool", "MaxPooling"),
    "average_pool": ("AvgPool", "AveragePooling"),
    "global_average_pool": ("GlobalAveragePooling", "AdaptiveAvgPool"),
    "pad": ("ZeroPad", "ZeroPadding", "ConstantPad"),
    "flatten": ("Flatten", "Unflatten", "Reshape", "Permute"),
    "add": ("Add",),
    "concatenate": ("Concatenate",),
    "upsample": ("Upsample", "UpSampling", "Resizing"),
    "response_norm": ("LocalResponseNorm",),
    "glu": ("GLU",),
    "activation": ("Activation",),
    "relu": ("ReLU",),
    "gelu": ("GELU", "NewGELU"),
    "silu": ("SiLU",),
    "tanh": ("Tanh",),
    "sigmoid": ("Sigmoid",),
    "leaky_relu": ("LeakyReLU",),
    "elu": ("ELU",),
    "softmax": ("Softmax",),
    "softplus": ("Softplus",),
    "hard_swish": ("Hardswish",),
    "prelu": ("PReLU",),
    "mish": ("Mish",),
    "relu6": ("ReLU6",),
    "hard_sigmoid": ("Hardsigmoid",),
    "selu": ("SELU",),
    "log_softmax": ("LogSoftmax",),
}
"""Common kinds, each with the names of its classes. A number of dimensions at the end, as in ``2d``, does not count."""
ACTIVATIONS = frozenset(
    (
        *("relu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "elu", "softmax", "softplus", "hard_swish"),
        *("prelu", "mish", "relu6", "hard_sigmoid", "selu", "log_softmax", "activation"),
    )
)
"""The kinds that have one input and give each value a new one."""
PASSIVE = frozenset(("pad", "flatten"))
"""The kinds that move values and compute none."""
FUNCTIONS = ACTIVATIONS | {"add", "concatenate", "upsample", "max_pool", "average_pool", "global_average_pool"}
"""The kinds that one model may have as a layer, and another as a function."""
COMPOSITE = frozenset(("attention", "recurrent"))
"""The kinds that are one layer in one framework and several in another."""
RANDOM = frozenset(("dropout",))
TRAINED = frozenset(
    (
        *("batch_norm", "layer_norm", "rms_norm", "group_norm", "instance_norm"),
        *("linear", "conv", "conv_transpose", "embedding", "attention", "recurrent"),
    )
)
"""The kinds that have parameters as a rule. What lies behind such a layer needs a gradient."""
WORDS: Mapping[str, str] = {
    "eps": "epsilon",
    "num_groups": "groups",
    "feature_group_count": "groups",
    "strides": "stride",
    "window_strides": "stride",
    "padding": "padding",
    "kernel_dilation": "dilation",
    "dilation_rate": "dilation",
    "pool_size": "kernel_size",
    "window_shape": "kernel_size",
    "p": "rate",
    "rate": "rate",
    "padding_idx": "padding_index",
    "num_heads": "heads",
    "negative_slope": "negative_slope",
    "recurrent_dropout": "recurrent_dropout",
    "reset_after": "reset_after",
    "return_sequences": "return_sequences",
    "go_backwards": "reverse",
    "bidirectional": "bidirectional",
    "approximate": "approximate",
    "alpha": "alpha",
    "activation": "activation",
    "recurrent_activation": "recurrent_activation",
    "epsilon": "epsilon",
    "momentum": "momentum",
    "stride": "stride",
    "dilation": "dilation",
    "groups": "groups",
    "kernel_size": "kernel_size",
}
"""Frameworks' words for settings, and the common ones. What is not here is no difference in what a layer computes."""
ASKED: Mapping[str, tuple[str, ...]] = {
    "batch_norm": ("epsilon", "momentum", "uses_running_statistics"),
    "layer_norm": ("epsilon",),
    "rms_norm": ("epsilon",),
    "group_norm": ("epsilon", "groups"),
    "instance_norm": ("epsilon",),
    "linear": ("activation",),
    "conv": ("kernel_size", "stride", "padding", "dilation", "groups", "activation"),
    # Of a transposed convolution each framework counts its padding from another side.
    "conv_transpose": ("kernel_size", "stride", "dilation", "groups", "activation"),
    "embedding": ("padding_index",),
    "attention": ("heads",),
    "dropout": ("rate",),
    "recurrent": ("cell", "activation", "recurrent_activation", "reset_after", "bidirectional", "reverse"),
    "max_pool": ("kernel_size", "stride", "padding"),
    "average_pool": ("kernel_size", "stride", "padding"),
    "pad": ("padding",),
    "upsample": ("method", "places", "antialias"),
    "response_norm": ("alpha",),
    "gelu": ("approximate",),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha",),
}
"""The settings that decide what a layer of a kind computes. ``momentum`` is the share of old statistics that stays."""
CONVOLVES = frozenset(("kernel_size", "filters", "features", "out_channels"))
"""A convolution has one of these settings at least."""
SQUARE = ("stride", "dilation", "kernel_size")
SPELLED = {"swish": "silu", "linear": ""}
METHODS = {
    "nearest": "nearest", "nearest-exact": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear",
    "bicubic": "cubic",
}  # fmt: skip
"""How frameworks call the ways to resize, in the words of ``parity.nn.resizing``."""
CELLS = ("LSTM", "GRU", "RNN")
"""What recurrent layers compute in each step, by a part of their class's name."""
GATES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "torch": {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("reset", "update", "new")},
    "keras": {"LSTM": ("input", "forget", "cell", "output"), "GRU": ("update", "reset", "new")},
}
"""In which order a framework keeps the gates of a cell beside each other in one kernel; flax has a kernel for each."""
BASE = "base"
"""The setting in which a recording keeps the class of the framework's own that a user's class is derived from."""
_OF_CLASS = {name.lower(): kind for kind, names in KINDS.items() for name in names}


@dataclass(frozen=True)
class Configuration:
    """A layer in common words."""

    kind: str
    """One of ``KINDS``; empty for a layer that has no common word."""
    settings: Mapping[str, Any]
    """The settings of ``ASKED`` that the framework said, by their common word."""


def in_common_words(kind: str, said: Mapping[str, Any]) -> Configuration:
    """Say what a layer is, and how it is set, in the words that frameworks share.

    Args:
        kind: The layer's class, as its framework names it.
        said: The settings that the recording has of it.

    Returns:
        The common kind and settings. A class that is not known has an empty kind and no settings.

    Examples:
        >>> in_common_words("BatchNorm2d", {"eps": 1e-5, "momentum": 0.1}).settings
        {'epsilon': 1e-05, 'momentum': 0.9}
        >>> in_common_words("Conv", {"strides": 2, "padding": "SAME", "kernel_size": [3, 3]}).settings
        {'kernel_size': (3, 3), 'stride': (2, 2), 'padding': 'SAME', 'activation': ''}
        >>> in_common_words("MyBlock", {"width": 3})
        Configuration(kind='', settings={})
    """
    if not _common(kind) and isinstance(said.get(BASE), str):
        kind = said[BASE]
    common = _common(kind)
    if common == "conv" and not said.keys() & CONVOLVES:
        common = "linear"  # GPT-2's Conv1D is one with its kernel transposed
    settings = {WORDS[name]: value for name, value in said.items() if name in WORDS}
    rank = _rank(said, kind)
    for name in SQUARE:
        if name in settings:
            spread = _spread(settings.pop(name), rank)
            settings |= {} if spread is None else {name: spread}
    if common in ("max_pool", "average_pool") and "kernel_size" in settings:
        settings.setdefault("stride", settings["kernel_size"])
    if "padding" in settings:
        padding = settings.pop("padding")
        padding = _sides(padding) if common == "pad" else _padding(padding, rank)
        settings |= (
            {} if padding is None else {"padding": (_same(settings) or padding) if padding == "SAME" else padding}
        )
    elif "strides" in said and common in ("max_pool", "average_pool"):
        settings["padding"] = "VALID"
    if common == "batch_norm":
        if "eps" in said and isinstance(said.get("momentum"), float):  # torch's is the share of the new statistics
            settings["momentum"] = round(1 - said["momentum"], 12)
        if "use_running_average" in said:
            settings["uses_running_statistics"] = said["use_running_average"]
        elif "eps" in said and "training" in said:
            settings["uses_running_statistics"] = not said["training"] and bool(said.get("track_running_stats", True))
    if common == "recurrent":
        settings |= _of_cell(kind, said)
    if common == "upsample":
        settings |= _of_resize(said)
    if "depthwise" in kind.lower():
        settings.pop("groups", None)  # as many as channels, whatever it says
    if common == "gelu":
        settings["approximate"] = settings.get("approximate") in ("tanh", True) or kind.lower().startswith("new")
    if common == "relu" and said.get("max_value") == 6:
        common = "relu6"
    if common == "embedding":
        settings.setdefault("padding_index", None)  # of which neither flax nor Keras has any
    if not isinstance(settings.get("activation", ""), str):
        del settings["activation"]
    if common == "activation":
        function = settings.get("activation", "")
        common = function if function in ACTIVATIONS else common
    elif "activation" in settings:
        settings["activation"] = SPELLED.get(settings["activation"], settings["activation"])
    elif common in ("linear", "conv", "conv_transpose"):
        # Neither torch nor flax has one within these layers. Keras names its own ones, and not a user's function.
        settings["activation"] = "function" if said.keys() & {"units", "filters"} else ""
    asked = ASKED.get(common, ())
    return Configuration(common, {name: settings[name] for name in asked if name in settings})


def _common(kind: str) -> str:
    """The common kind of a class; empty if it has none."""
    return _OF_CLASS.get(re.sub(r"\dd|activation$", "", kind.lower()) or "activation", "")


def is_known(kind: str) -> bool:
    """Tell whether a class has a common kind.

    >>> is_known("BatchNorm2d"), is_known("MyBlock")
    (True, False)
    """
    return bool(_common(kind))


def _of_cell(kind: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """What a recurrent layer computes without saying so: torch's gates have fixed functions, and no direction."""
    cell = _cell(kind, said)
    found: dict[str, Any] = {"cell": cell} if cell else {}
    owner = _owner(said)
    if owner == "torch":
        found |= {"reverse": False, "activation": "tanh"}
        if cell == "RNN":
            said_function = str(said.get("nonlinearity", said.get("mode", "tanh"))).lower().removeprefix("rnn_")
            found["activation"] = said_function
        else:
            found["recurrent_activation"] = "sigmoid"
    elif owner == "keras":
        found["bidirectional"] = "merge_mode" in said
    if cell == "GRU" and owner in ("torch", "flax"):
        found["reset_after"] = True
    return found


def _of_resize(said: Mapping[str, Any]) -> dict[str, Any]:
    """How a layer resizes. Of the nearest value torch and Keras read the same place if the factor is a whole number."""
    method = METHODS.get(str(said.get("mode", said.get("interpolation", ""))), "")
    found: dict[str, Any] = {"method": method} if method else {}
    if method in ("linear", "cubic"):
        found |= {"places": "aligned" if said.get("align_corners") is True else "half"}
        found |= {"antialias": said.get("antialias") is True}
    return found


def _cell(kind: str, said: Mapping[str, Any]) -> str:
    return next((cell for cell in CELLS if any(cell in str(name).upper() for name in (said.get("mode", ""), kind))), "")


def _owner(said: Mapping[str, Any]) -> str:
    """The framework whose recurrent layer has such settings; empty if none is known."""
    owners = {"units": "keras", "hidden_size": "torch", "features": "flax", "hidden_features": "flax"}
    return next((owner for name, owner in owners.items() if name in said), "")


def gates_of(kind: str, said: Mapping[str, Any]) -> tuple[str, ...]:
    """The gates of a recurrent layer in the order in which its framework keeps them in one kernel.

    Args:
        kind: The layer's class.
        said: Its settings.

    Returns:
        Their names; empty where the order is not known, or there is a kernel for each.

    Examples:
        >>> gates_of("GRU", {"hidden_size": 3}), gates_of("GRU", {"units": 3})
        (('reset', 'update', 'new'), ('update', 'reset', 'new'))
    """
    return GATES.get(_owner(said), {}).get(_cell(str(said.get(BASE, kind)), said), ())


def differences(ours: Configuration, theirs: Configuration) -> list[str]:
    """Say in which settings two layers differ, as far as both are known.

    Args:
        ours: A layer in common words.
        theirs: The layer that it is held against.

    Returns:
        A phrase for each setting that differs; the kinds first, if they do.

    Examples:
        >>> right = in_common_words("LayerNorm", {"eps": 1e-5})
        >>> differences(right, in_common_words("LayerNormalization", {"epsilon": 0.001}))
        ['epsilon 1e-05 against 0.001']
    """
    if ours.kind != theirs.kind:
        return [f"{ours.kind} against {theirs.kind}"] if ours.kind and theirs.kind else []
    pairs = ((name, value, theirs.settings[name]) for name, value in ours.settings.items() if name in theirs.settings)
    return [f"{name} {_shown(one)} against {_shown(other)}" for name, one, other in pairs if not _alike(one, other)]


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, str) != isinstance(other, str):
        # What SAME and VALID add depends on the size of the input. Without a stride, VALID adds nothing.
        words, numbers = (one, other) if isinstance(one, str) else (other, one)
        return bool(words == "VALID" and not any(map(any, numbers)))
    if isinstance(one, float) and isinstance(other, float | int):
        return abs(one - other) <= 1e-6 * abs(one)  # a number that went through float32 is the same setting
    return bool(one == other)


def _shown(value: Any) -> str:
    return repr(value) if value == "" else str(value)


def _rank(said: Mapping[str, Any], kind: str) -> int:
    """How many spatial axes a layer has, as far as its settings or its name say."""
    for name in ("kernel_size", "pool_size", "window_shape", "strides", "stride"):
        if isinstance(said.get(name), list):
            return len(said[name])
    digits = [int(letter) for letter in kind[-2:] if letter.isdigit()]
    return digits[0] if digits else 1


def _spread(value: Any, rank: int) -> tuple[int, ...] | None:
    """Give a number that holds for every axis once for each."""
    if isinstance(value, int):
        return (value,) * rank
    return tuple(value) if isinstance(value, list) and all(isinstance(one, int) for one in value) else None


def _same(settings: Mapping[str, Any]) -> tuple[tuple[int, int], ...] | None:
    """What SAME adds before and after each axis; None if that depends on the input's size."""
    kernel = settings.get("kernel_size", (0,))
    stride, dilation = (settings.get(name, (1,) * len(kernel)) for name in ("stride", "dilation"))
    # A window of one value never needs a neighbour, whatever its stride.
    if any(size % 2 == 0 or (size > 1 and step != 1) for size, step in zip(kernel, stride, strict=False)):
        return None
    added = [(size - 1) * apart // 2 for size, apart in zip(kernel, dilation, strict=False)]
    return tuple((each, each) for each in added)


def _sides(value: Any) -> Any:
    """Give what a layer that only pads adds before and after each axis; torch lists them, from the last axis on."""
    if isinstance(value, list) and len(value) % 2 == 0 and all(isinstance(one, int) for one in value):
        return tuple(zip(value[::2], value[1::2], strict=True))[::-1]
    return _padding(value, 1)


def _padding(value: Any, rank: int) -> Any:
    """Give a padding as SAME, VALID, or the numbers before and after each axis; None for what is none of them."""
    if isinstance(value, str):
        return value.upper()
    if isinstance(value, int):
        return ((value, value),) * rank
    if isinstance(value, list) and all(isinstance(one, int) for one in value):
        return tuple((one, one) for one in value)
    if isinstance(value, list) and all(isinstance(one, list) and len(one) == 2 for one in value):
        return tuple((before, after) for before, after in value)
    return None
