"""A small image classifier and a small language model as their users write them, in torch, flax and Keras.

Names, layouts and what is a layer at all differ between the three, as they do between people. ``mistake`` plants one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from parity.layout import Slot
from parity.watching import watch

SIZE, CHANNELS, CLASSES, BATCH = 8, 6, 5, 4
WORDS, WIDTH, HEADS, LENGTH = 11, 16, 2, 7
UPDATES = 2


def weights(model: str) -> dict[str, Any]:
    """The weights from which all begin: kernels (..., in, out), of a seed."""
    draw = np.random.RandomState(3)
    shapes: dict[str, tuple[int, ...]] = {}
    if model == "images":
        flat = CHANNELS * (SIZE // 4) ** 2
        shapes = {
            "stem": (3, 3, 3, CHANNELS),
            "mix": (3, 3, CHANNELS, CHANNELS),
            "hidden": (flat, 12),
            "out": (12, CLASSES),
        }
    else:
        shapes = {"words": (WORDS, WIDTH), "places": (LENGTH, WIDTH), "head": (WIDTH, WORDS)}
        for block in range(2):
            inner = {"query": WIDTH, "key": WIDTH, "value": WIDTH, "join": WIDTH, "up": 4 * WIDTH}
            shapes |= {f"{name}{block}": (WIDTH, out) for name, out in inner.items()}
            shapes[f"down{block}"] = (4 * WIDTH, WIDTH)
    return {
        name: draw.normal(size=shape) / math.sqrt(np.prod(shape[:-1]) if name not in ("words", "places") else 25)
        for name, shape in shapes.items()
    }


def batches(model: str) -> Iterator[tuple[Any, Any]]:
    draw = np.random.RandomState(4)
    for _ in range(UPDATES):
        if model == "images":
            yield draw.normal(size=(BATCH, SIZE, SIZE, 3)), draw.randint(0, CLASSES, BATCH)
        else:
            rows = draw.randint(0, WORDS, (BATCH, LENGTH + 1))
            yield rows[:, :-1], rows[:, 1:]


NAMES = {
    "torch": ("conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "conv2.weight", "bn2.weight", "bn2.bias",
              "bn2.running_mean", "fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"),
    "flax": ("Conv_0/kernel", "BatchNorm_0/scale", "BatchNorm_0/bias", "BatchNorm_0/mean", "Conv_1/kernel",
             "BatchNorm_1/scale", "BatchNorm_1/bias", "BatchNorm_1/mean", "Dense_0/kernel", "Dense_0/bias",
             "Dense_1/kernel", "Dense_1/bias"),
    "keras": ("stem/kernel", "stem_bn/gamma", "stem_bn/beta", "stem_bn/moving_mean", "mix/kernel", "mix_bn/gamma",
              "mix_bn/beta", "mix_bn/moving_mean", "hidden/kernel", "hidden/bias", "out/kernel", "out/bias"),
}  # fmt: skip
"""The image classifier's tensors in one order. torch's running variance is unbiased, the others' are not: left out."""


def layout_of(label: str, model: str) -> list[Slot] | None:
    """Name the image classifier's tensors as flax does; of the language model each port keeps its own names."""
    if model != "images":
        return None
    axes = {".weight": (1, 0), "conv1.weight": (3, 2, 0, 1), "conv2.weight": (3, 2, 0, 1)}
    pairs = zip(NAMES["flax"], NAMES[label], strict=True)
    return [
        Slot(name, own, axes=axes.get(own, axes.get(own[3:] if own.startswith("fc") else ""))) for name, own in pairs
    ]


