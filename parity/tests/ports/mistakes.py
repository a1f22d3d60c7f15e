"""The mistakes that a port can make, each a line of the user's code that is changed, and what is right to say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from parity.recording.steps import Phase

ALL = ("torch", "linen", "nnx", "keras")
PORTED = ALL[1:]


@dataclass(frozen=True)
class Mistake:
    """A mistake of one model, and where it shows first.

    Attributes:
        name: The port's argument.
        model: Whose.
        phase: The part of an update that differs first.
        layers: The layer or parameter that differs first, as each framework calls it; a part of its name.
        update: The update that differs first, from 0.
        frameworks: The ports that can make it.
        about: What is wrong.
    """

    name: str
    model: str
    phase: Phase
    layers: dict[str, str] = field(hash=False)
    about: str
    update: int = 0
    frameworks: tuple[str, ...] = ALL


def _names(torch: str, linen: str, nnx: str, keras: str) -> dict[str, str]:
    return {"torch": torch, "linen": linen, "nnx": nnx, "keras": keras}


_NORM = _names("norm", "BatchNorm_0", "norm", "stem_norm")
_STRIDED = _names("blocks.1.conv1", "Block_1/Conv_0", "blocks/1/conv1", "block1_conv1")
_HEAD = _names("head", "Dense_0", "head", "head")
_ATTENTION = _names("blocks.0.attention", "Block_0/Attention_0", "blocks/0/attention", "block_0/attention")
_LSTM = _names("lstm", "lstm", "lstm", "lstm")

MISTAKES = (
    Mistake("norm-epsilon", "resnet", Phase.PREDICTION, _NORM, "BatchNorm's epsilon 1e-3 for 1e-5"),
    Mistake("norm-momentum", "resnet", Phase.UPDATE, _NORM, "BatchNorm's momentum 0.1 taken for 0.9"),
    Mistake(
        "norm-variance",
        "resnet",
        Phase.PREDICTION,
        _NORM,
        "the unbiased variance for the biased",
        frameworks=("torch",),
    ),
    Mistake("padding", "resnet", Phase.PREDICTION, _STRIDED, "SAME for one on each side at stride 2"),
    Mistake("flatten-order", "resnet", Phase.PREDICTION, _HEAD, "flattened (height, width, channels)"),
    Mistake("decay-mask", "resnet", Phase.UPDATE, _NORM, "norms and biases decay too"),
    Mistake(
        "norm-epsilon",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0.norm_1", "Block_0/LayerNorm_0", "blocks/0/norm_1", "block_0/norm_1"),
        "LayerNorm's epsilon 1e-6 for 1e-5",
    ),
    Mistake(
        "gelu-tanh",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0.gelu", "Block_0/Dense_1", "blocks/0/down", "block_0/down"),
        "GELU's tanh form",
    ),
    Mistake("attention-scale", "gpt", Phase.PREDICTION, _ATTENTION, "scores divided by the root of the width"),
    Mistake("causal-mask", "gpt", Phase.PREDICTION, _ATTENTION, "no causal mask"),
    Mistake(
        "position-offset",
        "gpt",
        Phase.PREDICTION,
        _names("position", "position", "position", "position"),
        "positions counted from 1",
    ),
    Mistake(
        "untied-head", "gpt", Phase.GRADIENT, _names("token", "token", "token", "token"), "the head has its own weights"
    ),
    Mistake(
        "dropout",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0.dropout", "Block_0/Dropout_0", "blocks/0/dropout", "block_0/dropout"),
        "dropout of 0.02 left on",
    ),
    Mistake(
        "decay-mask",
        "gpt",
        Phase.UPDATE,
        _names("blocks.0.norm_1", "Block_0/LayerNorm_0", "blocks/0/norm_1", "block_0/norm_1"),
        "norms and biases decay too",
    ),
    Mistake("schedule", "gpt", Phase.UPDATE, _names("", "", "", ""), "the schedule is one update ahead"),
    Mistake(
        "clip-per-tensor", "gpt", Phase.GRADIENT, _names("", "", "", ""), "each tensor's gradient clipped by itself"
    ),
    Mistake("two-biases", "lstm", Phase.UPDATE, _LSTM, "two biases are trained as one", frameworks=("torch",)),
    Mistake("gate-order", "lstm", Phase.PREDICTION, _LSTM, "gates i, g, f, o for i, f, g, o", frameworks=PORTED),
    Mistake("forget-bias", "lstm", Phase.STATE, _LSTM, "the forget gate's bias begins one higher"),
    Mistake("last-state", "lstm", Phase.PREDICTION, _HEAD, "the state after the padding"),
    Mistake(
        "clip-per-tensor", "lstm", Phase.GRADIENT, _names("", "", "", ""), "each tensor's gradient clipped by itself"
    ),
    Mistake(
        "norm-epsilon",
        "unet",
        Phase.PREDICTION,
        _names("enter.norm", "Twice_0/GroupNorm_0", "enter/norm", "enter_norm"),
        "GroupNorm's epsilon 1e-3 for 1e-5",
    ),
    Mistake(
        "padding",
        "unet",
        Phase.PREDICTION,
        _names("down.conv", "Twice_1/Conv_0", "down/conv", "down_conv"),
        "SAME for one on each side at stride 2",
    ),
    Mistake(
        "skip-order",
        "unet",
        Phase.PREDICTION,
        _names("join1.conv", "Twice_3/Conv_0", "join1/conv", "join1_conv"),
        "the skip connection first",
    ),
    Mistake(
        "stop-gradient",
        "unet",
        Phase.GRADIENT,
        _names("last", "Conv_0", "last", "last"),
        "the errors' weights are trained",
    ),
    Mistake("adam-epsilon", "unet", Phase.UPDATE, _names("", "", "", ""), "Adam's epsilon 1e-3 for 1e-8"),
)
