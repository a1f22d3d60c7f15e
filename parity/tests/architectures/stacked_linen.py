"""The language model of ``stacked_torch`` in flax linen: one block, scanned over its depth, and optax."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

WORDS, WIDTH, HEADS, DEPTH, LENGTH, RATE, DECAY = 13, 16, 2, 3, 8, 0.01, 0.01


class Block(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x, _):
        own, m = {"dtype": self.dtype, "param_dtype": self.dtype}, self.mistake
        b, t, _ = x.shape
        y = nn.LayerNorm(epsilon=1e-5, name="ln_1", **own)(x)
        q, k, v = (z.reshape(b, t, HEADS, -1) for z in jnp.split(nn.Dense(3 * WIDTH, name="attn", **own)(y), 3, -1))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(WIDTH if m == "scale" else WIDTH // HEADS)
        if m != "mask":
            scores = jnp.where(jnp.tril(jnp.ones((t, t), bool)), scores, -1e9)
        scores = nn.softmax(scores, -2 if m == "softmax-axis" else -1)
        y = jnp.einsum("bhqk,bkhd->bqhd", scores, v).reshape(b, t, WIDTH)
        y = nn.Dense(WIDTH, name="proj", **own)(y)
        x = y if m == "residual" else x + y
        y = nn.LayerNorm(epsilon=1e-3 if m == "norm-epsilon" else 1e-5, name="ln_2", **own)(x)
        y = nn.Dense(2 * WIDTH, name="fc", **own)(y)
        y = nn.silu(y) if m == "activation" else nn.gelu(y, approximate=False)
        return x + nn.Dense(WIDTH, name="out", **own)(y), None


class Model(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, words):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        embed = nn.Embed(WORDS, WIDTH, name="wte", **own)
        x = embed(words) + nn.Embed(LENGTH, WIDTH, name="wpe", **own)(jnp.arange(words.shape[1]))
        blocks = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=DEPTH)
        x, _ = blocks(self.dtype, self.mistake, name="blocks")(x, None)
        return embed.attend(nn.LayerNorm(epsilon=1e-5, name="ln_f", **own)(x))


MISTAKES = {
    "norm-epsilon": "blocks/ln_2",
    "scale": "blocks/proj",
    "mask": "blocks/proj",
    "softmax-axis": "blocks/proj",
    "residual": "blocks/ln_2",
    "activation": "blocks/out",
}


def carry(weights: dict[str, Any]) -> dict[str, Any]:
    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def dense(name):
        return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

    blocks = [
        {name: (norm if name.startswith("ln") else dense)(f"h.{k}.{name}")
         for name in ("ln_1", "ln_2", "attn", "proj", "fc", "out")}
        for k in range(DEPTH)
    ]  # fmt: skip
    params = {"blocks": jax.tree.map(lambda *leaves: np.stack(leaves), *blocks), "ln_f": norm("ln_f")}
    params |= {name: {"embedding": weights[f"{name}.weight"]} for name in ("wte", "wpe")}
    return jax.tree.map(jnp.asarray, params)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model, optimizer = Model(dtype, mistake), optax.adamw(RATE, weight_decay=DECAY)
    params = carry(weights)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, x, y):
        def loss_of(params):
            return optax.softmax_cross_entropy_with_integer_labels(model.apply({"params": params}, x), y).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for batch in batches:
            params, state, loss = run.step(update, params, state, *map(jnp.asarray, batch))
            losses.append(float(loss))
    return losses
