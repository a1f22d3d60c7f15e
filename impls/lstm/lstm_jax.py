"""A classifier of padded sequences in raw JAX: an LSTM in torch's form, ``lax.scan`` over the steps of a batch."""

import jax
import jax.numpy as jnp
from jax import lax

from parity.layout import Slot
from parity.spec import Case
from parity.trainers.jax_trainer import Arrays, JaxTrainer

LAYOUT = (
    Slot("embedding/table", "table"),
    Slot("lstm/input_kernel", "input_kernel"),
    Slot("lstm/recurrent_kernel", "recurrent_kernel"),
    Slot("lstm/input_bias", "input_bias"),
    Slot("lstm/recurrent_bias", "recurrent_bias"),
    Slot("dense/kernel", "dense_kernel"),
    Slot("dense/bias", "dense_bias"),
)

State = tuple[jax.Array, jax.Array]


def forward(params: Arrays, x: jax.Array) -> jax.Array:
    words = x.T  # (n, T) -> (T, n)
    embedded = params["table"][words]  # (T, n) -> (T, n, E)
    inputs = embedded @ params["input_kernel"] + params["input_bias"]  # (T, n, E) -> (T, n, 4H)

    def step(state: State, now: tuple[jax.Array, jax.Array]) -> tuple[State, None]:
        (h, c), (row, counts) = state, now
        sums = row + (h @ params["recurrent_kernel"] + params["recurrent_bias"])  # (n, H) -> (n, 4H)
        i, f, g, o = jnp.split(sums, 4, -1)  # (n, 4H) -> 4 of (n, H)
        new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        out = jax.nn.sigmoid(o) * jnp.tanh(new)
        return (jnp.where(counts, out, h), jnp.where(counts, new, c)), None

    zeros = jnp.zeros((len(x), len(params["recurrent_kernel"])), embedded.dtype)
    (last, _), _ = lax.scan(step, (zeros, zeros), (inputs, words[..., None] != 0))  # (T, n, 4H) -> (n, H)
    return last @ params["dense_kernel"] + params["dense_bias"]  # (n, H) -> (n, classes)


def build(case: Case, dtype: str, device: str) -> JaxTrainer:
    return JaxTrainer(case, dtype, device, LAYOUT, forward)
