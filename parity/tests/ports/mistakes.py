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
        cause: A pattern of what the explanation says of the cause; empty if recordings cannot tell it.
    """

    name: str
    model: str
    phase: Phase
    layers: dict[str, str] = field(hash=False)
    about: str
    update: int = 0
    frameworks: tuple[str, ...] = ALL
    cause: str = ""


def _names(torch: str, linen: str, nnx: str, keras: str) -> dict[str, str]:
    return {"torch": torch, "linen": linen, "nnx": nnx, "keras": keras}


_NORM = _names("norm", "BatchNorm_0", "norm", "stem_norm")
_STATISTICS = _names("running_", "BatchNorm_", "norm", "norm")
_ANY = _names("", "", "", "")
_STRIDED = _names("blocks.1.conv1", "Block_1/Conv_0", "blocks/1/conv1", "block1_conv1")
_HEAD = _names("head", "Dense_0", "head", "head")
_ATTENTION = _names("blocks.0.attention", "Block_0/Attention_0", "blocks/0/attention", "block_0/attention")
_LSTM = _names("lstm", "lstm", "lstm", "lstm")

MISTAKES = (
    Mistake("norm-epsilon", "resnet", Phase.PREDICTION, _NORM, "BatchNorm's epsilon 1e-3 for 1e-5", cause="epsilon"),
    Mistake(
        "norm-momentum",
        "resnet",
        Phase.UPDATE,
        _STATISTICS,
        "BatchNorm's momentum 0.1 taken for 0.9",
        cause="running-momentum-complement",
    ),
    Mistake(
        "norm-variance",
        "resnet",
        Phase.PREDICTION,
        _NORM,
        "the unbiased variance for the biased",
        frameworks=("torch",),
    ),
    Mistake("padding", "resnet", Phase.PREDICTION, _STRIDED, "SAME for one on each side at stride 2", cause="padding"),
    Mistake(
        "flatten-order", "resnet", Phase.PREDICTION, _HEAD, "flattened (height, width, channels)", cause="another order"
    ),
    Mistake(
        "decay-mask", "resnet", Phase.UPDATE, _ANY, "norms and biases decay too", cause="weight-decay-on-some-tensors"
    ),
    Mistake(
        "norm-epsilon",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0.norm_1", "Block_0/LayerNorm_0", "blocks/0/norm_1", "block_0/norm_1"),
        "LayerNorm's epsilon 1e-6 for 1e-5",
        cause="epsilon",
    ),
    Mistake(
        "gelu-tanh",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0.gelu", "Block_0/Dense_1", "blocks/0/down", "block_0/down"),
        "GELU's tanh form",
    ),
    Mistake(
        "attention-scale",
        "gpt",
        Phase.PREDICTION,
        _ATTENTION,
        "scores divided by the root of the width",
        cause="another scale",
    ),
    Mistake("causal-mask", "gpt", Phase.PREDICTION, _ATTENTION, "no causal mask", cause="causal mask"),
    Mistake(
        "position-offset",
        "gpt",
        Phase.PREDICTION,
        _names("position", "position", "position", "position"),
        "positions counted from 1",
    ),
    Mistake(
        "untied-head",
        "gpt",
        Phase.GRADIENT,
        _names("token", "token", "token", "token"),
        "the head has its own weights",
        cause="tied",
    ),
    Mistake(
        "dropout",
        "gpt",
        Phase.PREDICTION,
        _names("blocks.0", "Block_0", "blocks/0", "block_0"),
        "dropout of 0.02 left on",
        cause="[dD]ropout",
    ),
    Mistake(
        "decay-mask", "gpt", Phase.UPDATE, _ANY, "norms and biases decay too", cause="weight-decay-on-some-tensors"
    ),
    Mistake(
        "schedule",
        "gpt",
        Phase.UPDATE,
        _ANY,
        "the schedule is one update ahead",
        cause="learning-rate-of-another-update|another-schedule",
    ),
    Mistake(
        "clip-per-tensor",
        "gpt",
        Phase.GRADIENT,
        _ANY,
        "each tensor's gradient clipped by itself",
        cause="clipped-tensor-by-tensor",
    ),
    Mistake(
        "two-biases",
        "lstm",
        Phase.GRADIENT,
        _ANY,
        "two biases are trained as one, and both are clipped",
        frameworks=("torch",),
        cause="no partner",
    ),
    Mistake("gate-order", "lstm", Phase.PREDICTION, _LSTM, "gates i, g, f, o for i, f, g, o", frameworks=PORTED),
    Mistake("forget-bias", "lstm", Phase.STATE, _LSTM, "the forget gate's bias begins one higher", cause="begin"),
    Mistake("last-state", "lstm", Phase.PREDICTION, _HEAD, "the state after the padding"),
    Mistake(
        "clip-per-tensor",
        "lstm",
        Phase.GRADIENT,
        _ANY,
        "each tensor's gradient clipped by itself",
        cause="clipped-tensor-by-tensor",
    ),
    Mistake(
        "norm-epsilon",
        "unet",
        Phase.PREDICTION,
        _names("enter.norm", "Twice_0/GroupNorm_0", "enter/norm", "enter_norm"),
        "GroupNorm's epsilon 1e-3 for 1e-5",
        cause="epsilon",
    ),
    Mistake(
        "padding",
        "unet",
        Phase.PREDICTION,
        _names("down.conv", "Twice_1/Conv_0", "down/conv", "down_conv"),
        "SAME for one on each side at stride 2",
        cause="padding",
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
    Mistake("adam-epsilon", "unet", Phase.UPDATE, _ANY, "Adam's epsilon 1e-3 for 1e-8", cause="another-epsilon"),
)
