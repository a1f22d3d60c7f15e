"""The mistakes of the GPT's ports."""

from __future__ import annotations

from parity.recording.steps import Phase
from parity.tests.ports.mistakes.mistake import ANY, Mistake, named

_ATTENTION = named("blocks.0.attention", "Block_0/Attention_0", "blocks/0/attention", "block_0/attention")
_TOKEN = named("token", "token", "token", "token")
_POSITION = named("position", "position", "position", "position")

MISTAKES = (
    Mistake(
        "norm-epsilon",
        "gpt",
        Phase.PREDICTION,
        named("blocks.0.norm_1", "Block_0/LayerNorm_0", "blocks/0/norm_1", "block_0/norm_1"),
        "LayerNorm's epsilon 1e-6 for 1e-5",
        cause="epsilon",
    ),
    Mistake(
        "gelu-tanh",
        "gpt",
        Phase.PREDICTION,
        named("blocks.0.gelu", "Block_0/Dense_1", "blocks/0/down", "block_0/down"),
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
        named("position", "position", "position", "position"),
        "positions counted from 1",
    ),
    Mistake(
        "untied-head",
        "gpt",
        Phase.GRADIENT,
        named("token", "token", "token", "token"),
        "the head has its own weights",
        cause="tied",
    ),
    Mistake(
        "dropout",
        "gpt",
        Phase.PREDICTION,
        named("blocks.0", "Block_0", "blocks/0", "block_0"),
        "dropout of 0.02 left on",
        cause="[dD]ropout",
    ),
    Mistake("decay-mask", "gpt", Phase.UPDATE, ANY, "norms and biases decay too", cause="weight-decay-on-some-tensors"),
    Mistake(
        "schedule",
        "gpt",
        Phase.UPDATE,
        ANY,
        "the schedule is one update ahead",
        cause="learning-rate-of-another-update|another-schedule",
    ),
    Mistake(
        "clip-per-tensor",
        "gpt",
        Phase.GRADIENT,
        ANY,
        "each tensor's gradient clipped by itself",
        cause="clipped-tensor-by-tensor",
    ),
    Mistake(
        "embedding-scaled", "gpt", Phase.PREDICTION, _TOKEN, "the tokens' embedding multiplied by the root of the width"
    ),
    Mistake("softmax-axis", "gpt", Phase.PREDICTION, _ATTENTION, "attention's softmax over the queries"),
    Mistake("head-order", "gpt", Phase.PREDICTION, _ATTENTION, "heads as the faster axis of the width"),
    Mistake("norm-after", "gpt", Phase.PREDICTION, _ATTENTION, "norms behind the blocks' sums"),
    Mistake(
        "residual-missing",
        "gpt",
        Phase.PREDICTION,
        named("blocks.1", "Block_1", "blocks/1", "block_1"),
        "no residual around the second block's attention",
    ),
    Mistake(
        "gelu-sigmoid",
        "gpt",
        Phase.PREDICTION,
        named("blocks.0.gelu", "Block_0/Dense_1", "blocks/0/down", "block_0/down"),
        "GELU by a sigmoid",
    ),
    Mistake("label-smoothing", "gpt", Phase.LOSS, ANY, "targets smoothed by 0.1", cause="smooth"),
    Mistake("loss-sum", "gpt", Phase.LOSS, ANY, "the sum of the losses for their mean", cause="96 times"),
    Mistake("log-base", "gpt", Phase.LOSS, ANY, "the loss in bits", cause=r"1\.4427|0\.693"),
    Mistake("ignored-token", "gpt", Phase.LOSS, ANY, "token 0 taken for padding and left out of the mean"),
    Mistake("target-shift", "gpt", Phase.LOSS, ANY, "each token is its own target"),
    Mistake("warm-up", "gpt", Phase.UPDATE, ANY, "no warm-up", cause="learning.rate|another-schedule"),
    Mistake(
        "rate-tenfold", "gpt", Phase.UPDATE, ANY, "ten times the learning rate", cause="learning.rate|another-schedule"
    ),
    Mistake(
        "decay-coupled",
        "gpt",
        Phase.UPDATE,
        ANY,
        "decay through the gradient",
        cause="weight-decay-through-the-gradient|Adam and AdamW",
    ),
    Mistake("beta-2", "gpt", Phase.UPDATE, ANY, "Adam's second beta 0.999 for 0.95", cause="beta2"),
    Mistake("clip-missing", "gpt", Phase.GRADIENT, ANY, "gradients are not clipped", cause="not-clipped"),
    Mistake(
        "frozen-positions",
        "gpt",
        Phase.GRADIENT,
        _POSITION,
        "positions are not trained",
        cause="not trained|stopped gradient|is trained, and has no partner",
    ),
)
