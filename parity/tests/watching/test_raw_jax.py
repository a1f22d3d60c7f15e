"""A loop of plain JAX: functions and a tree of parameters, and no modules. Its layers are the functions it calls."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.layout import Slot
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.tests.watching.ports import BATCH, CLASSES, WRONG, batches, initial

RAW = {
    "conv/kernel": "conv/w",
    "conv/bias": "conv/b",
    "norm/scale": "norm/scale",
    "norm/bias": "norm/bias",
    "norm/mean": "norm/mean",
    "norm/variance": "norm/variance",
    "dense/kernel": "dense/w",
    "dense/bias": "dense/b",
}
DTYPES = ("float32", pytest.param("float64", marks=pytest.mark.slow))


def in_jax(folder: Path | None, dtype: str, epsilon: float = 1e-5, **watching: Any) -> tuple[list[float], Any]:
    """The small convolutional network of ``ports`` as functions of arrays; running statistics are a tree."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax import lax

    from parity.watching import watch

    def conv(p: Any, x: Any, stride: int = 1) -> Any:
        sides, order = ((1, 1), (1, 1)), ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, p["w"], (stride, stride), sides, dimension_numbers=order) + p["b"]

    def batch_norm(p: Any, x: Any, epsilon: float) -> Any:
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) * lax.rsqrt(variance + epsilon) * p["scale"] + p["bias"], {"mean": mean, "variance": variance}

    def forward(params: Any, x: Any) -> Any:
        x, now = batch_norm(params["norm"], conv(params["conv"], x, stride=2), epsilon)
        x = jax.nn.relu(x).transpose(0, 3, 1, 2).reshape(len(x), -1)
        return x @ params["dense"]["w"] + params["dense"]["b"], now

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        logits, now = forward(params, x)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), now

    tx = optax.adamw(1e-3, weight_decay=1e-2)

    @jax.jit
    def update(params: Any, stats: Any, slots: Any, x: Any, y: Any) -> Any:
        (loss, now), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, x, y)
        updates, slots = tx.update(gradients, slots, params)
        stats = {"norm": {name: 0.9 * stats["norm"][name] + 0.1 * now[name] for name in now}}
        return optax.apply_updates(params, updates), stats, slots, loss

    begun, params, stats = initial(dtype), dict[str, Any](), dict[str, Any]()
    for canonical, name in RAW.items():
        layer, role = name.split("/")
        kind = stats if role in ("mean", "variance") else params
        kind.setdefault(layer, {})[role] = jnp.asarray(begun[canonical])
    slots, losses = tx.init(params), []
    layout = [Slot(canonical, name) for canonical, name in RAW.items() if canonical != "norm/variance"]
    with watch(folder, params, stats, slots, layout=layout, **watching) if folder else nullcontext() as run:
        for x, y in batches(dtype):
            given = params, stats, slots, jnp.asarray(x), jnp.asarray(y)
            params, stats, slots, loss = update(*given) if run is None else run.step(update, *given)
            losses.append(float(loss))
    return losses, params


def raw_trained(dtype: str, folder: str) -> dict[str, Any]:
    """Called where JAX is: watched and not, and with another epsilon."""
    import jax

    plain, after = in_jax(None, dtype)
    seen, watched = in_jax(Path(folder, "right"), dtype)
    in_jax(Path(folder, "wrong"), dtype, WRONG)
    same = jax.tree.all(jax.tree.map(np.array_equal, after, watched))
    return {"folder": folder, "losses": plain == seen, "state": bool(same)}


