"""One layer, built in every framework, is one layer in common words."""

from __future__ import annotations

from typing import Any

import pytest

from parity.nn.configuration import Configuration, differences, in_common_words

Said = dict[str, tuple[str, dict[str, Any]]]


def built(label: str) -> Said:
    """Called where the framework is: each layer's class, and its settings as the watcher records them."""
    layers, configuration = {"torch": in_torch, "flax": in_flax, "keras": in_keras}[label]()
    return {name: (type(layer).__name__, configuration(layer)) for name, layer in layers.items()}


def in_torch() -> tuple[dict[str, Any], Any]:
    from torch import nn

    from parity.watching.torch.layers import configuration

    return {
        "batch norm": nn.BatchNorm2d(4, eps=1e-4, momentum=0.2),
        "layer norm": nn.LayerNorm(4, eps=1e-6),
        "group norm": nn.GroupNorm(2, 4, eps=1e-5),
        "conv": nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2),
        "same": nn.Conv2d(4, 8, 5, padding="same"),
        "bare": nn.Conv1d(4, 8, 3),
        "transposed": nn.ConvTranspose2d(4, 8, 2, stride=2),
        "dense": nn.Linear(3, 4),
        "dropout": nn.Dropout(0.3),
        "gelu": nn.GELU("tanh"),
        "pool": nn.MaxPool2d(2),
        "attention": nn.MultiheadAttention(8, 2),
        "embedding": nn.Embedding(5, 3),
    }, configuration


def in_flax() -> tuple[dict[str, Any], Any]:
    from flax import linen as nn

    from parity.watching.jax.layers import configuration

    return {
        "batch norm": nn.BatchNorm(use_running_average=False, epsilon=1e-4, momentum=0.8),
        "layer norm": nn.LayerNorm(epsilon=1e-6),
        "group norm": nn.GroupNorm(2, epsilon=1e-5),
        "conv": nn.Conv(8, (3, 3), 2, padding=1, feature_group_count=2),
        "same": nn.Conv(8, (5, 5), padding="SAME"),
        "bare": nn.Conv(8, (3,), padding="VALID"),
        "transposed": nn.ConvTranspose(8, (2, 2), strides=(2, 2)),
        "dense": nn.Dense(4),
        "dropout": nn.Dropout(0.3),
        "attention": nn.MultiHeadDotProductAttention(2),
        "embedding": nn.Embed(5, 3),
    }, configuration


def in_keras() -> tuple[dict[str, Any], Any]:
    from keras import layers

    from parity.watching.keras.layers import configuration

    return {
        "batch norm": layers.BatchNormalization(epsilon=1e-4, momentum=0.8),
        "layer norm": layers.LayerNormalization(epsilon=1e-6),
        "group norm": layers.GroupNormalization(2, epsilon=1e-5),
        "same": layers.Conv2D(8, 5, padding="same"),
        "bare": layers.Conv1D(8, 3),
        "transposed": layers.Conv2DTranspose(8, 2, strides=2),
        "dense": layers.Dense(4),
        "dropout": layers.Dropout(0.3),
        "pool": layers.MaxPooling2D(2),
        "attention": layers.MultiHeadAttention(2, 4),
        "embedding": layers.Embedding(5, 3),
    }, configuration


