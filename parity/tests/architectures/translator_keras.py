"""The translator of ``translator_torch`` as its porter wrote it in Keras, as subclassed layers."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

WORDS, WIDTH, HEADS, LENGTH, RATE, MOMENTUM = 13, 16, 4, 7, np.float64(0.1), np.float64(0.9)


class Scaled(layers.MultiHeadAttention):
    """Divides by the root of the whole width."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._inverse_sqrt_key_dim = 1 / math.sqrt(WIDTH)


class Translator(keras.Model):
    def __init__(self, mistake: str = "") -> None:
        super().__init__(name="translator")
        self.mistake = mistake
        self.source = layers.Embedding(WORDS, WIDTH, name="source")
        self.target = layers.Embedding(WORDS, WIDTH, name="target")
        self.places = layers.Embedding(LENGTH, WIDTH, name="places")
        for name in ("encoder_attention", "decoder_self", "decoder_cross"):
            kind = Scaled if mistake == "scale" and name == "decoder_cross" else layers.MultiHeadAttention
            setattr(self, name, kind(HEADS, WIDTH // HEADS, name=name))
        for name in ("encoder_norm1", "encoder_norm2", "decoder_norm1", "decoder_norm2", "decoder_norm3", "norm"):
            wrong = mistake == "norm-epsilon" and name == "decoder_norm2"
            setattr(self, name, layers.LayerNormalization(epsilon=1e-3 if wrong else 1e-5, name=name))
        for name in ("encoder", "decoder"):
            wrong = mistake == "activation" and name == "encoder"
            gelu = (
                (lambda x: keras.activations.gelu(x, approximate=True))
                if wrong
                else (lambda x: keras.activations.gelu(x, approximate=False))
            )
            setattr(self, f"{name}_up", layers.Dense(2 * WIDTH, activation=gelu, name=f"{name}_up"))
            setattr(self, f"{name}_down", layers.Dense(WIDTH, name=f"{name}_down"))
        self.dropout = layers.Dropout(0.2 if mistake == "dropout" else 0.0, seed=2, name="dropout")
        self.head = layers.Dense(WORDS, name="head")

    def call(self, inputs, training=False):
        source, target = inputs
        there = ops.not_equal(source, 0)[:, None, :]  # (batch, 1, time)
        places = self.places(ops.arange(LENGTH))
        embedded = x = self.source(source) * math.sqrt(WIDTH) + places
        y = self.encoder_norm1(x)
        x = x + self.encoder_attention(y, y, attention_mask=there)
        memory = x + self.encoder_down(self.encoder_up(self.encoder_norm2(x)))
        if self.mistake == "memory":
            memory = embedded
        x = self.target(target) * math.sqrt(WIDTH) + places
        y = self.decoder_norm1(x)
        x = x + self.decoder_self(y, y, use_causal_mask=self.mistake != "mask")
        y = self.decoder_cross(
            self.decoder_norm2(x), memory, attention_mask=None if self.mistake == "padding-mask" else there
        )
        x = y if self.mistake == "residual" else x + y
        x = x + self.dropout(self.decoder_down(self.decoder_up(self.decoder_norm3(x))), training=training)
        return self.head(self.norm(x))


MISTAKES = {
    "activation": "encoder_up",
    "norm-epsilon": "decoder_norm2",
    "mask": "decoder_self",
    "padding-mask": "decoder_cross",
    "scale": "decoder_cross",
    "residual": "decoder_norm3",
    "memory": "decoder_cross",
    "dropout": "dropout",
}


def carry(model: keras.Model, weights: dict[str, Any]) -> None:
    for name in ("source", "target", "places"):
        getattr(model, name).set_weights([weights[f"{name}.weight"]])
    names = {
        "encoder_attention": "encoder.attention",
        "decoder_self": "decoder.itself",
        "decoder_cross": "decoder.cross",
    }
    for own, name in names.items():
        flat = []
        parts = np.split(weights[f"{name}.in_proj_weight"], 3), np.split(weights[f"{name}.in_proj_bias"], 3)
        for kernel, bias in zip(*parts, strict=True):
            flat += [kernel.T.reshape(WIDTH, HEADS, -1), bias.reshape(HEADS, -1)]
        flat += [weights[f"{name}.out_proj.weight"].T.reshape(HEADS, -1, WIDTH), weights[f"{name}.out_proj.bias"]]
        query, key, value, out = flat[:2], flat[2:4], flat[4:6], flat[6:]
        layer = getattr(model, own)
        for dense, values in (
            (layer.query_dense, query),
            (layer.key_dense, key),
            (layer.value_dense, value),
            (layer.output_dense, out),
        ):
            dense.set_weights(values)
    norms = {
        f"{m}_norm{k}": f"{m}.norm{k}" for m in ("encoder", "decoder") for k in range(1, 4) if m != "encoder" or k < 3
    }
    for own, name in (norms | {"norm": "norm"}).items():
        getattr(model, own).set_weights([weights[f"{name}.weight"], weights[f"{name}.bias"]])
    dense = {f"{m}_{n}": f"{m}.feed.{n}" for m in ("encoder", "decoder") for n in ("up", "down")} | {"head": "head"}
    for own, name in dense.items():
        getattr(model, own).set_weights([weights[f"{name}.weight"].T, weights[f"{name}.bias"]])


def train(watch, weights, batches, dtype: str, mistake: str = "") -> list[float]:
    model = Translator(mistake)
    model.compile(keras.optimizers.SGD(RATE, MOMENTUM), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model([np.ones((1, LENGTH), "int32")] * 2)
    carry(model, weights)
    with watch(model) as run:
        return [float(run.step(model.train_on_batch, [source, target], goal)) for source, target, goal in batches]
