"""The MobileNet of ``mobile_torch`` as its porter wrote it in flax linen, with optax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

CLASSES, RATE, MOMENTUM = 5, 0.05, 0.9


class Inverted(nn.Module):
    outputs: int
    stride: int
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x):  # (batch, row, column, channel)
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        wide = 2 * x.shape[-1]
        y = nn.Conv(wide, (1, 1), use_bias=False, **own)(x)
        y = nn.relu6(nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, **own)(y))
        y = nn.Conv(wide, (3, 3), self.stride, padding=1, feature_group_count=wide, use_bias=False, **own)(y)
        y = nn.BatchNorm(False, momentum=0.9, epsilon=1e-3 if self.mistake == "norm-epsilon" else 1e-5, **own)(y)
        y = nn.silu(y) if self.mistake == "activation" else nn.relu6(y)
        y = nn.Conv(self.outputs, (1, 1), use_bias=False, **own)(y)
        y = nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, **own)(y)
        if self.stride == 1 and x.shape == y.shape and self.mistake != "residual":
            y = x + y
        return y


class Mobile(nn.Module):
    dtype: Any
    mistake: str = ""

    @nn.compact
    def __call__(self, x):
        own = {"dtype": self.dtype, "param_dtype": self.dtype}
        x = nn.Conv(8, (3, 3), 2, padding="SAME" if self.mistake == "padding" else 1, use_bias=False, **own)(x)
        x = nn.relu6(nn.BatchNorm(False, momentum=0.9, epsilon=1e-5, **own)(x))
        x = Inverted(8, 1, self.dtype, self.mistake if self.mistake in ("residual", "norm-epsilon") else "")(x)
        x = Inverted(12, 2, self.dtype, self.mistake if self.mistake == "activation" else "")(x)
        x = Inverted(12, 1, self.dtype)(x)
        if self.mistake == "groups":
            x = x.reshape(*x.shape[:-1], 4, 3).swapaxes(-1, -2).reshape(x.shape)
        x = nn.Conv(16, (3, 3), padding=1, feature_group_count=4, **own)(x)
        x = nn.BatchNorm(False, momentum=0.1 if self.mistake == "norm-momentum" else 0.9, epsilon=1e-5, **own)(x)
        x = nn.avg_pool(nn.silu(x), (3, 3), padding="SAME", count_include_pad=self.mistake == "pool-borders")
        x = nn.Dropout(0.2 if self.mistake == "dropout" else 0.0, deterministic=False)(x.mean((1, 2)))
        return nn.Dense(CLASSES, **own)(x)


MISTAKES = {
    "norm-epsilon": "Inverted_0/BatchNorm_1",
    "residual": "Inverted_0",
    "activation": "relu",
    "padding": "Conv_0",
    "groups": "Conv_1",
    "pool-borders": "avg_pool",
    "dropout": "Dropout_0",
    "norm-momentum": "BatchNorm_1",
}


def carry(weights: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    def conv(name, bias=False):
        found = {"kernel": weights[f"{name}.weight"].transpose(2, 3, 1, 0)}
        return found | ({"bias": weights[f"{name}.bias"]} if bias else {})

    def norm(name):
        return {"scale": weights[f"{name}.weight"], "bias": weights[f"{name}.bias"]}

    def statistics(name):
        return {"mean": weights[f"{name}.running_mean"], "var": weights[f"{name}.running_var"]}

    parts = ("expand", "depthwise", "project")
    params = {"Conv_0": conv("stem.0"), "BatchNorm_0": norm("stem.1"), "Conv_1": conv("mix", True)}
    params |= {"BatchNorm_1": norm("mix_norm")}
    params |= {"Dense_0": {"kernel": weights["classifier.weight"].T, "bias": weights["classifier.bias"]}}
    stats = {"BatchNorm_0": statistics("stem.1"), "BatchNorm_1": statistics("mix_norm")}
    for k in range(3):
        params[f"Inverted_{k}"] = {
            f"{kind}_{n}": made(f"blocks.{k}.{part}.{at}")
            for n, part in enumerate(parts)
            for at, kind, made in ((0, "Conv", conv), (1, "BatchNorm", norm))
        }
        stats[f"Inverted_{k}"] = {f"BatchNorm_{n}": statistics(f"blocks.{k}.{part}.1") for n, part in enumerate(parts)}
    return jax.tree.map(jnp.asarray, (params, stats))


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model, optimizer = Mobile(dtype, mistake), optax.sgd(RATE, MOMENTUM)
    params, stats = carry(weights)
    state = optimizer.init(params)

    @jax.jit
    def update(params, stats, state, x, y):
        def loss_of(params):
            logits, changed = model.apply(
                {"params": params, "batch_stats": stats},
                x,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(3)},
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), changed["batch_stats"]

        (loss, stats), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), stats, state, loss

    losses = []
    with watch(params, stats, state) as run:
        for images, labels in batches:
            params, stats, state, loss = run.step(
                update, params, stats, state, jnp.asarray(images), jnp.asarray(labels)
            )
            losses.append(float(loss))
    return losses
