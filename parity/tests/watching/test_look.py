"""A compiled update is looked into by one compiled program: it shows what op by op shows, and is compiled once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recording.reader import read
from parity.recording.steps import steps_of

STEPS = 4


def in_jax(folder: str) -> dict[str, Any]:
    """Called where JAX is: a recurrence, a map over the batch, clipping and donated memory, compiled and not."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    from parity.watching import watch
    from parity.watching.jax import look

    class Model(nn.Module):  # type: ignore[misc,unused-ignore]
        @nn.compact  # type: ignore[untyped-decorator,unused-ignore]
        def __call__(self, x: Any) -> Any:
            place = self.param("place", nn.initializers.ones, (4,))
            h = nn.RNN(nn.SimpleCell(4))(x) + place
            h = nn.LayerNorm()(h)[:, -1]
            return nn.Dense(2)(h)

    model, tx = Model(), optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(STEPS, 3, 5, 2)), jnp.float32)
    begun = model.init(jax.random.key(0), x[0])
    traced = []

    def update(params: Any, state: Any, x: Any) -> Any:
        traced.append(isinstance(x, jax.core.Tracer))
        loss, gradients = jax.value_and_grad(lambda p: (model.apply(p, x) ** 2).sum())(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    op_by_op, looked, counts = look.Look.op_by_op, [], {}

    def counted(self: Any, function: Any, given: Any) -> Any:
        looked.append(function)
        return op_by_op(self, function, given)

    look.Look.op_by_op = counted
    try:
        for name, function in (("compiled", jax.jit(update, donate_argnums=(0, 1, 2))), ("plain", update)):
            looked.clear()
            params, state = jax.tree.map(jnp.array, (begun, tx.init(begun)))
            with watch(Path(folder, name), params, state, deep=STEPS, shadows=0) as run:
                for each in x:
                    params, state, _ = run.step(function, params, state, jnp.array(each))
            counts[name] = len(looked)
    finally:
        look.Look.op_by_op = op_by_op
    return {"folder": folder, "counts": counts}


@pytest.mark.asks(question=in_jax, framework="jax")
class TestJax:
    def test_a_compiled_update_is_traced_once_and_any_other_made_op_by_op(self, answer: dict[str, Any]) -> None:
        assert answer["counts"] == {"compiled": 1, "plain": STEPS}

    def test_both_ways_show_the_same(self, answer: dict[str, Any]) -> None:
        alike(*(Path(answer["folder"], name) for name in ("compiled", "plain")))

    def test_a_donated_batch_is_recorded(self, answer: dict[str, Any]) -> None:
        batches = [step.batch for step in steps_of(read(Path(answer["folder"], "compiled")))]
        assert len({each.tobytes() for each in batches}) == STEPS


def hidden_in_jax(folder: str) -> dict[str, Any]:
    """Called where JAX is: layers in a branch that numbers choose, which a compiled program hides."""
    import jax
    import jax.numpy as jnp

    from parity.watching import watch

    def one(params: Any, x: Any) -> Any:
        return jnp.tanh(x @ params["one"])

    def two(params: Any, x: Any) -> Any:
        return jnp.tanh(x @ params["two"])

    def forward(params: Any, x: Any) -> Any:
        return jax.lax.cond(x.sum() > 0, one, two, params, x)

    params, x = {"one": jnp.ones((3, 2)), "two": jnp.ones((3, 2))}, jnp.ones((2, 3))

    @jax.jit  # type: ignore[untyped-decorator,unused-ignore]
    def update(params: Any, x: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda p: (forward(p, x) ** 2).sum())(params)
        return jax.tree.map(lambda p, g: p - 0.01 * g, params, gradients), loss

    with watch(Path(folder, "run"), params, deep=2, shadows=0) as run:
        for _ in range(2):
            params, _ = run.step(update, params, x)
    return {"folder": folder}


@pytest.mark.asks(question=hidden_in_jax, framework="jax")
def test_what_a_compiled_program_would_hide_is_looked_into_op_by_op(answer: dict[str, Any]) -> None:
    names = [layer["name"] for layer in read(Path(answer["folder"], "run")).meta["layers"]]
    assert any("/one/" in name for name in names)
    assert not any("/two/" in name for name in names)


def in_keras(folder: str) -> dict[str, Any]:
    """Called where Keras is: a model in a graph, compiled by XLA and eager, and a recurrence in a loop of its graph."""
    import keras

    from parity.watching import watch
    from parity.watching.keras import look

    def network(recurrent: bool) -> Any:
        keras.utils.set_random_seed(0)
        inner = (
            [keras.layers.LSTM(4)]
            if recurrent
            else [
                keras.layers.Conv1D(4, 3, name="conv"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.Flatten(name="flat"),
                keras.layers.Dropout(0.3, seed=1, name="drop"),
            ]
        )
        return keras.Sequential([keras.Input((6, 2)), *inner, keras.layers.Dense(2, name="out")])

    x = np.random.default_rng(0).normal(size=(STEPS, 3, 6, 2)).astype(np.float32)
    ways: dict[str, Any] = {
        "graph": {"jit_compile": False},
        "xla": {"jit_compile": True},
        "eager": {"run_eagerly": True},
        "recurrent": {"jit_compile": False},
    }
    into, found = look.Look.into, []

    def counted(self: Any, *given: Any) -> Any:
        made = into(self, *given)
        found.append([made is not None, len(self._graphs)])
        return made

    said = {}
    look.Look.into = counted
    try:
        for name, how in ways.items():
            found.clear()
            model = network(name == "recurrent")
            model.compile(keras.optimizers.SGD(0.01, clipnorm=0.1), "mse", metrics=["mae"], **how)
            with watch(Path(folder, name), model, deep=STEPS, shadows=0) as run:
                for each in x:
                    run.step(model.train_on_batch, each, each[:, 0])
            said[name] = list(found)
    finally:
        look.Look.into = into
    return {"folder": folder, "said": said}


@pytest.mark.asks(question=in_keras, framework="keras")
class TestKeras:
    def test_a_graph_is_traced_once_where_it_shows_the_layers(self, answer: dict[str, Any]) -> None:
        said = answer["said"]
        assert said["graph"] == said["xla"] == [[True, 1]] * STEPS
        assert said["eager"] == [[False, 0]] * STEPS
        assert said["recurrent"] == [[False, 1]] * STEPS

    @pytest.mark.parametrize("name", ["graph", "xla"])
    def test_all_ways_show_the_same(self, answer: dict[str, Any], name: str) -> None:
        alike(*(Path(answer["folder"], each) for each in (name, "eager")))


def alike(one: Path, other: Path) -> None:
    """Hold two recordings of one run against each other: the same tensors, equal but for rounding."""
    mine, theirs = read(one), read(other)
    assert mine.meta["layers"] == theirs.meta["layers"]
    assert set(mine.steps) == set(theirs.steps)
    assert any("/activation_gradients/" in name for name in mine.steps)
    assert any("/unclipped/" in name for name in mine.steps) == any("/unclipped/" in name for name in theirs.steps)
    for name, value in mine.steps.items():
        np.testing.assert_allclose(value, theirs.steps[name], rtol=2e-3, atol=2e-4, err_msg=name)
