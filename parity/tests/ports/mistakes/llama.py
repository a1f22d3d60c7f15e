"""The mistakes of the Llama's ports."""

from __future__ import annotations

from parity.recording.steps import Phase
from parity.tests.ports.mistakes.mistake import ANY, Mistake, named

_NORM = named("layers.0.attention_norm", "block_0/norm_1", "blocks/0/norm_1", "block_0/norm_1")
_ATTENTION = named("layers.0.attention", "block_0/attention", "blocks/0/attention", "block_0/attention")
_FEED_FORWARD = named("layers.0.feed_forward", "block_0/mlp", "blocks/0/mlp", "block_0/mlp")
_SECOND = named("layers.0.ffn_norm", "block_0/norm_2", "blocks/0/norm_2", "block_0/norm_2")
_HEAD = named("output", "head", "head", "head")

MISTAKES = (
    Mistake("norm-epsilon", "llama", Phase.PREDICTION, _NORM, "RMSNorm's epsilon 1e-3 for 1e-5", cause="epsilon"),
    Mistake(
        "norm-centred",
        "llama",
        Phase.PREDICTION,
        _NORM,
        "LayerNorm without a bias for RMSNorm",
        cause="norm-mean-taken-off",
    ),
    Mistake(
        "norm-shifted",
        "llama",
        Phase.PREDICTION,
        _NORM,
        "RMSNorm's scale counted from one",
        cause="norm-scale-plus-one",
    ),
    Mistake(
        "rotary-halves",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "neighbours turned, for halves",
        cause="rotary-interleaved-for-halves",
    ),
    Mistake(
        "rotary-base",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "a base of 500,000 for 10,000",
        cause="another-rotary-base",
    ),
    Mistake(
        "rotary-backwards",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "turned the other way",
        cause="rotary-positions-backwards",
    ),
    Mistake(
        "rotary-keys",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "keys are not turned",
        cause="rotary-positions-on-one-side",
    ),
    Mistake(
        "rotary-values",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "values are turned too",
        cause="rotary-positions-on-values",
    ),
    Mistake(
        "heads-tiled",
        "llama",
        Phase.PREDICTION,
        _ATTENTION,
        "groups of keys one after the other for repeated",
        cause="groups-of-heads-tiled",
    ),
    Mistake(
        "attention-scale", "llama", Phase.PREDICTION, _ATTENTION, "scores are not scaled", cause="attention-not-scaled"
    ),
    Mistake("causal-mask", "llama", Phase.PREDICTION, _ATTENTION, "no causal mask", cause="causal-mask-missing"),
    Mistake(
        "gate-exchanged",
        "llama",
        Phase.PREDICTION,
        _FEED_FORWARD,
        "the gate is the other half",
        cause="other-half-is-the-gate",
    ),
    Mistake("gelu-gate", "llama", Phase.PREDICTION, _FEED_FORWARD, "GELU for SiLU", cause="gelu for silu"),
    Mistake("parallel-block", "llama", Phase.PREDICTION, _SECOND, "attention and feed-forward beside each other"),
    Mistake("last-norm", "llama", Phase.PREDICTION, _HEAD, "no norm before the head", cause="normalization-missing"),
    Mistake("mean-of-means", "llama", Phase.LOSS, ANY, "each line's mean, and their mean"),
    Mistake("padding-counted", "llama", Phase.LOSS, ANY, "padding counts in the denominator"),
    Mistake("z-loss", "llama", Phase.LOSS, ANY, "a penalty of the logits' normalizer"),
    Mistake("accumulation", "llama", Phase.LOSS, ANY, "two parts' losses, not divided by two"),
    Mistake("beta-2", "llama", Phase.UPDATE, ANY, "Adam's second beta 0.999 for 0.95", cause="beta2"),
    Mistake("adam-epsilon", "llama", Phase.UPDATE, ANY, "Adam's epsilon 1e-4 for 1e-8", cause="another-epsilon"),
    Mistake("decay", "llama", Phase.UPDATE, ANY, "a decay of 0.01 for 0.1", cause="decay"),
)
