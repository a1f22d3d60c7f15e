"""The field's models in flax linen, as a user writes them."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from parity.proving.field.setup import HEADS, HIDDEN, LENGTH, MAPS, OUTPUTS, SIDE, WIDTH, WORDS, Setup, turns
from parity.typing import Params


def activation_of(setup: Setup) -> Any:
    if setup.activation == "leaky":
        return lambda x: nn.leaky_relu(x, setup.slope)
    if setup.activation == "relu":
        return nn.relu
    if setup.activation.startswith("gelu"):
        return lambda x: nn.gelu(x, approximate=setup.activation == "gelu-tanh")
    return nn.tanh


class Model(nn.Module):
    """What all models here know."""

    chosen: Setup = Setup()
    dtype: str = "float32"

    @property
    def own(self) -> dict[str, str]:
        return {"dtype": self.dtype, "param_dtype": self.dtype}


class Perceptron(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:  # (batch, inputs)
        x = activation_of(self.chosen)(nn.Dense(HIDDEN, name="hidden", **self.own)(x))
        logits = nn.Dense(OUTPUTS, name="head", **self.own)(x)
        return nn.softmax(logits) if self.chosen.softmax else logits


class Normalized(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.Dense(HIDDEN, name="hidden", **self.own)(x)
        if self.chosen.norm == "batch":
            kept = 1 - self.chosen.norm_momentum
            frozen = self.chosen.norm_frozen
            x = nn.BatchNorm(frozen, momentum=kept, epsilon=self.chosen.norm_epsilon, name="norm", **self.own)(x)
        elif self.chosen.norm == "group":
            x = nn.GroupNorm(self.chosen.norm_groups, epsilon=self.chosen.norm_epsilon, name="norm", **self.own)(x)
        elif self.chosen.norm == "rms":
            x = RmsNorm(self.chosen, self.dtype, name="norm")(x)
        else:
            x = nn.LayerNorm(self.chosen.norm_epsilon, name="norm", **self.own)(x)
        return nn.Dense(OUTPUTS, name="head", **self.own)(nn.tanh(x))


class RmsNorm(Model):
    """An RMS norm as people write it, whose scale is kept less one."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        scale, bias = (self.param(name, nn.initializers.zeros, (HIDDEN,), self.dtype) for name in ("scale", "bias"))
        x = x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + self.chosen.norm_epsilon)
        return x * (1 + scale if self.chosen.norm_offset else scale) + bias


