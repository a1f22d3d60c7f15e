"""A character model as a flax (linen) module, with a GRU cell of its own under ``nn.RNN``.

``nn.GRUCell`` has the same forward pass, but one bias each for r and z where torch has two, whose sum moves twice as
far under an optimizer step. ``nnx.GRUCell`` lacks the hidden bias of n. So the cell here keeps both biases of all
three gates, in a dense layer for the inputs and one for the hidden part.
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
    Slot("gru/input_kernel", "input/kernel"),
    Slot("gru/recurrent_kernel", "gru/hidden/kernel"),
    Slot("gru/input_bias", "input/bias"),
    Slot("gru/recurrent_bias", "gru/hidden/bias"),
    Slot("gru/initial_state", "initial_state"),
    Slot("dense/kernel", "dense/kernel"),
    Slot("dense/bias", "dense/bias"),
)


class Cell(nn.RNNCellBase):
    size: int

    @nn.compact
    def __call__(self, h: jax.Array, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = nn.Dense(3 * self.size, dtype=h.dtype, param_dtype=h.dtype, name="hidden")(h)  # (H,) -> (3H,)
        input_r, input_z, input_n = jnp.split(inputs, 3)
        hidden_r, hidden_z, hidden_n = jnp.split(hidden, 3)
        r, z = nn.sigmoid(input_r + hidden_r), nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        h = (1 - z) * n + z * h
        return h, h

    def initialize_carry(self, rng: jax.Array, input_shape: tuple[int, ...]) -> jax.Array:
        raise NotImplementedError("the state to start from is given")

    @property
    def num_feature_axes(self) -> int:
        return 1


class CharGru(nn.Module):
    characters: int
    size: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kinds = {"dtype": self.dtype, "param_dtype": self.dtype}
        embedded = nn.Embed(self.characters, self.size, name="embedding", **kinds)(x)  # (T,) -> (T, H)
        inputs = nn.Dense(3 * self.size, name="input", **kinds)(embedded)  # (T, H) -> (T, 3H)
        gru = nn.RNN(Cell(self.size, name="gru"))
        states = gru(inputs, initial_carry=jnp.zeros(self.size, self.dtype))  # (T, 3H) -> (T, H)
        return nn.Dense(self.characters, name="dense", **kinds)(states)  # (T, H) -> (T, characters)


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    table = params["embedding/embedding"]
    return CharGru(*table.shape, table.dtype).apply({"params": unflatten_dict(params, sep="/")}, x)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward, unused=("initial_state",))
