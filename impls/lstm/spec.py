"""A classifier of padded sequences: embedding → LSTM → the last state of each row → linear layer. It is beyond the
documents: none of them has it.

A row is x (T,), T = 12 steps of words 1 to 10. Word 0 is padding: it stands behind the last word of a shorter row and
nowhere else, so the words that are not 0 are the row's length L. A model takes the lengths from there.

    e_t = table[x_t]
    i_t = σ(e_t W_ii + b_ii + h_t W_hi + b_hi)                h_0 = c_0 = 0
    f_t = σ(e_t W_if + b_if + h_t W_hf + b_hf)
    g_t = tanh(e_t W_ig + b_ig + h_t W_hg + b_hg)
    o_t = σ(e_t W_io + b_io + h_t W_ho + b_ho)
    c_{t+1} = f_t c_t + i_t g_t
    h_{t+1} = o_t tanh(c_{t+1})
    logits = h_L W + b                                        (3,)
    loss = mean over the batch of crossentropy(logits, y)

That is torch's LSTM: two biases a gate, each of which an update moves at the full rate. The forget gate's bias of the
input starts at 1, that of the state at 0. Nothing reads the padding's embedding, so nothing may move it.
"""

import numpy as np

from fixtures import synthetic, weights
from parity.spec import Array, Case, Display, Loss, Metric, Sgd, Shuffled

GATED = ("lstm/input_kernel", "lstm/recurrent_kernel", "lstm/input_bias", "lstm/recurrent_bias")


def accuracy(logits: Array, y: Array) -> Array:
    """Share of rows whose class has the largest logit."""
    return np.mean(logits.argmax(-1) == y, -1)  # (snapshots, n, classes), (n,) -> (snapshots,)


CASES = (
    Case(
        name="lstm",
        data=synthetic.sequences,
        initial=weights.lstm,
        loss=Loss("crossentropy", "mean"),
        optimizer=Sgd(learning_rate=0.2, momentum=0.9),
        schedule=Shuffled(batch_size=32, seed=1),
        epochs=20,
        metrics=(Metric("train_accuracy", "train", accuracy), Metric("test_accuracy", "test", accuracy)),
        display=Display(note="beyond the documents; drawn at random, by a rule that needs the order of the words"),
        blocks=dict.fromkeys(GATED, ("i", "f", "g", "o")),
    ),
)
