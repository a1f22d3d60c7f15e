"""Loops of JAX as people write them: what an update takes and returns, and in which order."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.tests.command import Parity

NAMES = ["Dense_0/bias", "Dense_0/kernel", "Dense_1/bias", "Dense_1/kernel"]


def rows() -> tuple[Any, Any]:
    """Inputs (8, 3) float32 and classes (8,)."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(8, 3)).astype("float32"), generator.integers(0, 2, 8)


def linen(rate: float = 0.0) -> tuple[Any, Any, Callable[..., Any]]:
    """A flax model, its parameters, and a function of parameters and a batch that gives loss and accuracy."""
    import jax
    import optax
    from flax import linen as nn

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.relu(nn.Dense(4)(x))
            return nn.Dense(2)(nn.Dropout(rate, deterministic=not rate)(x))

    model, (x, _) = Model(), rows()
    params = model.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x)["params"]

    def loss_of(params: Any, x: Any, y: Any, key: Any = None) -> Any:
        logits = model.apply({"params": params}, x, rngs={"dropout": key} if rate else None)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
        return loss, (logits.argmax(-1) == y).mean()

    return model, params, loss_of


def update_with(tx: Any, loss_of: Callable[..., Any], **jitted: Any) -> Callable[..., Any]:
    """The update that most loops have: parameters and the optimizer's state, then loss and accuracy."""
    import jax
    import optax

    def update(params: Any, state: Any, x: Any, y: Any) -> Any:
        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(params, x, y)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss, accuracy

    return jax.jit(update, **jitted)


def equal(one: Any, other: Any) -> bool:
    """Say whether two trees are equal to the bit."""
    import jax

    return bool(jax.tree.all(jax.tree.map(np.array_equal, one, other)))


def caught(way: Callable[[], Any]) -> str:
    try:
        way()
    except ValueError as error:
        return str(error)
    return ""


def nnx_model() -> tuple[Any, Any]:
    import optax
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first, self.drop = nnx.Linear(3, 4, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
            self.norm, self.last = nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))

    model = Model(nnx.Rngs(0))
    return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


def returned(folder: str) -> dict[str, Any]:
    """Called where flax is: the loss in each place among other numbers."""
    import jax
    import jax.numpy as jnp
    import optax
    from flax import nnx

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    tx = optax.sgd(0.1)
    update = update_with(tx, loss_of)
    ways: dict[str, Callable[..., Any]] = {
        "accuracy first": lambda p, s, loss, accuracy: ((p, s), (accuracy, loss)),
        "loss first": lambda p, s, loss, accuracy: ((p, s), (loss, accuracy)),
        "flat": lambda p, s, loss, accuracy: (accuracy, loss, p, s),
        "named": lambda p, s, loss, accuracy: (p, s, {"aux_loss": accuracy, "loss": loss}),
        "other names": lambda p, s, loss, accuracy: (p, s, {"acc": accuracy, "objective": loss}),
    }
    found: dict[str, Any] = {"loss": float(loss_of(params, x, y)[0])}
    for name, way in ways.items():
        step = jax.jit(lambda p, s, x, y, way=way: way(*update(p, s, x, y)))
        with watch(Path(folder, "run"), params, tx.init(params), shadows=0, deep=int(name == "flat")) as run:
            run.step(step, params, tx.init(params), x, y)
        found[f"returned {name}"] = float(read(Path(folder, "run")).loss[0, 0])

    model, optimizer = nnx_model()
    model.eval()

    @nnx.jit
    def in_place(model: Any, optimizer: Any, x: Any, y: Any) -> Any:
        def loss_of(model: Any) -> Any:
            logits = model(x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), logits

        (loss, logits), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model)
        optimizer.update(model, gradients)
        return (logits.argmax(-1) == y).mean(), loss

    with watch(Path(folder, "run"), model, optimizer, shadows=0, deep=1) as run:
        _, loss = run.step(in_place, model, optimizer, x, y)
    found["nnx"] = float(loss), float(read(Path(folder, "run")).loss[0, 0])

    def by_hand(w: Any, x: Any) -> Any:
        error = x @ w
        return w - 0.1 * x.T @ error, (jnp.abs(error).mean(), jnp.square(error).mean())

    def scanned(params: Any, state: Any, xs: Any, ys: Any) -> Any:
        def one(carry: Any, batch: Any) -> Any:
            *carry, loss, _ = update(*carry, *batch)
            return tuple(carry), loss

        return jax.lax.scan(one, (params, state), (xs, ys))

    def unclear() -> None:
        with watch(Path(folder, "run"), jnp.ones(3), shadows=0, deep=0) as run:
            run.step(by_hand, jnp.ones(3), x)

    def several(made: Callable[..., Any], deep: int) -> None:
        with watch(Path(folder, "run"), params, tx.init(params), shadows=0, deep=deep) as run:
            run.step(jax.jit(made), params, tx.init(params), x.reshape(2, 4, 3), y.reshape(2, 4))

    def averaged(*given: Any) -> Any:
        state, losses = scanned(*given)
        return state, losses.mean()

    return found | {
        "by hand": caught(unclear),
        "scan": caught(lambda: several(scanned, 0)),
        "mean": caught(lambda: several(averaged, 1)),
    }


