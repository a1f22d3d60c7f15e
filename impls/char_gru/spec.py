"""The character model: embedding → GRU → linear layer, of the tutorial post of 2024-09-18, "Deep learning models
implemented in pytorch and TF", section 3.

A portion of T = 200 characters is x (T,), its targets are the T characters that follow each, y (T,). The alphabet
has 100 characters; embedding and state are H = 100 wide.

    e_t = table[x_t]
    r_t = σ(e_t W_ir + b_ir + h_t W_hr + b_hr)                h_0 = 0
    z_t = σ(e_t W_iz + b_iz + h_t W_hz + b_hz)
    n_t = tanh(e_t W_in + b_in + r_t (h_t W_hn + b_hn))
    h_{t+1} = (1 - z_t) n_t + z_t h_t
    logits_t = h_{t+1} W + b                                  (T, 100)
    loss = mean over t of crossentropy(logits_t, y_t)

That is torch's GRU: two biases a gate, the reset applied to the hidden part after its bias. ``gru/initial_state``
is a parameter that the post declares and never uses: nothing may move it. An epoch is one portion, drawn anew.
"""

from dataclasses import replace

from fixtures import text, weights
from parity.spec import Adam, Case, Display, Loss, Policy, Publication, Published

SOURCE = "Deep learning models implemented in pytorch and TF (2024-09-18), section 3"
NOTEBOOK = (
    "char_rnn-charlesdickens.ipynb of rasbt/deeplearning-models, a run of the post's listing with torch's own initial "
    "weights under seed 123"
)
LOSSES = "4.58 1.81 1.72 1.73 1.77 1.46 1.64 1.64 1.66 1.53 1.30 1.73 1.68 1.42 1.78 1.54 1.52 1.58 1.49 1.78"
"""At iterations 0, 1000, … 19000, before the update: the losses of epochs 1, 1001, … 19001."""

GATED = ("gru/input_kernel", "gru/recurrent_kernel", "gru/input_bias", "gru/recurrent_bias")

STORY = Case(
    name="char-gru",
    data=text.shipped,
    initial=weights.char_gru,
    loss=Loss("crossentropy", "mean"),
    optimizer=Adam(learning_rate=0.005),
    schedule=text.Portions(size=200, seed=123, discard=2),
    epochs=100,
    every=10,
    publication=Publication(
        SOURCE,
        prints=(Published("Loss", {}, "%.2f", "loss", SOURCE),),
        log="Iteration {step} | Loss {Loss}",
        logged=range(1, 20_001, 1000),
    ),
    policy=Policy(
        float32_parameters="lockstep",
        reason="Adam's first steps follow the sign of the gradient, which in float32 is noise where the gradient is "
        "small",
        floor_epochs=100,
    ),
    display=Display(alphabet=text.ALPHABET),
    blocks=dict.fromkeys(GATED, ("r", "z", "n")),
)

NOVEL = replace(
    STORY,
    data=text.novel,
    initial=weights.char_gru_of_torch,
    epochs=20_000,
    every=100,
    publication=replace(
        STORY.publication,
        prints=(),
        figures=(
            Published("Loss", {1: LOSSES.split()[0]}, "%.2f", "loss", NOTEBOOK, by="public run"),
            # Rounding alone makes every run another draw: two made with torch stayed within .16 of these.
            Published(
                "Loss",
                {1 + 1000 * place: value for place, value in enumerate(LOSSES.split()) if place},
                "%.2f",
                "loss",
                NOTEBOOK,
                rule="envelope",
                margin=0.16,
                by="public run",
            ),
        ),
    ),
)

CASES = (replace(STORY, variants={"full": NOVEL}),)
