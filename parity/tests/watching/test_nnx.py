"""A loop of flax's nnx, whose update changes the model in place, and one whose model is split into trees."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import FLOOR
from parity.layout import Slot
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.tests.watching.ports import BATCH, CLASSES, STEPS, WRONG, batches, initial

NNX = {
    "conv/kernel": "conv/kernel",
    "conv/bias": "conv/bias",
    "norm/scale": "norm/scale",
    "norm/bias": "norm/bias",
    "norm/mean": "norm/mean",
    "norm/variance": "norm/var",
    "dense/kernel": "blocks/0/dense/kernel",
    "dense/bias": "blocks/0/dense/bias",
}
LAYOUT = [Slot(canonical, name) for canonical, name in NNX.items() if canonical != "norm/variance"]
DTYPES = ("float32", pytest.param("float64", marks=pytest.mark.slow))


def in_nnx(
    folder: Path | None, dtype: str, epsilon: float = 1e-5, split: bool = False, rate: float = 0.0, **watching: Any
) -> tuple[list[float], dict[str, Any]]:
    """The small convolutional network of ``ports`` in nnx; ``split`` keeps its state in trees, as pure functions do."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from parity.watching import watch

    class Block(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.dense = nnx.Linear(64, CLASSES, dtype=dtype, param_dtype=dtype, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.dense(x.transpose(0, 3, 1, 2).reshape(len(x), -1))

    class Network(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            own: dict[str, Any] = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
            self.conv = nnx.Conv(2, 4, (3, 3), strides=2, padding=1, **own)
            self.norm = nnx.BatchNorm(4, epsilon=epsilon, momentum=0.9, **own)
            self.drop = nnx.Dropout(rate, rngs=rngs)
            self.blocks = nnx.List([Block(rngs)])

        def __call__(self, x: Any) -> Any:
            x = self.drop(nnx.relu(self.norm(self.conv(x))))
            for block in self.blocks:
                x = block(x)
            return x

    model = Network(nnx.Rngs(0))
    state = dict(nnx.to_flat_state(nnx.state(model)))
    for canonical, value in initial(dtype).items():
        path = tuple(int(part) if part.isdigit() else part for part in NNX[canonical].split("/"))
        state[path].set_value(jnp.asarray(value))
    tx = optax.adamw(1e-3, weight_decay=1e-2)
    if rate:
        tx = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(optax.linear_schedule(1e-3, 0.0, 10)))

    def loss_of(model: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    losses = []
    if not split:
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

        @nnx.jit
        def step(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
            loss, gradients = nnx.value_and_grad(loss_of)(model, x, y)
            optimizer.update(model, gradients)
            return loss

        with watch(folder, model, optimizer, layout=LAYOUT, **watching) if folder else nullcontext() as run:
            for x, y in batches(dtype):
                batch = jnp.asarray(x), jnp.asarray(y)
                losses.append(
                    float(step(model, optimizer, *batch) if run is None else run.step(step, model, optimizer, *batch))
                )
        params: Any = nnx.state(model)
    else:
        graph, params, rest = nnx.split(model, nnx.Param, ...)
        slots = tx.init(params)

        @jax.jit
        def pure(params: Any, rest: Any, slots: Any, x: Any, y: Any) -> Any:
            def loss_and_rest(params: Any) -> Any:
                model = nnx.merge(graph, params, rest, copy=True)
                loss = loss_of(model, x, y)
                return loss, nnx.split(model, nnx.Param, ...)[2]

            (loss, new), gradients = jax.value_and_grad(loss_and_rest, has_aux=True)(params)
            updates, after = tx.update(gradients, slots, params)
            return optax.apply_updates(params, updates), new, after, loss

        with watch(folder, params, rest, slots, layout=LAYOUT, **watching) if folder else nullcontext() as run:
            for x, y in batches(dtype):
                given = params, rest, slots, jnp.asarray(x), jnp.asarray(y)
                params, rest, slots, loss = pure(*given) if run is None else run.step(pure, *given)
                losses.append(float(loss))
    flat = jax.tree_util.tree_leaves_with_path(params)
    return losses, {jax.tree_util.keystr(path): np.asarray(value) for path, value in flat if value.dtype == dtype}


def nnx_trained(dtype: str, folder: str) -> dict[str, Any]:
    """Called where flax is: each kind of loop watched and not, and with another epsilon."""
    found: dict[str, Any] = {"folder": folder}
    for name, split in (("objects", False), ("trees", True)):
        plain, after = in_nnx(None, dtype, split=split)
        seen, watched = in_nnx(Path(folder, name), dtype, split=split)
        found[name] = plain == seen and all(np.array_equal(after[key], watched[key]) for key in after)
    in_nnx(Path(folder, "wrong"), dtype, WRONG)
    plain, after = in_nnx(None, dtype, rate=0.5)
    seen, watched = in_nnx(Path(folder, "dropout"), dtype, rate=0.5, deep=3)
    found["dropout"] = plain == seen and all(np.array_equal(after[key], watched[key]) for key in after)
    return found


@pytest.mark.asks(question=nnx_trained, framework="jax")
@pytest.mark.parametrize("dtype", DTYPES)
class TestNnx:
    def test_watching_changes_no_bit_of_the_run(self, dtype: str, answer: dict[str, Any]) -> None:
        assert answer["objects"]
        assert answer["trees"]
        assert answer["dropout"]

    @pytest.mark.parametrize("kind", ["objects", "trees"])
    def test_all_that_went_into_an_update_is_recorded(self, kind: str, dtype: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], kind))
        assert run.meta["dtype"] == dtype
        said = "AdamW(learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-08, weight_decay=0.01)"
        assert run.meta["hyper_parameters"] == {"optimizer": said}
        assert run.loss.shape == (STEPS, 1)
        assert sorted(run.meta["buffers"]) == ["norm/mean", "norm/var"]
        layers = {layer["name"]: layer for layer in run.meta["layers"]}
        assert list(layers) == ["conv", "norm", "blocks/0/dense"]  # a dropout of nothing hands on what it is given
        assert [layer["kind"] for layer in layers.values()] == ["Conv", "BatchNorm", "Linear"]
        assert layers["norm"]["configuration"]["epsilon"] == 1e-5
        assert layers["conv"]["configuration"]["kernel_size"] == [3, 3]
        assert layers["norm"]["inputs"] == ["conv"]
        assert layers["blocks/0/dense"]["inputs"] == ["blocks/0/dense-in0"]  # no module gave it
        for step in steps_of(run):
            assert {"conv/kernel", "dense/bias"} <= set(step.gradients)
            assert "norm/mean" not in step.gradients
            assert step.prediction.shape == (BATCH, CLASSES)
            assert "first_moment/conv/kernel" in step.before.slots
            assert set(step.activation_gradients) == set(step.activations) - {"conv-in0"}
            np.testing.assert_array_equal(step.activations["blocks/0/dense"], step.prediction)

    def test_shadows_draw_the_run_s_own_masks(self, dtype: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], "dropout"))
        assert Path(answer["folder"], "dropout", FLOOR).is_file()
        assert "Dropout" in [layer["kind"] for layer in run.meta["layers"]]
        for step in range(3):
            strays = run.steps[f"{step}/strays/loss"]
            assert 0 < strays.max() < 1e-3

    def test_a_chain_tells_its_rate_and_what_it_clips(self, dtype: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], "dropout"))
        assert run.meta["optimizer"]["class"].startswith("optax.clip_by_global_norm scale_by_adam add_decayed_weights")
        assert run.meta["optimizer"]["groups"][0]["max_norm"] == 0.1
        assert "hyper_parameters" not in run.meta
        for k, step in enumerate(steps_of(run)):
            np.testing.assert_allclose(run.steps[f"{k}/learning_rate"], 1e-3 * (1 - k / 10), rtol=1e-6)
            after = np.sqrt(sum((value**2).sum() for value in step.gradients.values()))
            np.testing.assert_allclose(after, 0.1, rtol=1e-5)
            assert np.abs(run.steps[f"{k}/unclipped/dense/kernel"]).max() > np.abs(step.gradients["dense/kernel"]).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_port_passes_and_a_wrong_one_fails(dtype: str, against_torch: Callable[..., None]) -> None:
    against_torch(nnx_trained, "jax", rule="adamw", dtype=dtype, right=("objects", "trees"))