@pytest.mark.asks(question=returned, framework="jax")
def test_the_loss_is_what_was_differentiated_and_not_the_first_number(answer: dict[str, Any]) -> None:
    losses = {name: value for name, value in answer.items() if name.startswith("returned")}
    assert len(losses) == 5
    assert losses == dict.fromkeys(losses, pytest.approx(answer["loss"], rel=1e-6))
    assert answer["nnx"][0] == answer["nnx"][1]
    assert "nothing tells which of them is the loss" in answer["by hand"]
    assert '{"loss": loss, "accuracy": accuracy}' in answer["by hand"]
    assert "this one made 2: where jax.lax.scan makes several" in answer["mean"]
    assert "jax.lax.scan" in answer["scan"]
    assert "hand run.step the function of one update" in answer["scan"]


def unseen(folder: str) -> dict[str, list[str]]:
    """Called where flax is: loops that were left as they are."""
    import optax
    from flax import nnx

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    tx = optax.sgd(0.1)
    update, state = update_with(tx, loss_of), tx.init(params)
    found = {}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        with watch(Path(folder, "jax"), params, state):
            params, state, *_ = update(params, state, x, y)
    found["jax"] = [str(each.message) for each in said]
    model, optimizer = nnx_model()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        with watch(Path(folder, "nnx"), model, optimizer):
            optimizer.update(model, nnx.grad(lambda model: model(x).sum())(model))
    return found | {"nnx": [str(each.message) for each in said]}


@pytest.mark.asks(question=unseen, framework="jax")
def test_a_loop_whose_updates_nobody_saw_is_warned_of(answer: dict[str, list[str]]) -> None:
    (jax,), (nnx,) = answer["jax"], answer["nnx"]
    assert "holds the initial state alone" in jax
    assert "state, loss = run.step(step, state, batch)" in jax
    assert "loss = run.step(step, model, optimizer, batch)" in nnx


def donated(folder: str) -> dict[str, Any]:
    """Called where flax is: an update that takes the memory of its state, of its batch, and of a random key."""
    import jax
    import jax.numpy as jnp
    import optax

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    tx = optax.adam(1e-2)
    update = update_with(tx, loss_of, donate_argnums=(0, 1))

    @jax.jit
    def keyed(carry: Any, x: Any, y: Any) -> Any:
        params, state, key = carry
        key, noise = jax.random.split(key)
        params, state, loss, _ = update(params, state, x + 0.1 * jax.random.normal(noise, x.shape), y)
        return (params, state, key), loss

    everything = jax.jit(keyed, donate_argnums=(0, 1))

    def separate(folder: Path | None) -> Any:
        own, losses = jax.tree.map(jnp.array, params), []
        state = tx.init(own)
        with watch(folder, own, state, shadows=2, deep=2) if folder else nullcontext() as run:
            for _ in range(4):
                given = own, state, x, y
                own, state, loss, _ = update(*given) if run is None else run.step(update, *given)
                losses.append(float(loss))
        return losses, own

    def carried(folder: Path | None) -> Any:
        own, losses = jax.tree.map(jnp.array, params), []
        carry = own, tx.init(own), jax.random.key(3)
        with watch(folder, carry, shadows=2, deep=2) if folder else nullcontext() as run:
            for _ in range(4):
                given = carry, jnp.array(x), jnp.array(y)
                carry, loss = everything(*given) if run is None else run.step(everything, *given)
                losses.append(float(loss))
        return losses, carry[0]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Some donated buffers were not usable")
        return {way.__name__: equal(way(None), way(Path(folder, way.__name__))) for way in (separate, carried)} | {
            "folder": folder
        }


