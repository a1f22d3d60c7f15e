"""A classifier of padded sequences as a flax (linen) module, with an LSTM cell of its own under ``nn.RNN``.

``nn.LSTMCell`` has the same forward pass, but one bias where torch has two, whose sum moves twice as far under an
optimizer step. So the cell here keeps both, in a dense layer for the inputs and one for the hidden part.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("embedding/table", "embedding/embedding"),
    Slot("lstm/input_kernel", "lstm/input/kernel"),
    Slot("lstm/recurrent_kernel", "lstm/hidden/kernel"),
    Slot("lstm/input_bias", "lstm/input/bias"),
    Slot("lstm/recurrent_bias", "lstm/hidden/bias"),
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)

State = tuple[jax.Array, jax.Array]


class Cell(nn.RNNCellBase):
    size: int

    @nn.compact
    def __call__(self, state: State, x: jax.Array) -> tuple[State, jax.Array]:
        h, c = state
        inputs = nn.Dense(4 * self.size, dtype=x.dtype, param_dtype=x.dtype, name="input")(x)  # (n, E) -> (n, 4H)
        hidden = nn.Dense(4 * self.size, dtype=x.dtype, param_dtype=x.dtype, name="hidden")(h)  # (n, H) -> (n, 4H)
        i, f, g, o = jnp.split(inputs + hidden, 4, -1)  # (n, 4H) -> 4 of (n, H)
        c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
        h = nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> State:
        raise NotImplementedError("the state to start from is given")

    @property
    def num_feature_axes(self) -> int:
        return 1


class Lstm(nn.Module):
    words: int
    width: int
    hidden: int
    classes: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.dtype}
        embedded = nn.Embed(self.words, self.width, name="embedding", **kinds)(x)  # (n, T) -> (n, T, E)
        zeros = jnp.zeros((len(x), self.hidden), self.dtype)
        lstm = nn.RNN(Cell(self.hidden, name="lstm"), return_carry=True)
        (last, _), _ = lstm(
            embedded, initial_carry=(zeros, zeros), seq_lengths=jnp.count_nonzero(x, -1)
        )  # (n, T, E) -> (n, H)
        return nn.Dense(self.classes, name="dense", **kinds)(last)  # (n, H) -> (n, classes)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    table = params["embedding/embedding"]
    model = Lstm(*table.shape, *params["dense/kernel"].shape, table.dtype)
    return model.apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