def torch_images(mistake: str) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            eps, momentum = (1e-3 if mistake == "bn-eps" else 1e-5), (0.9 if mistake == "bn-momentum" else 0.1)
            self.conv1 = nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1, bias=False)
            self.bn1 = nn.BatchNorm2d(CHANNELS, eps=eps, momentum=momentum)
            self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(CHANNELS, eps=eps, momentum=momentum)
            self.act = nn.ReLU()
            self.pool = nn.MaxPool2d(2)
            self.fc1 = nn.Linear(CHANNELS * (SIZE // 4) ** 2, 12)
            self.drop = nn.Dropout(0.3 if mistake == "dropout" else 0.0)
            self.fc2 = nn.Linear(12, CLASSES)

        def forward(self, x: Any) -> Any:
            x = self.act(self.bn1(self.conv1(x)))
            x = self.pool(self.act(x + self.bn2(self.conv2(x))))
            return self.fc2(self.drop(functional.gelu(self.fc1(x.flatten(1)))))

    net, own = Classifier(), weights("images")
    with torch.no_grad():
        for layer, name in ((net.conv1, "stem"), (net.conv2, "mix")):
            layer.weight.copy_(torch.tensor(own[name].transpose(3, 2, 0, 1)))
        for layer, name in ((net.fc1, "hidden"), (net.fc2, "out")):
            layer.weight.copy_(torch.tensor(own[name].T))
            layer.bias.zero_()
    return net, lambda x: torch.tensor(x.transpose(0, 3, 1, 2), dtype=torch.get_default_dtype())


def torch_texts(mistake: str) -> Any:
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            eps = 1e-3 if mistake == "ln-eps" else 1e-5
            self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH, eps=eps), nn.LayerNorm(WIDTH, eps=eps)
            self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
            self.c_fc, self.gelu = nn.Linear(WIDTH, 4 * WIDTH), nn.GELU("tanh" if mistake == "gelu" else "none")
            self.c_out = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            b, t, _ = x.shape
            q, k, v = (z.view(b, t, HEADS, -1).transpose(1, 2) for z in self.c_attn(self.ln_1(x)).split(WIDTH, 2))
            y = functional.scaled_dot_product_attention(
                q, k, v, is_causal=mistake != "mask", scale=WIDTH**-0.5 if mistake == "scale" else None
            )
            x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, WIDTH))
            return x + self.c_out(self.gelu(self.c_fc(self.ln_2(x))))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.h = nn.ModuleList(Block() for _ in range(2))
            self.ln_f, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS, bias=False)

        def forward(self, i: Any) -> Any:
            x = self.wte(i) + self.wpe(torch.arange(i.shape[1]))
            for block in self.h:
                x = block(x)
            return self.lm_head(self.ln_f(x)).transpose(1, 2)

    net, own = Gpt(), weights("texts")
    with torch.no_grad():
        net.wte.weight.copy_(torch.tensor(own["words"]))
        net.wpe.weight.copy_(torch.tensor(own["places"]))
        net.lm_head.weight.copy_(torch.tensor(own["head"].T))
        for k, block in enumerate(net.h):
            fused = np.concatenate([own[f"{name}{k}"] for name in ("query", "key", "value")], 1)
            for layer, value in (
                (block.c_attn, fused),
                (block.c_proj, own[f"join{k}"]),
                (block.c_fc, own[f"up{k}"]),
                (block.c_out, own[f"down{k}"]),
            ):
                layer.weight.copy_(torch.tensor(value.T))
                layer.bias.zero_()
    return net, torch.tensor


def in_torch(model: str, folder: Path, dtype: str, mistake: str = "", **watching: Any) -> None:
    import torch

    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    net, given = (torch_images if model == "images" else torch_texts)(mistake)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    watching |= {"layout": layout_of("torch", model)}
    with watch(folder, net, optimizer, deep=1, **watching) as run:
        for x, y in batches(model):
            x, y = given(x), torch.tensor(y)
            run.step(lambda x=x, y=y: torch.nn.functional.cross_entropy(net(x), y))
    torch.set_default_dtype(before)


def flax_images(mistake: str, dtype: str) -> Any:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            own = {"dtype": dtype, "param_dtype": dtype}
            norm = partial(
                nn.BatchNorm,
                use_running_average=False,
                epsilon=1e-3 if mistake == "bn-eps" else 1e-5,
                momentum=0.1 if mistake == "bn-momentum" else 0.9,
                **own,
            )
            pad = "SAME" if mistake == "padding" else 1
            x = nn.relu(norm()(nn.Conv(CHANNELS, (3, 3), 2, padding=pad, use_bias=False, **own)(x)))
            y = norm()(nn.Conv(CHANNELS, (3, 3), padding=1, use_bias=False, **own)(x))
            x = x + y
            x = nn.max_pool(x if mistake == "relu" else nn.relu(x), (2, 2), (2, 2))
            x = (x if mistake == "flatten" else x.transpose(0, 3, 1, 2)).reshape(len(x), -1)
            x = jax.lax.stop_gradient(x) if mistake == "stop" else x
            x = nn.gelu(nn.Dense(12, **own)(x), approximate=mistake == "gelu")
            x = nn.Dropout(0.3, deterministic=mistake != "dropout", rng_collection="mask")(x)
            return nn.Dense(CLASSES, **own)(x)

    own = {name: jnp.asarray(value, dtype) for name, value in weights("images").items()}
    one, zero = partial(jnp.ones, dtype=dtype), partial(jnp.zeros, dtype=dtype)
    params = {"Conv_0": {"kernel": own["stem"]}, "Conv_1": {"kernel": own["mix"]}}
    params |= {f"BatchNorm_{k}": {"scale": one(CHANNELS), "bias": zero(CHANNELS)} for k in range(2)}
    params |= {f"Dense_{k}": {"kernel": own[n], "bias": zero(own[n].shape[1])} for k, n in enumerate(("hidden", "out"))}
    stats = {f"BatchNorm_{k}": {"mean": zero(CHANNELS), "var": one(CHANNELS)} for k in range(2)}
    return Network(), {"params": params, "batch_stats": stats}


