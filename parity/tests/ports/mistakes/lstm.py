"""The mistakes of the LSTM's ports."""

from __future__ import annotations

from parity.recording.steps import Phase
from parity.tests.ports.mistakes.mistake import ANY, BY_HAND, PORTED, Mistake, named

_LSTM = named("lstm", "lstm", "lstm", "lstm")
_HEAD = named("head", "Dense_0", "head", "head")
_EMBEDDING = named("embedding", "Embed_0", "embedding", "embedding")

MISTAKES = (
    Mistake(
        "two-biases",
        "lstm",
        Phase.GRADIENT,
        ANY,
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
        ANY,
        "each tensor's gradient clipped by itself",
        cause="clipped-tensor-by-tensor",
    ),
    Mistake(
        "loss-sum",
        "lstm",
        Phase.LOSS,
        ANY,
        "the sum of the batch's losses for their mean",
        cause="8 times|sum over rows",
    ),
    Mistake("label-smoothing", "lstm", Phase.LOSS, ANY, "labels smoothed by 0.1", cause="smooth"),
    Mistake("ignored-class", "lstm", Phase.LOSS, ANY, "class 0 taken for padding and left out of the mean"),
    Mistake("rate-tenfold", "lstm", Phase.UPDATE, ANY, "ten times the learning rate", cause="learning.rate"),
    Mistake("nesterov", "lstm", Phase.UPDATE, ANY, "Nesterov's momentum", cause="nesterov"),
    Mistake("momentum", "lstm", Phase.UPDATE, ANY, "a momentum of 0.99 for 0.9", update=1, cause="momentum"),
    Mistake(
        "embedding-scaled", "lstm", Phase.PREDICTION, _EMBEDDING, "the embedding multiplied by the root of the width"
    ),
    Mistake(
        "frozen-embedding",
        "lstm",
        Phase.GRADIENT,
        _EMBEDDING,
        "the embedding is not trained",
        cause="not trained|stopped gradient|is trained, and has no partner",
    ),
    Mistake(
        "backwards", "lstm", Phase.PREDICTION, _LSTM, "the sentence read from its end", cause="reverse|another order"
    ),
    Mistake("mean-state", "lstm", Phase.PREDICTION, _HEAD, "the mean of all states for the last one"),
    Mistake(
        "cell-state",
        "lstm",
        Phase.PREDICTION,
        _HEAD,
        "the last cell for the last hidden state",
        frameworks=("torch", "linen"),
    ),
    Mistake(
        "gate-activation",
        "lstm",
        Phase.PREDICTION,
        _LSTM,
        "gates by a hard sigmoid",
        frameworks=PORTED,
        cause="recurrent_activation|sigmoid",
    ),
    Mistake(
        "dropout",
        "lstm",
        Phase.PREDICTION,
        named("dropout", "Dropout", "dropout", "dropout"),
        "dropout of 0.05 left on",
        frameworks=BY_HAND,
        cause="[dD]ropout",
    ),
    Mistake("softmax-twice", "lstm", Phase.PREDICTION, _HEAD, "probabilities for logits", cause="softmax"),
    Mistake("clip-missing", "lstm", Phase.GRADIENT, ANY, "gradients are not clipped", cause="not-clipped"),
    Mistake(
        "clip-value",
        "lstm",
        Phase.GRADIENT,
        ANY,
        "each value of a gradient clipped by itself",
        cause="clipped-value-by-value",
    ),
)
