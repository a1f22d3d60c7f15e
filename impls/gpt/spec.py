"""A small GPT: two pre-norm transformer blocks that predict each next character. It is beyond the documents.

A row is T = 16 characters of the shipped story, x (T,), and the T characters that follow each, y (T,). The alphabet
has 100 characters; a state is C = 16 wide; attention has two heads.

    h = token[x_t] + position[t]
    h = h + attend(norm1(h)) W_p + b_p       causal; query, key and value are the thirds of norm1(h) W_a
    h = h + gelu(norm2(h) W_u + b_u) W_d + b_d                          both twice, with other parameters
    logits = norm(h) tokenᵀ
    loss = mean over all characters of crossentropy(logits_t, y_t)

Layer norms have an epsilon of 1e-5, GELU is approximated by a tanh, and the head is the table of the tokens: all as
in GPT-2. Attention's own product has no bias: a key's bias adds the same number to all scores of a query, softmax takes
it off again, and of a gradient that is rounding alone AdamW makes whole steps.

The optimizer is what no document has: gradients are clipped by their norm together, which shortens them in some
updates and not in others; the learning rate rises and then falls along a cosine; kernels and tables decay, biases,
scales and shifts do not.
"""

import numpy as np

from fixtures import text, weights
from parity import nn
from parity.spec import AdamW, Array, Case, Clipping, Display, Loss, Metric, Shuffled, WarmupCosine

QKV = tuple(f"block{number}/attention/kernel" for number in (1, 2))


def loss_of_rows(logits: Array, y: Array) -> Array:
    """The mean loss of (S, n, T, 100) logits at each snapshot: (S,)."""
    log_p = nn.log_softmax(logits.astype(np.float64))
    return -np.take_along_axis(log_p, np.broadcast_to(y, logits.shape[:-1])[..., None], -1).mean((1, 2, 3))


CASES = (
    Case(
        name="gpt",
        data=text.lines,
        initial=weights.gpt,
        loss=Loss("crossentropy", "mean"),
        optimizer=AdamW(
            learning_rate=0.01,
            beta2=0.95,
            weight_decay=0.1,
            rates=WarmupCosine(start=0.001, end=0.001, warmup_steps=9, steps=30),
            decayed=("kernel", "table"),
            clipping=Clipping("global_norm", 0.75),
        ),
        schedule=Shuffled(batch_size=8, seed=3),
        epochs=4,
        metrics=(Metric("test_loss", "test", loss_of_rows),),
        display=Display(note="beyond the documents; trained on the story that comes with the project"),
        blocks=dict.fromkeys(QKV, ("query", "key", "value")),
    ),
)