@pytest.mark.asks(question=donated, framework="jax")
def test_an_update_may_take_the_memory_of_what_it_is_called_with(answer: dict[str, Any]) -> None:
    assert answer["separate"]
    assert answer["carried"]
    for name in ("separate", "carried"):
        run = read(Path(answer["folder"], name))
        assert run.loss.shape == (4, 1)
        assert 0 < run.steps["1/strays/loss"].max() < 1e-4


def states(folder: str) -> dict[str, Any]:
    """Called where flax is: one state of several trees."""
    import jax
    import optax
    from flax import nnx

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    tx = optax.adam(1e-2)
    update = update_with(tx, loss_of)

    def record(name: str, state: Any, step: Callable[..., Any]) -> None:
        many = state if isinstance(state, list) else [state]
        with watch(Path(folder, name), *many, shadows=1, deep=2) as run:
            for _ in range(2):
                *many, _ = run.step(step, *many, x, y)

    @jax.jit
    def of_tuple(state: Any, x: Any, y: Any) -> Any:
        *state, loss, _ = update(*state, x, y)
        return tuple(state), loss

    @jax.jit
    def of_dict(state: Any, x: Any, y: Any) -> Any:
        *new, loss, _ = update(state["model"], state["optimizer"], x, y)
        return {"model": new[0], "optimizer": new[1]}, loss

    @jax.jit
    def with_mean(state: Any, x: Any, y: Any) -> Any:
        params, slots, loss, _ = update(state[0], state[2], x, y)
        return (params, optax.incremental_update(params, state[1], 0.1), slots), loss

    record("separate", [params, tx.init(params)], lambda *given: update(*given)[:3])
    record("tuple", (params, tx.init(params)), of_tuple)
    record("dict", {"model": params, "optimizer": tx.init(params)}, of_dict)
    record("mean", (params, params, tx.init(params)), with_mean)

    def loss_in(model: Any, x: Any, y: Any) -> Any:
        return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

    graph, whole = nnx.split(nnx_model())
    graphs, halves = zip(*map(nnx.split, nnx_model()), strict=True)

    @jax.jit
    def of_whole(state: Any, x: Any, y: Any) -> Any:
        model, optimizer = nnx.merge(graph, state)
        loss, gradients = nnx.value_and_grad(loss_in)(model, x, y)
        optimizer.update(model, gradients)
        return nnx.state((model, optimizer)), loss

    @jax.jit
    def of_halves(one: Any, other: Any, x: Any, y: Any) -> Any:
        model, optimizer = map(nnx.merge, graphs, (one, other))
        loss, gradients = nnx.value_and_grad(loss_in)(model, x, y)
        optimizer.update(model, gradients)
        return nnx.state(model), nnx.state(optimizer), loss

    record("nnx whole", whole, of_whole)
    record("nnx halves", list(halves), of_halves)
    return {"folder": folder}


@pytest.mark.asks(question=states, framework="jax")
def test_a_state_of_several_trees_is_named_as_they_are_one_by_one(answer: dict[str, Any]) -> None:
    runs = {path.name: read(path) for path in Path(answer["folder"]).iterdir()}
    separate, mean = runs["separate"], runs["mean"]
    assert sorted(separate.params) == NAMES
    for name in ("tuple", "dict"):
        assert runs[name].steps.keys() == separate.steps.keys()
        for tensor in (each for each in separate.steps if "/strays/" not in each):
            np.testing.assert_array_equal(runs[name].steps[tensor], separate.steps[tensor], err_msg=f"{name} {tensor}")
    assert sorted(mean.params) == sorted([*NAMES, *(f"1/{name}" for name in NAMES)])
    assert sorted(mean.meta["buffers"]) == [f"1/{name}" for name in NAMES]
    for name in ("nnx whole", "nnx halves"):
        trained = ["first/bias", "first/kernel", "last/bias", "last/kernel", "norm/bias", "norm/scale"]
        assert sorted(runs[name].params) == sorted([*trained, "norm/mean", "norm/var"])
        assert sorted(runs[name].meta["buffers"]) == ["norm/mean", "norm/var"]
        for step in steps_of(runs[name]):
            assert sorted(step.gradients) == trained
            slots = sorted(step.before.slots)
            assert slots == sorted(f"{slot}/{each}" for slot in ("first_moment", "second_moment") for each in trained)


