"""A classifier of padded sequences as a flax nnx module, with an LSTM cell of its own under ``nnx.RNN``.

``nnx.LSTMCell`` has the same forward pass, but one bias where torch has two, whose sum moves twice as far under an
optimizer step. So the cell here keeps both, in a linear layer for the inputs and one for the hidden part.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from parity import Trainer
from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_nnx_trainer import nnx_trainer

LAYOUT = (
    Slot("embedding/table", "embedding/embedding"),
    Slot("lstm/input_kernel", "lstm/cell/input/kernel"),
    Slot("lstm/recurrent_kernel", "lstm/cell/hidden/kernel"),
    Slot("lstm/input_bias", "lstm/cell/input/bias"),
    Slot("lstm/recurrent_bias", "lstm/cell/hidden/bias"),
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)

State = tuple[jax.Array, jax.Array]


class Cell(nnx.RNNCellBase):
    num_feature_axes = 1

    def __init__(self, width: int, size: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.input = nnx.Linear(width, 4 * size, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.hidden = nnx.Linear(size, 4 * size, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def __call__(self, state: State, x: jax.Array) -> tuple[State, jax.Array]:
        h, c = state
        sums = self.input(x) + self.hidden(h)  # (n, E), (n, H) -> (n, 4H)
        i, f, g, o = jnp.split(sums, 4, -1)  # (n, 4H) -> 4 of (n, H)
        c = nnx.sigmoid(f) * c + nnx.sigmoid(i) * jnp.tanh(g)
        h = nnx.sigmoid(o) * jnp.tanh(c)
        return (h, c), h


class Lstm(nnx.Module):
    def __init__(self, words: int, width: int, hidden: int, classes: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> None:
        self.size = hidden
        self.embedding = nnx.Embed(words, width, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.lstm = nnx.RNN(Cell(width, hidden, dtype, rngs), return_carry=True, rngs=False)
        self.dense = nnx.Linear(hidden, classes, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        embedded = self.embedding(x)  # (n, T) -> (n, T, E)
        zeros = jnp.zeros((len(x), self.size), embedded.dtype)
        (last, _), _ = self.lstm(
            embedded, initial_carry=(zeros, zeros), seq_lengths=jnp.count_nonzero(x, -1)
        )  # (n, T, E) -> (n, H)
        return self.dense(last)  # (n, H) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> Trainer:
    initial = case.initial()
    (words, width), (hidden, classes) = initial["embedding/table"].shape, initial["dense/kernel"].shape
    kind = jnp.dtype(dtype)
    return nnx_trainer(case, dtype, device, LAYOUT, lambda: Lstm(words, width, hidden, classes, kind, nnx.Rngs(0)))