@pytest.mark.asks(question=raw_trained, framework="jax")
@pytest.mark.parametrize("dtype", DTYPES)
class TestRawJax:
    def test_watching_changes_no_bit_of_the_run(self, dtype: str, answer: dict[str, Any]) -> None:
        assert answer["losses"]
        assert answer["state"]

    def test_functions_are_the_layers_with_their_arguments(self, dtype: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], "right"))
        layers = {layer["name"]: layer for layer in run.meta["layers"]}
        assert [(name, layer["kind"]) for name, layer in layers.items()] == [
            ("forward/conv/conv_general_dilated", "conv_general_dilated"),
            ("forward/conv", "conv"),
            ("forward/batch_norm/mean", "mean"),
            ("forward/batch_norm/var", "var"),
            ("forward/batch_norm/rsqrt", "rsqrt"),
            ("forward/batch_norm", "batch_norm"),
            ("forward/relu", "relu"),
            ("forward/matmul", "matmul"),
            ("forward", "forward"),
            ("log_softmax", "log_softmax"),
            ("take_along_axis", "take_along_axis"),
        ]
        said = layers["forward/conv/conv_general_dilated"]["configuration"]
        assert said["window_strides"] == [2, 2]
        assert said["padding"] == [[1, 1], [1, 1]]
        assert layers["forward/batch_norm"]["configuration"]["epsilon"] == 1e-5
        assert layers["forward/batch_norm"]["inputs"] == ["forward/conv"]
        assert layers["log_softmax"]["inputs"] == ["forward"]
        assert said["at"].startswith("test_raw_jax.py:")
        for step in steps_of(run):
            assert set(step.gradients) == set(RAW) - {"norm/mean", "norm/variance"}
            np.testing.assert_array_equal(step.activations["forward"], step.prediction)
            assert step.prediction.shape == (BATCH, CLASSES)
            assert set(step.activations) - set(step.activation_gradients) == {"forward/conv/conv_general_dilated-in0"}
            # What a layer's gradient is, another says: the bias is added to each row of the last product.
            back = step.activation_gradients["forward/matmul"].sum(0)
            np.testing.assert_allclose(back, step.gradients["dense/bias"], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_port_passes_and_a_wrong_one_fails(dtype: str, against_torch: Callable[..., None]) -> None:
    against_torch(raw_trained, "jax", rule="adamw", dtype=dtype)


def inline(folder: str) -> dict[str, Any]:
    """Called where JAX is: all in one function without a name, transformed, and updated by hand."""
    import jax
    import jax.numpy as jnp

    from parity.watching import watch

    def update(w: Any, x: Any) -> Any:
        def one(w: Any, row: Any) -> Any:
            with jax.named_scope("encoder"):
                return jnp.tanh(row @ w["in"])

        def later(h: Any) -> Any:
            return jnp.sin(h)

        loss, gradients = jax.value_and_grad(
            lambda w: jnp.square(jax.checkpoint(later)(jax.vmap(one, (None, 0))(w, x)) @ w["out"]).mean()
        )(w)
        return {name: value - 0.1 * gradients[name] for name, value in w.items()}, loss

    w = {"in": jnp.linspace(-1.0, 1.0, 6).reshape(3, 2), "out": jnp.ones((2, 1))}
    with watch(Path(folder, "run"), w, shadows=0) as run:
        for k in range(3):
            w, _ = run.step(update, w, jnp.linspace(0.0, k + 1.0, 12).reshape(4, 3))
    return {"folder": folder}


@pytest.mark.asks(question=inline, framework="jax")
def test_transformed_functions_give_whole_batches_and_what_is_computed_later_is_said(answer: dict[str, Any]) -> None:
    run = read(Path(answer["folder"], "run"))
    layers = {layer["name"]: layer for layer in run.meta["layers"]}
    assert list(layers) == ["one/encoder/matmul", "one/encoder/tanh", "matmul"]
    assert [note for note in run.meta["notes"] if "jax.checkpoint" in note]
    for step in steps_of(run)[:2]:
        assert step.activations["one/encoder/tanh"].shape == (4, 2)  # one row at a time, and all of them here
        assert step.activation_gradients["one/encoder/tanh"].shape == (4, 2)
        assert set(step.gradients) == {"in", "out"}
