"""A small GPT as its users write it, in torch and in flax, with nothing in common but the values that they begin with.

torch has one fused kernel for query, key and value, and kernels (out, in); flax three of (in, heads, width). Most
biases begin at zero. The head is tied to the embedding. ``epsilon`` is that of the norms, and the mistake that is
planted.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

STEPS, BATCH, LENGTH, WORDS, WIDTH, HEADS, BLOCKS = 8, 4, 6, 11, 8, 2, 2
RIGHT, WRONG = 1e-5, 1e-3


def initial() -> dict[str, Any]:
    """The weights: kernels (in, out), biases zero but for those of the inner layers."""
    draw = np.random.RandomState(0)
    found = {"words": draw.normal(size=(WORDS, WIDTH)), "places": draw.normal(size=(LENGTH, WIDTH))}
    for block in range(BLOCKS):
        for name in ("query", "key", "value", "out"):
            found[f"{block}.{name}"] = draw.normal(size=(WIDTH, WIDTH)) / np.sqrt(WIDTH)
        found[f"{block}.up"] = draw.normal(size=(WIDTH, 4 * WIDTH)) / np.sqrt(WIDTH)
        found[f"{block}.down"] = draw.normal(size=(4 * WIDTH, WIDTH)) / np.sqrt(4 * WIDTH)
        found[f"{block}.up-bias"] = 0.1 * draw.normal(size=4 * WIDTH)
    return found


def batches() -> Iterator[tuple[Any, Any]]:
    draw = np.random.RandomState(1)
    for _ in range(STEPS):
        text = draw.randint(0, WORDS, (BATCH, LENGTH + 1))
        yield text[:, :-1], text[:, 1:]


def in_torch(folder: Path, dtype: str, epsilon: float = RIGHT) -> None:
    """Train in torch, watched without a layout."""
    import torch

    from parity.watching import watch

    nn = torch.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH, eps=epsilon), nn.LayerNorm(WIDTH, eps=epsilon)
            self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
            self.fc, self.proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any, mask: Any) -> Any:
            y = self.ln_1(x)
            x = x + self.attn(y, y, y, attn_mask=mask, need_weights=False)[0]
            return x + self.proj(nn.functional.gelu(self.fc(self.ln_2(x))))

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(LENGTH, WIDTH)
            self.h = nn.ModuleList(Block() for _ in range(BLOCKS))
            self.ln_f = nn.LayerNorm(WIDTH, eps=epsilon)
            self.head = nn.Linear(WIDTH, WORDS, bias=False)
            self.head.weight = self.wte.weight

        def forward(self, text: Any) -> Any:
            x = self.wte(text) + self.wpe.weight
            mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
            for block in self.h:
                x = block(x, mask)
            return self.head(self.ln_f(x))

    model, begun = Model().to(getattr(torch, dtype)), initial()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.zero_() if name.endswith("bias") else p.fill_(1)
        state = model.state_dict()
        state["wte.weight"].copy_(torch.tensor(begun["words"]))
        state["wpe.weight"].copy_(torch.tensor(begun["places"]))
        for block in range(BLOCKS):
            qkv = np.concatenate([begun[f"{block}.{name}"].T for name in ("query", "key", "value")])
            state[f"h.{block}.attn.in_proj_weight"].copy_(torch.tensor(qkv))
            for own, name in (("attn.out_proj", "out"), ("fc", "up"), ("proj", "down")):
                state[f"h.{block}.{own}.weight"].copy_(torch.tensor(begun[f"{block}.{name}"].T))
            state[f"h.{block}.fc.bias"].copy_(torch.tensor(begun[f"{block}.up-bias"]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    with watch(folder, model, optimizer, shadows=2, deep=2) as run:
        for text, wanted in batches():
            x, y = torch.tensor(text), torch.tensor(wanted)
            run.step(lambda x=x, y=y: nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten()))


def in_flax(folder: Path, dtype: str, epsilon: float = RIGHT) -> None:
    """Train in flax's linen, watched without a layout."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen as nn

    from parity.watching import watch

    own = {"dtype": dtype, "param_dtype": dtype}

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            y = nn.LayerNorm(epsilon=epsilon, **own)(x)
            mask = nn.make_causal_mask(jnp.ones(x.shape[:2]))
            x = x + nn.MultiHeadDotProductAttention(HEADS, **own)(y, mask=mask)
            y = nn.Dense(4 * WIDTH, **own)(nn.LayerNorm(epsilon=epsilon, **own)(x))
            return x + nn.Dense(WIDTH, **own)(nn.gelu(y, approximate=False))

    class Model(nn.Module):
        @nn.compact
        def __call__(self, text: Any) -> Any:
            words = nn.Embed(WORDS, WIDTH, name="words", **own)
            x = words(text) + nn.Embed(LENGTH, WIDTH, name="places", **own)(jnp.arange(LENGTH))
            for _ in range(BLOCKS):
                x = Layer()(x)
            return words.attend(nn.LayerNorm(epsilon=epsilon, **own)(x))

    model, begun = Model(), initial()
    params = model.init(jax.random.key(0), jnp.zeros((BATCH, LENGTH), int))["params"]
    heads = WIDTH, HEADS, WIDTH // HEADS
    params["words"]["embedding"], params["places"]["embedding"] = begun["words"], begun["places"]
    for block in range(BLOCKS):
        layer = params[f"Layer_{block}"]
        attention = layer["MultiHeadDotProductAttention_0"]
        for name in ("query", "key", "value"):
            attention[name]["kernel"] = begun[f"{block}.{name}"].reshape(heads)
        attention["out"]["kernel"] = begun[f"{block}.out"].reshape(*heads[1:], WIDTH)
        layer["Dense_0"] = {"kernel": begun[f"{block}.up"], "bias": begun[f"{block}.up-bias"]}
        layer["Dense_1"]["kernel"] = begun[f"{block}.down"]
    params = jax.tree.map(lambda value: jnp.asarray(value, dtype), params)
    tx = optax.adamw(3e-3, weight_decay=1e-2)

    @jax.jit
    def update(params: Any, state: Any, text: Any, wanted: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits = model.apply({"params": params}, text)
            return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = tx.init(params)
    with watch(folder, params, state, shadows=2, deep=2) as run:
        for text, wanted in batches():
            params, state, _ = run.step(update, params, state, jnp.asarray(text), jnp.asarray(wanted))


PORTS = {"torch": in_torch, "flax": in_flax}


def trained(label: str, dtype: str, folder: str) -> str:
    """Train a port, watched, and one with the mistake. Gives the folder of both."""
    PORTS[label](Path(folder, "right"), dtype)
    PORTS[label](Path(folder, "wrong"), dtype, WRONG)
    return folder