def flax_texts(mistake: str, dtype: str) -> Any:
    import flax.linen as nn
    import jax
    import jax.numpy as jnp

    own = {"dtype": dtype, "param_dtype": dtype}

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            norm = partial(nn.LayerNorm, epsilon=1e-3 if mistake == "ln-eps" else 1e-5, **own)
            mask = None if mistake == "mask" else nn.make_causal_mask(x[..., 0])
            scaled = {"attention_fn": self.wide} if mistake == "scale" else {}
            attention = nn.MultiHeadDotProductAttention(HEADS, name="attention", **own, **scaled)
            x = x + attention(x if mistake == "no-norm" else norm(name="norm_before")(x), mask=mask)
            h = norm(name="norm_after")(x)
            h = jax.lax.stop_gradient(h) if mistake == "stop" else h
            h = nn.gelu(nn.Dense(4 * WIDTH, name="up", **own)(h), approximate=mistake == "gelu")
            return x + nn.Dense(WIDTH, name="down", **own)(h)

        @staticmethod
        def wide(query: Any, key: Any, value: Any, mask: Any = None, **given: Any) -> Any:
            return nn.dot_product_attention(query / math.sqrt(HEADS), key, value, mask=mask)

    class Transformer(nn.Module):
        @nn.compact
        def __call__(self, i: Any) -> Any:
            x = nn.Embed(WORDS, WIDTH, name="tokens", **own)(i)
            x = x + nn.Embed(LENGTH, WIDTH, name="positions", **own)(jnp.arange(i.shape[1]))
            for k in range(2):
                x = Layer(name=f"layer_{k}")(x)
            return nn.Dense(WORDS, use_bias=False, name="logits", **own)(
                nn.LayerNorm(epsilon=1e-5, name="norm", **own)(x)
            )

    w = {name: jnp.asarray(value, dtype) for name, value in weights("texts").items()}

    def norm() -> Any:
        return {"scale": jnp.ones(WIDTH, dtype), "bias": jnp.zeros(WIDTH, dtype)}

    def dense(value: Any) -> Any:
        return {"kernel": value, "bias": jnp.zeros(value.shape[1:], dtype)}

    params = {"tokens": {"embedding": w["words"]}, "positions": {"embedding": w["places"]}, "norm": norm()}
    params["logits"] = {"kernel": w["head"]}
    for k in range(2):
        attention = {n: dense(w[f"{n}{k}"].reshape(WIDTH, HEADS, -1)) for n in ("query", "key", "value")}
        attention["out"] = {"kernel": w[f"join{k}"].reshape(HEADS, -1, WIDTH), "bias": jnp.zeros(WIDTH, dtype)}
        params[f"layer_{k}"] = {
            "attention": attention,
            "norm_after": norm(),
            "up": dense(w[f"up{k}"]),
            "down": dense(w[f"down{k}"]),
        } | ({} if mistake == "no-norm" else {"norm_before": norm()})
    return Transformer(), {"params": params}


def in_flax(model: str, folder: Path, dtype: str, mistake: str = "", **watching: Any) -> None:
    import jax
    import jax.numpy as jnp
    import optax

    net, variables = (flax_images if model == "images" else flax_texts)(mistake, dtype)
    tx = optax.sgd(0.1)
    state = tx.init(variables["params"])
    key = jax.random.key(0)

    def update(variables: Any, state: Any, x: Any, y: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits, changed = net.apply({**variables, "params": params}, x, mutable=["batch_stats"], rngs={"mask": key})
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), changed

        (loss, changed), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, state = tx.update(gradients, state, variables["params"])
        return {**variables, "params": optax.apply_updates(variables["params"], updates), **changed}, state, loss

    step = jax.jit(update)
    watching |= {"layout": layout_of("flax", model)}
    with watch(folder, variables, state, deep=1, **watching) as run:
        for x, y in batches(model):
            x = jnp.asarray(x, dtype if model == "images" else None)
            variables, state, _ = run.step(step, variables, state, x, jnp.asarray(y))


