"""A small GPT in NumPy, forward and backward by hand."""

from typing import Any, NamedTuple

import numpy as np

from parity import nn
from parity.nn import attention
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer

HEADS, EPSILON = 2, 1e-5


class Cache(NamedTuple):
    """The values of a block that ``backward`` needs: (batch, T, C), but ``up`` and ``hidden`` are (batch, T, 4C)."""

    x: Array
    normal1: Array
    qkv: tuple[Array, ...]
    mixed: Array
    h: Array
    normal2: Array
    up: Array
    hidden: Array


def layer(params: Params, name: str) -> tuple[Array, Array]:
    return params[f"{name}/kernel"], params[f"{name}/bias"]


def norm(params: Params, name: str, x: Array) -> Array:
    return nn.layer_norm(x, params[f"{name}/scale"], params[f"{name}/bias"], epsilon=EPSILON)


def block(params: Params, name: str, x: Array) -> tuple[Array, Cache]:
    normal1 = norm(params, f"{name}/norm1", x)
    joined = nn.dense(normal1, params[f"{name}/attention/kernel"])  # (batch, T, C) -> (batch, T, 3C)
    heads = joined.reshape(*x.shape[:2], 3, HEADS, -1)  # (batch, T, 3C) -> (batch, T, 3, heads, C / heads)
    qkv = tuple(np.moveaxis(heads, 2, 0))
    mixed = attention.attention(*qkv, causal=True).reshape(x.shape)  # (batch, T, heads, C / heads) -> (batch, T, C)
    h = x + nn.dense(mixed, *layer(params, f"{name}/projection"))
    normal2 = norm(params, f"{name}/norm2", h)
    up = nn.dense(normal2, *layer(params, f"{name}/up"))  # (batch, T, C) -> (batch, T, 4C)
    hidden = nn.gelu_tanh(up)
    out = h + nn.dense(hidden, *layer(params, f"{name}/down"))  # (batch, T, 4C) -> (batch, T, C)
    return out, Cache(x, normal1, qkv, mixed, h, normal2, up, hidden)


def forward(params: Params, x: Array) -> tuple[Array, Any]:
    token, position = params["token/table"], params["position/table"]
    h = nn.embedding(x, token) + position[: x.shape[1]]  # (batch, T) -> (batch, T, C)
    h, cache1 = block(params, "block1", h)
    h, cache2 = block(params, "block2", h)
    normal = norm(params, "norm", h)
    return normal @ token.T, (x, cache1, cache2, h, normal)  # (batch, T, C) -> (batch, T, characters)


class Gradients(dict[str, Array]):
    """Collects the gradients of a layer's parameters, and gives that of its input."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.params = params

    def dense(self, name: str, d_output: Array, x: Array) -> Array:
        kernel = self.params[f"{name}/kernel"]
        d_x, self[f"{name}/kernel"], self[f"{name}/bias"] = nn.dense_backward(d_output, x, kernel)
        return d_x

    def norm(self, name: str, d_output: Array, x: Array) -> Array:
        scale = self.params[f"{name}/scale"]
        back = nn.layer_norm_backward(d_output, x, scale, epsilon=EPSILON)
        d_x, self[f"{name}/scale"], self[f"{name}/bias"] = back
        return d_x

    def block(self, name: str, d_output: Array, cache: Cache) -> Array:
        d_hidden = self.dense(f"{name}/down", d_output, cache.hidden)  # (batch, T, C) -> (batch, T, 4C)
        d_up = nn.gelu_tanh_backward(d_hidden, cache.up)
        d_normal2 = self.dense(f"{name}/up", d_up, cache.normal2)  # (batch, T, 4C) -> (batch, T, C)
        d_h = d_output + self.norm(f"{name}/norm2", d_normal2, cache.h)
        d_mixed = self.dense(f"{name}/projection", d_h, cache.mixed)
        # (batch, T, C) -> three of (batch, T, heads, C / heads)
        d_qkv = attention.attention_backward(d_mixed.reshape(cache.qkv[0].shape), *cache.qkv, causal=True)
        d_joined = np.stack(d_qkv, 2).reshape(*d_mixed.shape[:2], -1)  # (batch, T, 3C)
        kernel = self.params[f"{name}/attention/kernel"]
        d_normal1, self[f"{name}/attention/kernel"], _ = nn.dense_backward(d_joined, cache.normal1, kernel)
        return d_h + self.norm(f"{name}/norm1", d_normal1, cache.x)


def backward(params: Params, cache: Any, d_logits: Array) -> Params:
    x, cache1, cache2, h, normal = cache
    token = params["token/table"]
    found = Gradients(params)
    d_normal, d_head, _ = nn.dense_backward(d_logits, normal, token.T)  # (batch, T, characters) -> (batch, T, C)
    d_h = found.norm("norm", d_normal, h)
    d_h = found.block("block2", d_h, cache2)
    d_h = found.block("block1", d_h, cache1)
    found["token/table"] = nn.embedding_backward(d_h, x, token) + d_head.T  # the head is the table
    d_position = np.zeros_like(params["position/table"])
    d_position[: x.shape[1]] = d_h.sum(0)  # (batch, T, C) -> (T, C)
    return {**found, "position/table": d_position}


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