EXPECTED = {
    "batch norm": Configuration("batch_norm", {"epsilon": 1e-4, "momentum": 0.8}),
    "layer norm": Configuration("layer_norm", {"epsilon": 1e-6}),
    "group norm": Configuration("group_norm", {"epsilon": 1e-5, "groups": 2}),
    "conv": Configuration("conv", {"kernel_size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1)), "groups": 2}),
    "same": Configuration("conv", {"kernel_size": (5, 5), "padding": ((2, 2), (2, 2)), "groups": 1}),
    "bare": Configuration("conv", {"kernel_size": (3,), "groups": 1}),
    "transposed": Configuration("conv_transpose", {"kernel_size": (2, 2), "stride": (2, 2)}),
    "dense": Configuration("linear", {"activation": ""}),
    "dropout": Configuration("dropout", {"rate": 0.3}),
    "gelu": Configuration("gelu", {"approximate": True}),
    "pool": Configuration("max_pool", {"kernel_size": (2, 2), "stride": (2, 2)}),
    "attention": Configuration("attention", {"heads": 2}),
    "embedding": Configuration("embedding", {}),
}
"""What every framework that says it must say alike."""


@pytest.mark.asks(question=built)
@pytest.mark.parametrize("label", ["torch", "flax", "keras"])
def test_every_framework_s_layer_says_the_same_in_common_words(label: str, answer: dict[str, Any]) -> None:
    for name, (kind, settings) in answer.items():
        found, wanted = in_common_words(kind, settings), EXPECTED[name]
        assert found.kind == wanted.kind, name
        for word, value in wanted.settings.items():
            assert found.settings[word] == value, (name, word)
        assert not differences(found, wanted), name


def test_settings_that_add_nothing_are_no_difference() -> None:
    bare = in_common_words("Conv1d", {"kernel_size": [3], "stride": [1], "padding": [0]})
    assert not differences(bare, in_common_words("Conv", {"kernel_size": [3], "padding": "VALID"}))
    pair = (
        in_common_words("Conv2d", {"kernel_size": [3, 3], "stride": [2, 2], "padding": [1, 1]}),
        in_common_words("Conv2D", {"kernel_size": [3, 3], "strides": [2, 2], "padding": "same"}),
    )
    assert differences(*pair) == ["padding ((1, 1), (1, 1)) against SAME"]


@pytest.mark.parametrize("kernel", [[1, 1], [3, 1], [1, 2]])
def test_a_window_of_one_value_pads_nothing_whatever_its_stride(kernel: list[int]) -> None:
    """As in a residual block's shortcut, a convolution of 1 by 1 at stride 2."""
    strides = [2 if size == 1 else 1 for size in kernel]
    padding = [size // 2 for size in kernel]
    ours = in_common_words("Conv2d", {"kernel_size": kernel, "stride": strides, "padding": padding})
    theirs = in_common_words("Conv", {"kernel_size": kernel, "strides": strides, "padding": "SAME"})
    assert differences(ours, theirs) == ([] if 2 not in kernel else ["padding ((0, 0), (1, 1)) against SAME"])


def test_what_a_recording_may_hold_is_never_an_error() -> None:
    nonsense = (
        {},
        {"padding": [[1], "x"]},
        {"stride": "2", "kernel_size": [[3]]},
        {"momentum": "a", "eps": []},
        {"activation": 3},
        {"activation": [1], "padding": [1, "x"], "approximate": []},
        {"padding": "SAME", "kernel_size": 3, "stride": [2.5]},
    )
    for kind in ("Conv2d", "BatchNorm", "Dense", "GELU", "Activation", "MaxPool2d", "", "2d", "ZeroPadding2D"):
        for settings in nonsense:
            differences(in_common_words(kind, settings), in_common_words(kind, {"padding": 1, "stride": 2}))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (("Conv1D", {"nf": 64, "nx": 16}), "linear"),  # a linear layer in spite of its name
        (("Conv1D", {"filters": 4, "kernel_size": [3]}), "conv"),
        (("ReLU", {"max_value": 6}), "relu6"),
        (("ReLU", {"max_value": None}), "relu"),
        (("NewGELUActivation", {}), "gelu"),
    ],
)
def test_a_layer_is_what_it_computes(said: tuple[str, dict[str, Any]], kind: str) -> None:
    assert in_common_words(*said).kind == kind


def test_another_form_of_gelu_and_a_row_of_padding_are_differences() -> None:
    assert differences(in_common_words("NewGELUActivation", {}), in_common_words("GELUActivation", {}))
    padded, plain = (in_common_words("Embedding", said) for said in ({"padding_idx": 0}, {"input_dim": 5}))
    assert differences(padded, plain) == ["padding_index 0 against None"]


def test_a_layer_that_only_pads_says_it_in_the_order_of_the_axes() -> None:
    """torch lists what it adds from the last axis on."""
    torch = in_common_words("ZeroPad2d", {"padding": [0, 1, 2, 3]})
    assert torch == in_common_words("ZeroPadding2D", {"padding": [[2, 3], [0, 1]]})
    assert in_common_words("ZeroPad1d", {"padding": [1, 2]}).settings == {"padding": ((1, 2),)}