def keras_images(mistake: str, dtype: str) -> Any:
    import keras
    from keras import layers

    class Cut(layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.stop_gradient(x) if mistake == "stop" else x

    eps, momentum = (1e-3 if mistake == "bn-eps" else 1e-5), (0.1 if mistake == "bn-momentum" else 0.9)
    image = x = keras.Input((SIZE, SIZE, 3))
    if mistake != "padding":
        x = layers.ZeroPadding2D(1, name="border")(x)
    border = "same" if mistake == "padding" else "valid"
    x = layers.Conv2D(CHANNELS, 3, strides=2, padding=border, use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(epsilon=eps, momentum=momentum, name="stem_bn")(x))
    y = layers.Conv2D(CHANNELS, 3, padding="same", use_bias=False, name="mix")(x)
    y = layers.BatchNormalization(epsilon=eps, momentum=momentum, name="mix_bn")(y)
    x = layers.Add(name="sum")([x, y])
    x = x if mistake == "relu" else layers.ReLU(name="sum_relu")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Flatten(name="flat")(x if mistake == "flatten" else layers.Permute((3, 1, 2), name="channels")(x))
    x = Cut(name="cut")(x) if mistake == "stop" else x
    x = layers.Dense(12, name="hidden")(x)
    x = layers.Activation(partial(keras.activations.gelu, approximate=mistake == "gelu"), name="hidden_gelu")(x)
    x = layers.Dropout(0.3 if mistake == "dropout" else 0.0, name="drop")(x)
    net = keras.Model(image, layers.Dense(CLASSES, name="out")(x))
    own = weights("images")
    for name in ("stem", "mix", "hidden", "out"):
        net.get_layer(name).kernel.assign(own[name])
    return net


def keras_texts(mistake: str, dtype: str) -> Any:
    import keras
    from keras import layers, ops

    class Positions(layers.Layer):
        def build(self, shape: Any) -> None:
            self.table = self.add_weight(shape=(LENGTH, WIDTH), name="table")

        def call(self, x: Any) -> Any:
            return x + self.table

    norm = partial(layers.LayerNormalization, epsilon=1e-3 if mistake == "ln-eps" else 1e-5)
    i = keras.Input((LENGTH,), dtype="int32")
    x = Positions(name="places")(layers.Embedding(WORDS, WIDTH, name="words")(i))
    for k in range(2):
        h = x if mistake == "no-norm" else norm(name=f"b{k}_n1")(x)
        attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"b{k}_mha")
        if mistake == "scale":
            attention._inverse_sqrt_key_dim = WIDTH**-0.5
        x = x + attention(h, h, use_causal_mask=mistake != "mask")
        h = layers.Dense(4 * WIDTH, name=f"b{k}_up")(norm(name=f"b{k}_n2")(x))
        h = ops.stop_gradient(h) if mistake == "stop" else h
        x = x + layers.Dense(WIDTH, name=f"b{k}_down")(ops.gelu(h, approximate=mistake == "gelu"))
    x = layers.LayerNormalization(epsilon=1e-5, name="n")(x)
    net = keras.Model(i, layers.Dense(WORDS, use_bias=False, name="logits")(x))
    w = weights("texts")
    net.get_layer("words").embeddings.assign(w["words"])
    net.get_layer("places").table.assign(w["places"])
    net.get_layer("logits").kernel.assign(w["head"])
    for k in range(2):
        mha = net.get_layer(f"b{k}_mha")
        for name in ("query", "key", "value"):
            getattr(mha, f"_{name}_dense").kernel.assign(w[f"{name}{k}"].reshape(WIDTH, HEADS, -1))
        mha._output_dense.kernel.assign(w[f"join{k}"].reshape(HEADS, -1, WIDTH))
        net.get_layer(f"b{k}_up").kernel.assign(w[f"up{k}"])
        net.get_layer(f"b{k}_down").kernel.assign(w[f"down{k}"])
    return net


def in_keras(model: str, folder: Path, dtype: str, mistake: str = "", **watching: Any) -> None:
    import keras

    before = keras.config.floatx()
    keras.config.set_floatx(dtype)
    net = (keras_images if model == "images" else keras_texts)(mistake, dtype)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1), loss)
    watching |= {"layout": layout_of("keras", model)}
    with watch(folder, net, deep=1, **watching) as run:
        for x, y in batches(model):
            run.step(net.train_on_batch, x.astype(dtype if model == "images" else "int32"), y)
    keras.config.set_floatx(before)


PORTS: dict[str, Callable[..., None]] = {"torch": in_torch, "flax": in_flax, "keras": in_keras}


def recorded(label: str, model: str, mistake: str, folder: str, dtype: str = "float32") -> str:
    """Called where a framework is: trains a port, right or with a mistake, and gives the folder of the run."""
    # A run of torch's has shadows, which measure how far rounding goes; of flax's they take some seconds.
    PORTS[label](model, Path(folder, "run"), dtype, mistake, shadows=2 if label == "torch" else 0)
    return str(Path(folder, "run"))