def transformed(folder: str) -> dict[str, str]:
    """Called where flax is: a model of linen and one of nnx with what is mapped and what is computed later."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import linen, nnx

    from parity.watching import watch

    class Row(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.Dense(3)(x)

    class Linen(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            mapped = linen.vmap(Row, variable_axes={"params": None}, split_rngs={"params": False})
            return linen.remat(Row)()(mapped()(x))

    class Nnx(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first, self.later = nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return nnx.remat(lambda layer, x: layer(x))(self.later, self.first(x))

    x, tx = jnp.ones((4, 2)), optax.sgd(0.1)
    model = Linen()
    params = model.init(jax.random.key(0), x)

    def pure(params: Any, state: Any, x: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda params: jnp.square(model.apply(params, x)).mean())(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = tx.init(params)
    with watch(Path(folder, "linen"), params, state, shadows=0) as run:
        run.step(pure, params, state, x)
    module = Nnx(nnx.Rngs(0))
    optimizer = nnx.Optimizer(module, tx, wrt=nnx.Param)

    @nnx.jit
    def step(module: Any, optimizer: Any, x: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda module: jnp.square(module(x)).mean())(module)
        optimizer.update(module, gradients)
        return loss

    found = {"folder": folder}
    with watch(Path(folder, "nnx"), module, optimizer, shadows=0) as run:
        run.step(step, module, optimizer, x)
        try:
            run.step(lambda: step(module, optimizer, x))
        except ValueError as error:
            found["closure"] = str(error)
    return found


@pytest.mark.asks(question=transformed, framework="jax")
def test_what_is_mapped_is_whole_and_what_is_computed_later_is_said(answer: dict[str, str]) -> None:
    linen, nnx = (read(Path(answer["folder"], name)) for name in ("linen", "nnx"))
    assert [layer["name"] for layer in linen.meta["layers"]] == ["VmapRow_0/Dense_0", "Linen"]
    assert steps_of(linen)[0].activations["VmapRow_0/Dense_0"].shape == (4, 3)
    assert [layer["name"] for layer in nnx.meta["layers"]] == ["first", "Nnx"]
    assert all("jax.checkpoint" in run.meta["notes"][0] for run in (linen, nnx))
    assert "Nnx is missing here" in answer["closure"]
