"""The mistakes of the U-Net's ports."""

from __future__ import annotations

from parity.recording.steps import Phase
from parity.tests.ports.mistakes.mistake import ANY, BY_HAND, Mistake, named

_ENTER = named("enter.norm", "Twice_0/GroupNorm_0", "enter/norm", "enter_norm")
_JOIN = named("join1.conv", "Twice_3/Conv_0", "join1/conv", "join1_conv")
_UP = named("up1", "ConvTranspose_0", "up1", "up1")
_LAST = named("last", "Conv_0", "last", "last")

MISTAKES = (
    Mistake(
        "norm-epsilon",
        "unet",
        Phase.PREDICTION,
        named("enter.norm", "Twice_0/GroupNorm_0", "enter/norm", "enter_norm"),
        "GroupNorm's epsilon 1e-3 for 1e-5",
        cause="epsilon",
    ),
    Mistake(
        "padding",
        "unet",
        Phase.PREDICTION,
        named("down.conv", "Twice_1/Conv_0", "down/conv", "down_conv"),
        "SAME for one on each side at stride 2",
        cause="padding",
    ),
    Mistake(
        "skip-order",
        "unet",
        Phase.PREDICTION,
        named("join1.conv", "Twice_3/Conv_0", "join1/conv", "join1_conv"),
        "the skip connection first",
    ),
    Mistake(
        "stop-gradient",
        "unet",
        Phase.GRADIENT,
        named("last", "Conv_0", "last", "last"),
        "the errors' weights are trained",
    ),
    Mistake("adam-epsilon", "unet", Phase.UPDATE, ANY, "Adam's epsilon 1e-3 for 1e-8", cause="another-epsilon"),
    Mistake("groups", "unet", Phase.PREDICTION, _ENTER, "one group for two", cause="groups"),
    Mistake(
        "leaky-relu", "unet", Phase.PREDICTION, named("enter", "Twice_0", "enter", "re_lu"), "LeakyReLU of slope 0.01"
    ),
    Mistake("relu-first", "unet", Phase.PREDICTION, _ENTER, "ReLU before the norm"),
    Mistake(
        "up-flipped", "unet", Phase.PREDICTION, _UP, "the transposed convolution's kernel turned", frameworks=BY_HAND
    ),
    Mistake("skip-early", "unet", Phase.PREDICTION, _JOIN, "skip connections from before the ReLU", frameworks=BY_HAND),
    Mistake(
        "skip-stopped",
        "unet",
        Phase.GRADIENT,
        named("enter", "Twice_0", "enter", "enter"),
        "no gradient through the first skip connection",
    ),
    Mistake("sigmoid-twice", "unet", Phase.PREDICTION, _LAST, "probabilities for logits", cause="sigmoid"),
    Mistake(
        "dropout",
        "unet",
        Phase.PREDICTION,
        named("dropout", "Dropout", "dropout", "dropout"),
        "dropout of 0.05 left on",
        frameworks=BY_HAND,
        cause="[dD]ropout",
    ),
    Mistake("loss-sum", "unet", Phase.LOSS, ANY, "the sum of the errors for their mean", cause="sum-for-mean"),
    Mistake(
        "frozen-bias",
        "unet",
        Phase.GRADIENT,
        _LAST,
        "the last bias is not trained",
        frameworks=BY_HAND,
        cause="not trained|stopped gradient|is trained, and has no partner",
    ),
    Mistake("rate-tenfold", "unet", Phase.UPDATE, ANY, "ten times the learning rate", cause="learning.rate"),
    Mistake("beta-2", "unet", Phase.UPDATE, ANY, "Adam's second beta 0.99 for 0.999", cause="beta2"),
    Mistake("decay-added", "unet", Phase.UPDATE, ANY, "AdamW, whose weights decay by 0.01", cause="weight-decay|decay"),
)