def by_name(folder: str) -> dict[str, Any]:
    """Called where flax is: updates whose arguments have names, and a switch among them."""
    import jax
    import optax
    from flax import nnx

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    tx = optax.sgd(0.1)
    update = update_with(tx, loss_of)

    def step(state: Any, *, x: Any, y: Any, double: bool, rate: float) -> Any:
        *new, loss, _ = update(*state, 2 * x if double else x, y)
        return tuple(new), loss

    jitted = jax.jit(step, static_argnames="double")

    def trained(folder: Path | None) -> Any:
        state, losses = (params, tx.init(params)), []
        with watch(folder, state, shadows=1, deep=1) if folder else nullcontext() as run:
            for _ in range(2):
                given = {"state": state, "x": x, "y": y, "double": True, "rate": 0.5}
                state, loss = jitted(**given) if run is None else run.step(jitted, rows=np.arange(8), **given)
                losses.append(float(loss))
        return losses, state

    model, optimizer = nnx_model()

    @nnx.jit
    def in_place(model: Any, optimizer: Any, x: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda model: (model(x) ** 2).mean())(model)
        optimizer.update(model, gradients)
        return loss

    with watch(Path(folder, "nnx"), model, optimizer, shadows=1, deep=1) as run:
        run.step(in_place, model, x=x, optimizer=optimizer)
    return {"same": equal(trained(None), trained(Path(folder, "jax"))), "folder": folder}


@pytest.mark.asks(question=by_name, framework="jax")
def test_an_update_may_be_called_by_names(answer: dict[str, Any]) -> None:
    assert answer["same"]
    for name in ("jax", "nnx"):
        run = read(Path(answer["folder"], name))
        assert 0 < run.steps["0/strays/loss"].max() < 1e-5
    assert read(Path(answer["folder"], "jax")).steps["0/rows"].tolist() == list(range(8))


def wrapped(folder: str) -> dict[str, Any]:
    """Called where flax is: optimizers of optax that hold others."""
    import optax

    from parity.watching import watch

    (x, y), (_, params, loss_of) = rows(), linen()
    labels = {"Dense_0": "a", "Dense_1": "b"}
    several = optax.MultiSteps(optax.adam(1e-2), 2)
    ways: dict[str, Any] = {
        "accumulating": several,
        "accumulating transformation": several.gradient_transformation(),
        "finite": optax.apply_if_finite(optax.adam(1e-2), 3),
        "groups": optax.multi_transform({"a": optax.adam(1e-2), "b": optax.sgd(0.1, momentum=0.9)}, labels),
        "one rate": optax.multi_transform({"a": optax.adam(1e-2), "b": optax.sgd(1e-2)}, labels),
        "injected": optax.chain(
            optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(optax.linear_schedule(0.1, 0.0, 10))
        ),
        "unknown": optax.chain(optax.scale_by_adam(), optax.scale(-0.5), optax.scale(0.1)),
    }
    for name, tx in ways.items():
        own, state, update = params, tx.init(params), update_with(tx, loss_of)
        with watch(Path(folder, name), own, state, shadows=0, deep=3) as run:
            for _ in range(3):
                own, state, *_ = run.step(update, own, state, x, y)
    return {"folder": folder}


@pytest.mark.asks(question=wrapped, framework="jax")
class TestWrapped:
    @pytest.mark.parametrize(
        ("name", "rates"),
        [
            ("accumulating", [0.01] * 3),
            ("accumulating transformation", [0.01] * 3),
            ("finite", [0.01] * 3),
            ("one rate", [0.01] * 3),
            ("injected", [0.1, 0.09, 0.08]),
        ],
    )
    def test_the_learning_rate_is_that_of_the_inner_one(
        self, name: str, rates: list[float], answer: dict[str, Any]
    ) -> None:
        run = read(Path(answer["folder"], name))
        np.testing.assert_allclose([run.steps[f"{k}/learning_rate"] for k in range(3)], rates, rtol=1e-6)
        assert "notes" not in run.meta

    def test_of_several_or_none_it_is_said_that_it_is_unknown(self, answer: dict[str, Any]) -> None:
        groups, unknown = (read(Path(answer["folder"], name)) for name in ("groups", "unknown"))
        for run in (groups, unknown):
            assert "0/learning_rate" not in run.steps
            assert run.meta["notes"][0].startswith("no learning rate is recorded")
        assert "0.01 for a, 0.1 for b" in groups.meta["notes"][0]
        assert [group["learning_rate"] for group in groups.meta["optimizer"]["groups"]] == [0.01, 0.1]

    def test_updates_that_accumulate_are_not_said_to_depart(self, answer: dict[str, Any], parity: Parity) -> None:
        folder = Path(answer["folder"])
        said = parity("diff", folder / "accumulating", folder / "accumulating transformation")
        assert "not that of" not in said.out
        run = read(folder / "accumulating")
        assert run.meta["optimizer"]["class"] == "optax.MultiSteps scale_by_adam scale"
        assert run.meta["optimizer"]["groups"][0]["every_k"] == 2
        first, second, _ = steps_of(run)
        np.testing.assert_array_equal(first.before.params[NAMES[1]], second.before.params[NAMES[1]])
        np.testing.assert_array_equal(second.before.slots[f"acc_grads/{NAMES[1]}"], first.gradients[NAMES[1]])

    def test_slots_are_those_of_their_parameters(self, answer: dict[str, Any]) -> None:
        moments = [f"{slot}/{name}" for slot in ("first_moment", "second_moment") for name in NAMES[:2]]
        for step in steps_of(read(Path(answer["folder"], "groups"))):
            assert sorted(step.before.slots) == sorted([*moments, *(f"momentum/{name}" for name in NAMES[2:])])