class Bottleneck(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:  # (batch, side, side, channels)
        strides, dilation = (2, 1) if self.chosen.strided == "first" else (1, 2), self.chosen.dilation
        x = nn.tanh(nn.Conv(MAPS, (1, 1), strides[0], use_bias=False, name="first", **self.own)(x))
        second = nn.Conv(
            MAPS, (3, 3), strides[1], dilation, kernel_dilation=dilation, use_bias=False, name="second", **self.own
        )
        return nn.Dense(OUTPUTS, name="head", **self.own)(nn.tanh(second(x)).mean((1, 2)))


class Convolutional(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:  # (batch, side, side, channels)
        padding: Any = "SAME" if self.chosen.padding == "same" else 1
        x = nn.tanh(nn.Conv(MAPS, (3, 3), 2, padding, name="conv", **self.own)(x))
        if self.chosen.pooling == "average":
            x = nn.avg_pool(x, (3, 3), (1, 1), ((1, 1), (1, 1)), count_include_pad=self.chosen.counted)
        if self.chosen.flatten == "chw":
            x = x.transpose(0, 3, 1, 2)
        return nn.Dense(OUTPUTS, name="head", **self.own)(x.reshape(len(x), -1))


class Resized(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        side = SIDE + 4 if self.chosen.resize in ("corners", "centres") else SIDE - 3
        shape = (len(x), side, side, x.shape[-1])
        x = jax.image.resize(x, shape, "bilinear", antialias=self.chosen.resize == "antialias")
        x = nn.tanh(nn.Conv(MAPS, (3, 3), padding="VALID", name="conv", **self.own)(x))
        return nn.Dense(OUTPUTS, name="head", **self.own)(x.mean((1, 2)))


def sinusoids(setup: Setup) -> Any:
    """The positions (length, width), sines and cosines one after the other or in halves."""
    parts = turns(WIDTH)
    return np.concatenate(parts, -1) if setup.positions == "halves" else np.stack(parts, -1).reshape(LENGTH, WIDTH)


def rotated(x: Any, setup: Setup) -> Any:
    """Turn pairs of features of each head (batch, length, head, features) by their position."""
    sine, cosine = (part[:, None].astype(x.dtype) for part in turns(x.shape[-1]))
    if setup.positions == "rotary-halves":
        one, other = jnp.split(x, 2, -1)
        return jnp.concatenate((one * cosine - other * sine, other * cosine + one * sine), -1)
    one, other = x[..., ::2], x[..., 1::2]
    return jnp.stack((one * cosine - other * sine, other * cosine + one * sine), -1).reshape(x.shape)


class Attention(Model):
    @nn.compact
    def __call__(self, x: Any) -> Any:  # (batch, length, width)
        def projected(name: str) -> Any:
            return nn.Dense(WIDTH, use_bias=False, name=name, **self.own)

        q, k, v = (projected(n)(x).reshape(*x.shape[:2], HEADS, -1) for n in ("query", "key", "value"))
        if self.chosen.positions.startswith("rotary"):
            q, k = rotated(q, self.chosen), rotated(k, self.chosen)
        sizes = {"head": WIDTH // HEADS, "width": WIDTH, "none": 1}
        scores = jnp.einsum("bqhf,bkhf->bhqk", q, k) / math.sqrt(sizes[self.chosen.scale])
        seen = np.tri(LENGTH, dtype=bool)
        if self.chosen.mask == "inverted":
            seen = ~seen | np.eye(LENGTH, dtype=bool)
        if self.chosen.mask != "missing":
            scores = jnp.where(seen, scores, -1e9)
        mixed = jnp.einsum("bhqk,bkhf->bqhf", nn.softmax(scores), v).reshape(x.shape)
        return projected("joined")(mixed)


class Transformer(Model):
    @nn.compact
    def __call__(self, words: Any) -> Any:  # (batch, length)
        embedding = nn.Embed(WORDS, WIDTH, name="embedding", **self.own)
        x = embedding(words)
        if not self.chosen.padding_trained:
            x = jnp.where((words == 0)[..., None], jax.lax.stop_gradient(x), x)
        if self.chosen.embedding_scaled:
            x = x * math.sqrt(WIDTH)
        if self.chosen.positions in ("interleaved", "halves"):
            x = x + sinusoids(self.chosen).astype(x.dtype)
        norm = nn.LayerNorm(self.chosen.norm_epsilon, name="norm", **self.own)
        attention = Attention(self.chosen, self.dtype, name="attention")
        x = x + attention(norm(x)) if self.chosen.norm_order == "before" else norm(x + attention(x))
        x = x + activation_of(self.chosen)(nn.Dense(WIDTH, name="hidden", **self.own)(x))
        if self.chosen.tied:
            return embedding.attend(x)
        return nn.Dense(WORDS, use_bias=False, name="head", **self.own)(x)  # (batch, length, words)


class Recurrent(Model):
    """A cell written by hand, whose gates lie in one matrix."""

    @nn.compact
    def __call__(self, x: Any) -> Any:  # (batch, length, inputs)
        gates = 4 if self.chosen.cell == "lstm" else 3

        def weight(name: str, *shape: int) -> Any:
            return self.param(name, nn.initializers.zeros, shape, self.dtype)

        taken = weight("cell_input", x.shape[-1], gates * HIDDEN), weight("cell_bias", gates * HIDDEN)
        kept = weight("cell_recurrent", HIDDEN, gates * HIDDEN)
        second: Any = weight("cell_recurrent_bias", gates * HIDDEN) if gates == 3 else 0.0
        h = c = jnp.zeros((len(x), HIDDEN), self.dtype)
        for step in range(x.shape[1]):
            ours, theirs = x[:, step] @ taken[0] + taken[1], h @ kept + second
            if gates == 4:
                parts = dict(zip(self.chosen.gates, jnp.split(ours + theirs, 4, -1), strict=True))
                c = nn.sigmoid(parts["f"]) * c + nn.sigmoid(parts["i"]) * jnp.tanh(parts["g"])
                h = nn.sigmoid(parts["o"]) * jnp.tanh(c)
                continue
            (r, z, n), (hr, hz, hn) = jnp.split(ours, 3, -1), jnp.split(theirs, 3, -1)
            r, z = nn.sigmoid(r + hr), nn.sigmoid(z + hz)
            if not self.chosen.reset_after:
                hn = (r * h) @ kept[:, 2 * HIDDEN :] + second[2 * HIDDEN :]
            h = (1 - z) * jnp.tanh(n + (r * hn if self.chosen.reset_after else hn)) + z * h
        return nn.Dense(OUTPUTS, name="head", **self.own)(h)


MODELS = {
    "perceptron": Perceptron,
    "normalized": Normalized,
    "convolutional": Convolutional,
    "bottleneck": Bottleneck,
    "resized": Resized,
    "transformer": Transformer,
    "recurrent": Recurrent,
}


def build(setup: Setup, dtype: str) -> nn.Module:
    """Make the model that a run trains.

    Args:
        setup: The run's options.
        dtype: The run's.
    """
    return MODELS[setup.model](setup, dtype)


def placed(setup: Setup, weights: Params) -> dict[str, Any]:
    """Nest canonical tensors as the model of a run has its parameters.

    Args:
        setup: The run's options.
        weights: Canonical tensors by name.
    """
    tree: dict[str, Any] = {}
    for name, value in weights.items():
        layer, role = name.split("/")
        if layer == "cell":
            tree[f"cell_{role}"] = jnp.asarray(value)
            continue
        place = tree.setdefault("attention", {}) if layer in ("query", "key", "value", "joined") else tree
        place.setdefault(layer, {})["embedding" if role == "table" else role] = jnp.asarray(value)
    if setup.model == "transformer" and not setup.tied:
        tree["head"] = {"kernel": jnp.asarray(weights["embedding/table"].T)}
    return tree
