"""The mistakes of the ResNet's ports."""

from __future__ import annotations

from parity.recording.steps import Phase
from parity.tests.ports.mistakes.mistake import ANY, BY_HAND, Mistake, named

_NORM = named("norm", "BatchNorm_0", "norm", "stem_norm")
_STATISTICS = named("running_", "BatchNorm_", "norm", "norm")
_STEM = named("stem", "Conv_0", "stem", "stem")
_BLOCK = named("blocks.0", "Block_0", "blocks/0", "block0")
_STRIDED = named("blocks.1.conv1", "Block_1/Conv_0", "blocks/1/conv1", "block1_conv1")
_HEAD = named("head", "Dense_0", "head", "head")

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
        "decay-mask", "resnet", Phase.UPDATE, ANY, "norms and biases decay too", cause="weight-decay-on-some-tensors"
    ),
    Mistake(
        "loss-sum",
        "resnet",
        Phase.LOSS,
        ANY,
        "the sum of the batch's losses for their mean",
        frameworks=BY_HAND,
        cause="8 times|sum over rows",
    ),
    Mistake(
        "label-smoothing",
        "resnet",
        Phase.LOSS,
        ANY,
        "labels smoothed by 0.1",
        frameworks=BY_HAND,
        cause="smooth",
    ),
    Mistake("rate-tenfold", "resnet", Phase.UPDATE, ANY, "ten times the learning rate", cause="learning.rate"),
    Mistake("nesterov", "resnet", Phase.UPDATE, ANY, "Nesterov's momentum", cause="nesterov"),
    Mistake(
        "decay-decoupled",
        "resnet",
        Phase.UPDATE,
        ANY,
        "weights decay beside the gradient, not through momentum",
        cause="decoupled-weight-decay",
    ),
    Mistake(
        "gradients-added",
        "resnet",
        Phase.GRADIENT,
        ANY,
        "gradients are not set to zero between updates",
        update=1,
        frameworks=("torch",),
        cause="gradient-not-zeroed",
    ),
    Mistake("max-pool", "resnet", Phase.PREDICTION, _HEAD, "the largest value of a window for its mean"),
    Mistake("relu-first", "resnet", Phase.PREDICTION, _NORM, "ReLU before the stem's norm"),
    Mistake("relu-early", "resnet", Phase.PREDICTION, _BLOCK, "the shortcut added after the ReLU of the first block"),
    Mistake("residual-missing", "resnet", Phase.PREDICTION, _BLOCK, "no shortcut in the first block"),
    Mistake(
        "leaky-relu",
        "resnet",
        Phase.PREDICTION,
        named("norm", "BatchNorm_0", "norm", "re_lu"),
        "LeakyReLU of slope 0.01 behind the stem",
    ),
    Mistake(
        "running-statistics", "resnet", Phase.PREDICTION, _NORM, "norms in their mode of evaluation", cause="running"
    ),
    Mistake(
        "frozen-head-bias",
        "resnet",
        Phase.GRADIENT,
        _HEAD,
        "the head's bias is not trained",
        frameworks=BY_HAND,
        cause="not trained|stopped gradient|is trained, and has no partner",
    ),
    Mistake("channel-order", "resnet", Phase.PREDICTION, _STEM, "blue first for red first", cause="another order"),
    Mistake("softmax-twice", "resnet", Phase.PREDICTION, _HEAD, "probabilities for logits", cause="softmax"),
)