def bitwise(folder: str) -> dict[str, bool]:
    """Called where flax is: a TrainState with dropout, a schedule and clipping, watched and not."""
    import jax
    import optax
    from flax.training.train_state import TrainState

    from parity.watching import watch

    (x, y), (model, params, loss_of) = rows(), linen(0.5)
    tx = optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(optax.linear_schedule(1e-2, 0.0, 10)))

    @jax.jit
    def step(state: Any, batch: Any, key: Any) -> Any:
        (loss, accuracy), gradients = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, batch["x"], batch["y"], jax.random.fold_in(key, state.step)
        )
        return state.apply_gradients(grads=gradients), {"accuracy": accuracy, "loss": loss}

    def trained(folder: Path | None) -> Any:
        state, key = TrainState.create(apply_fn=model.apply, params=params, tx=tx), jax.random.key(2)
        metrics = []
        with watch(folder, state, shadows=1, deep=2) if folder else nullcontext() as run:
            for _ in range(5):
                given = state, {"x": x, "y": y}, key
                state, said = step(*given) if run is None else run.step(step, *given)
                metrics.append(said)
        return metrics, state.params, state.opt_state

    plain, watched = trained(None), trained(Path(folder, "run"))
    losses = np.float32([said["loss"] for said in plain[0]])
    return {"state": equal(plain, watched), "losses": bool((read(Path(folder, "run")).loss[:, 0] == losses).all())}


@pytest.mark.asks(question=bitwise, framework="jax")
def test_watching_changes_no_bit_of_a_train_state_with_dropout_schedule_and_clipping(answer: dict[str, bool]) -> None:
    assert answer == {"state": True, "losses": True}


def with_a_tied_head(folder: str) -> dict[str, Any]:
    """Called where flax is: a model that applies another module within, with its embedding for that one's kernel."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import optax

    from parity.watching import watch

    class Tied(nn.Module):
        @nn.compact
        def __call__(self, words: Any) -> Any:
            embed = nn.Embed(7, 4)
            kernel = embed.variables["params"]["embedding"].T if not self.is_initializing() else jnp.zeros((4, 7))
            return nn.Dense(7, use_bias=False).apply({"params": {"kernel": kernel}}, jnp.tanh(embed(words)))

    model, words = Tied(), jnp.arange(6)
    params = model.init(jax.random.key(0), words)["params"]
    tx = optax.adam(1e-2)
    state = tx.init(params)

    @jax.jit
    def update(params: Any, state: Any, words: Any) -> Any:
        def loss_of(params: Any) -> Any:
            logits = model.apply({"params": params}, words)
            return optax.softmax_cross_entropy_with_integer_labels(logits, (words + 1) % 7).mean()

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    with watch(Path(folder, "run"), params, state, shadows=0, deep=1) as run:
        run.step(update, params, state, words)
    run = read(Path(folder, "run"))
    return {"layers": [layer.name for layer in layers_of(run)], "shape": run.steps["0/prediction"].shape[-1:]}


@pytest.mark.asks(question=with_a_tied_head, framework="jax")
def test_a_module_that_is_applied_within_another_is_a_layer_of_it(answer: dict[str, Any]) -> None:
    assert list(answer["layers"]) == ["Embed_0", "Dense"]
    assert list(answer["shape"]) == [7]
