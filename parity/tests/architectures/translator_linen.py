"""The translator of ``translator_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

WORDS, WIDTH, HEADS, LENGTH, RATE, MOMENTUM = 13, 16, 4, 7, 0.1, 0.9


def wrong_axis(query, key, value, mask=None, **_):
    """Attention whose weights sum to one over the queries."""
    scores = jnp.einsum("bqhd,bkhd->bhqk", query / math.sqrt(query.shape[-1]), key)
    scores = scores if mask is None else jnp.where(mask, scores, -1e9)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-2), value)


def wrong_scale(query, key, value, mask=None, **_):
    return nn.dot_product_attention(query / math.sqrt(HEADS), key, value, mask=mask)


class Feed(nn.Module):
    dtype: Any
    approximate: bool = False

    @nn.compact
    def __call__(self, x):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        return nn.Dense(WIDTH, **own)(nn.gelu(nn.Dense(2 * WIDTH, **own)(x), approximate=self.approximate))


class Encoder(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x, there):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        fn = wrong_axis if self.mistake == "softmax-axis" else nn.dot_product_attention
        y = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, **own)(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, attention_fn=fn, **own)(y, mask=there)
        y = nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, **own)(x)
        return x + Feed(self.dtype, self.mistake == "activation")(y)


class Decoder(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x, memory, there):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        causal = None if self.mistake == "mask" else nn.make_causal_mask(jnp.ones(x.shape[:2]))
        there = None if self.mistake == "padding-mask" else there
        fn = wrong_scale if self.mistake == "scale" else nn.dot_product_attention
        y = nn.LayerNorm(epsilon=1e-5, **own)(x)
        x = x + nn.MultiHeadDotProductAttention(HEADS, **own, name="itself")(y, mask=causal)
        y = nn.LayerNorm(epsilon=1e-3 if self.mistake == "norm-epsilon" else 1e-5, **own)(x)
        y = nn.MultiHeadDotProductAttention(HEADS, attention_fn=fn, **own, name="cross")(y, memory, mask=there)
        x = y if self.mistake == "residual" else x + y
        y = Feed(self.dtype)(nn.LayerNorm(epsilon=1e-5, **own)(x))
        return x + nn.Dropout(0.2 if self.mistake == "dropout" else 0.0, deterministic=False)(y)


class Translator(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, source, target):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        there = (source != 0)[:, None, None, :]  # (batch, head, query, key)
        places = nn.Embed(LENGTH, WIDTH, name="places", **own)(jnp.arange(LENGTH))
        embedded = nn.Embed(WORDS, WIDTH, name="source", **own)(source) * math.sqrt(WIDTH) + places
        memory = Encoder(self.dtype, self.mistake)(embedded, there)
        memory = embedded if self.mistake == "memory" else memory
        x = nn.Embed(WORDS, WIDTH, name="target", **own)(target) * math.sqrt(WIDTH) + places
        x = Decoder(self.dtype, self.mistake)(x, memory, there)
        return nn.Dense(WORDS, **own)(nn.LayerNorm(epsilon=1e-5, **own)(x))


MISTAKES = {
    "activation": "gelu",
    "norm-epsilon": "Decoder_0/LayerNorm_1",
    "mask": "Decoder_0/itself",
    "padding-mask": "Decoder_0/cross",
    "scale": "Decoder_0/cross",
    "softmax-axis": "Encoder_0/MultiHeadDotProductAttention_0",
    "residual": "Decoder_0/LayerNorm_2",
    "memory": "Decoder_0/cross",
    "dropout": "Decoder_0/Dropout_0",
}


def carry(weights: dict[str, Any]) -> dict[str, Any]:
    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def dense(name):
        return {"kernel": weights[f"{name}.weight"].T, "bias": weights[f"{name}.bias"]}

    def attention(name):
        kernels, biases = np.split(weights[f"{name}.in_proj_weight"], 3), np.split(weights[f"{name}.in_proj_bias"], 3)
        found = {
            own: {"kernel": kernel.T.reshape(WIDTH, HEADS, -1), "bias": bias.reshape(HEADS, -1)}
            for own, kernel, bias in zip(("query", "key", "value"), kernels, biases, strict=True)
        }
        out = dense(f"{name}.out_proj")
        return found | {"out": {"kernel": out["kernel"].reshape(HEADS, -1, WIDTH), "bias": out["bias"]}}

    def feed(name):
        return {"Dense_0": dense(f"{name}.down"), "Dense_1": dense(f"{name}.up")}  # the outer one is made first

    params = {
        **{name: {"embedding": weights[f"{name}.weight"]} for name in ("source", "target", "places")},
        "Encoder_0": {
            "MultiHeadDotProductAttention_0": attention("encoder.attention"),
            "LayerNorm_0": norm("encoder.norm1"),
            "LayerNorm_1": norm("encoder.norm2"),
            "Feed_0": feed("encoder.feed"),
        },
        "Decoder_0": {
            "itself": attention("decoder.itself"),
            "cross": attention("decoder.cross"),
            "Feed_0": feed("decoder.feed"),
            **{f"LayerNorm_{k}": norm(f"decoder.norm{k + 1}") for k in range(3)},
        },
        "LayerNorm_0": norm("norm"),
        "Dense_0": dense("head"),
    }
    return jax.tree.map(jnp.asarray, params)


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model, optimizer = Translator(dtype, mistake), optax.sgd(RATE, MOMENTUM)
    params = carry(weights)
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, source, target, goal):
        def loss_of(params):
            logits = model.apply({"params": params}, source, target, rngs={"dropout": jax.random.key(3)})
            return optax.softmax_cross_entropy_with_integer_labels(logits, goal).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    losses = []
    with watch(params, state) as run:
        for batch in batches:
            params, state, loss = run.step(update, params, state, *map(jnp.asarray, batch))
            losses.append(float(loss))
    return losses
