"""One line around a loop: it is recorded as it was, and judged by its own noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.frameworks import framework_of
from parity.judging.floors.floor import FLOOR
from parity.recording.reader import read
from parity.recording.sketch import digest, sketch
from parity.recording.steps import steps_of
from parity.running.executor import Environment
from parity.tests.command import Parity
from parity.tests.warm import Warm
from parity.tests.watching.ports import STEPS, in_torch, trained

# Where it is hard, in every run of the tests; both in those that take their time.
DTYPES = ("float32", pytest.param("float64", marks=pytest.mark.slow))
PORTS = (("torch", "adamw"), ("flax", "adamw"), ("keras", "sgd"))
BUFFERS = {
    "torch": ["1.running_mean", "1.running_var"],
    "flax": ["BatchNorm_0/mean", "BatchNorm_0/var"],
    "keras": ["norm/moving_mean", "norm/moving_variance"],
}
KINDS = {
    "torch": ["Conv2d", "BatchNorm2d", "ReLU", "Flatten", "Linear"],
    "flax": ["Conv", "BatchNorm", "Dense"],
    "keras": ["ZeroPadding2D", "Conv2D", "BatchNormalization", "ReLU", "Permute", "Flatten", "Dense"],
}


@pytest.mark.asks(question=trained)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("label", "rule"), PORTS)
class TestPort:
    def test_watching_changes_no_bit_of_the_run(
        self, label: str, rule: str, dtype: str, answer: dict[str, Any]
    ) -> None:
        assert answer["losses"]
        assert answer["state"]

    def test_all_that_went_into_an_update_is_recorded(
        self, label: str, rule: str, dtype: str, answer: dict[str, Any]
    ) -> None:
        run = read(Path(answer["folder"], "right"))
        assert run.meta["dtype"] == dtype
        assert run.loss.shape == (STEPS, 1)
        assert run.epochs.tolist() == [0, 1, 2, 4, 8, STEPS]
        assert sorted(run.meta["buffers"]) == BUFFERS[label]
        assert len(run.meta.get("random", "")) in {"torch": (64,), "flax": (0,), "keras": (0, 64)}[label]
        layers = run.meta["layers"]
        assert [layer["kind"] for layer in layers if layer["kind"] != "Dropout"] == KINDS[label]
        norm = next(layer for layer in layers if "BatchNorm" in layer["kind"])
        assert 1e-5 in norm["configuration"].values()
        steps = steps_of(run)
        assert len(steps) == STEPS
        slot = {"adamw": "first_moment", "sgd": "momentum"}[rule]
        for step in steps:
            assert {"conv/kernel", "dense/bias"} <= set(step.gradients)
            assert "norm/mean" not in step.gradients
            assert step.prediction.shape == (8, 4)
            for name in (name for layer in layers for name in layer["outputs"]):
                assert np.isfinite(step.activations[name]).all()
                # What the input alone goes through needs no gradient.
                if name in step.activation_gradients:
                    assert step.activations[name].shape == step.activation_gradients[name].shape
            assert len(step.activation_gradients) >= 3
            assert f"{slot}/conv/kernel" in step.before.slots
        np.testing.assert_array_equal(steps[0].before.slots[f"{slot}/conv/kernel"], 0)
        np.testing.assert_array_equal(steps[1].before.params["conv/kernel"], run.params["conv/kernel"][1])

    def test_another_epsilon_fails_by_the_run_s_own_floor(
        self, label: str, rule: str, dtype: str, answer: dict[str, Any], parity: Parity
    ) -> None:
        folder = Path(answer["folder"])
        result = parity("diff", folder / "wrong", folder / "right", "--json", "-")
        assert result.status == 1
        assert "has no noise floor" not in result.err + result.out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("other", "rule"), PORTS[1:])
def test_a_right_port_passes_and_a_wrong_one_fails(
    other: str, rule: str, dtype: str, warm: Warm, tmp_path_factory: pytest.TempPathFactory, parity: Parity
) -> None:
    """In float32 too, where rounding alone moves a bias before BatchNorm by full steps of Adam."""

    def runs(label: str) -> Path:
        where, arguments = Environment(framework_of(label).name, "cpu"), {"label": label, "rule": rule, "dtype": dtype}
        port = warm.ask(trained, where, arguments, folder=lambda: tmp_path_factory.mktemp("port"))
        return Path(port.result()["folder"])

    mine, theirs = runs("torch"), runs(other)
    right = parity("diff", mine / "right", theirs / "right", "--json", "-")
    assert right.status == 0, right.out
    for pair in ((mine / "wrong", theirs / "right"), (mine / "right", theirs / "wrong")):
        assert parity("diff", *pair).status == 1
        assert "prediction" in parity("explain", *pair).out


def loops(dtype: str, folder: str) -> str:
    """Called where torch is: the loop as it stands, and what is kept of it."""
    in_torch(Path(folder, "loop"), dtype, closure=False)
    in_torch(Path(folder, "closure"), dtype)
    in_torch(Path(folder, "sketch"), dtype, keep="sketch", shadows=1, every=3, deep=2)
    in_torch(Path(folder, "hash"), dtype, keep="hash", shadows=0, deep=2)
    return folder


@pytest.mark.asks(question=loops, framework="torch")
@pytest.mark.parametrize("dtype", ["float32"])
class TestLoop:
    def test_a_loop_that_stays_as_it_is_records_the_same_and_no_floor(self, dtype: str, answer: str) -> None:
        one, other = (read(Path(answer, name)) for name in ("loop", "closure"))
        assert one.meta["layers"] == other.meta["layers"]
        alone = {name for name in other.steps if "/strays/" in name}
        assert alone
        assert set(one.steps) == set(other.steps) - alone
        for name, value in one.steps.items():
            np.testing.assert_array_equal(value, other.steps[name], err_msg=name)
        assert Path(answer, "closure", FLOOR).is_file()
        assert not Path(answer, "loop", FLOOR).exists()

    def test_of_layers_a_sketch_is_enough_to_tell_them_apart(self, dtype: str, answer: str) -> None:
        run, whole = read(Path(answer, "sketch")), read(Path(answer, "closure"))
        assert run.epochs.tolist() == [0, 1, 2, 3, 4, 6, 8, 9, STEPS]
        assert len(steps_of(run)) == 2
        for name, value in run.steps.items():
            if "/activations/" in name and "/strays/" not in name:
                np.testing.assert_array_equal(value, sketch(whole.steps[name]))

    def test_of_layers_a_hash_tells_whether_they_are_equal_to_the_bit(self, dtype: str, answer: str) -> None:
        run, whole = read(Path(answer, "hash")), read(Path(answer, "closure"))
        assert run.meta["keep"] == "hash"
        layers = [name for name in run.steps if "/activation" in name]
        assert layers
        for name in layers:
            np.testing.assert_array_equal(run.steps[name], digest(whole.steps[name]))


def compiled(folder: str) -> dict[str, Any]:
    """Called where torch is: a compiled module, whose layers are seen in an update made aside."""
    import torch

    def wrapped(model: Any) -> Any:
        return torch.compile(model, backend="aot_eager")

    plain, seen = in_torch(None, "float64", wrapped=wrapped), in_torch(Path(folder, "seen"), "float64", wrapped=wrapped)
    in_torch(Path(folder, "hidden"), "float64", wrapped=wrapped, closure=False)
    in_torch(Path(folder, "eager"), "float64")
    same = all(np.array_equal(plain[1][name], seen[1][name]) for name in plain[1])
    return {"folder": folder, "losses": plain[0] == seen[0], "state": same}


@pytest.mark.asks(question=compiled, framework="torch")
def test_a_compiled_module_s_layers_are_seen_aside_or_it_is_said(answer: dict[str, Any], parity: Parity) -> None:
    folder = Path(answer["folder"])
    seen, hidden, eager = (read(folder / name) for name in ("seen", "hidden", "eager"))
    assert answer["losses"]
    assert answer["state"]
    assert [layer["name"] for layer in seen.meta["layers"]] == [layer["name"] for layer in eager.meta["layers"]]
    assert not hidden.meta["layers"]
    assert "hides its layers" in hidden.meta["notes"][0]
    assert not [name for name in hidden.steps if "/activations/" in name]
    assert parity("diff", folder / "seen", folder / "eager").status == 0


def refused(folder: str) -> dict[str, str]:
    """Called where torch is: what watching refuses, each with its words."""
    import torch

    from parity.trajectory import TrajectoryError
    from parity.watching import watch

    model, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.ones(3, 2)

    def other_model() -> None:
        with watch(Path(folder, "a"), model, sgd) as run:
            run.step(lambda: other(x).sum())

    def twice() -> None:
        with watch(Path(folder, "b"), model, sgd) as run:
            run.step(lambda: [(sgd.zero_grad(), model(x).sum().backward(), sgd.step()) for _ in range(2)])

    def nothing_to_follow() -> None:
        with watch(Path(folder, "c"), model, sgd, follow=Path(folder, "none")):
            pass

    ways = {
        "a run that is not there": nothing_to_follow,
        "nothing": lambda: watch(Path(folder, "c")),
        "a model alone": lambda: watch(Path(folder, "c"), model),
        "another optimizer": lambda: watch(Path(folder, "c"), other, sgd),
        "another model": other_model,
        "two updates": twice,
        "keep": lambda: watch(Path(folder, "c"), model, sgd, keep="all"),
        "every": lambda: watch(Path(folder, "c"), model, sgd, every=0),
        "two dtypes": lambda: watch(Path(folder, "c"), torch.nn.Sequential(model, other.double()), sgd),
    }
    found = {}
    for name, way in ways.items():
        try:
            way()
        except (ValueError, TrajectoryError) as error:
            found[name] = str(error)
        assert not model._forward_hooks, name
        assert torch.Tensor.backward.__module__ == "torch._tensor", name
    return found


@pytest.mark.asks(question=refused, framework="torch")
def test_what_cannot_be_watched_is_refused_with_what_to_do(answer: dict[str, str]) -> None:
    words = {
        "nothing": "nothing here can watch nothing: hand over a torch module and its optimizer",
        "a model alone": "nothing here can watch Linear",
        "a run that is not there": "is missing",
        "another optimizer": "watch the module that it trains",
        "another model": "watch the module that your loop calls",
        "two updates": "this one made 2",
        "keep": "'values', 'sketch' or 'hash', not 'all'",
        "every": "an integer from 1 on, not 0",
        "two dtypes": "float32, float64: give it one",
    }
    assert set(answer) == set(words)
    for name, said in words.items():
        assert said in answer[name], name


def frozen(folder: str) -> dict[str, Any]:
    """Called where torch is: a frozen parameter, and a closure that makes the whole update, as a loop makes it."""
    import torch

    from parity.layout import Slot
    from parity.watching import watch

    layout = [Slot("dense/kernel", "weight", axes=(1, 0))]
    for name in ("whole", "loss"):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        model.bias.requires_grad_(False)
        optimizer = torch.optim.SGD([model.weight], lr=0.1)

        def update(x: Any, whole: bool = name == "whole", model: Any = model, optimizer: Any = optimizer) -> Any:
            loss = model(x).square().mean()
            if whole:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            return loss

        with watch(Path(folder, name), model, optimizer, layout=layout) as run:
            for x in torch.linspace(-1, 1, 24).view(4, 2, 3):
                run.step(lambda x=x, update=update: update(x))
    return {"folder": folder}


@pytest.mark.asks(question=frozen, framework="torch")
def test_a_frozen_parameter_is_none_that_trains_and_a_closure_may_make_the_whole_update(answer: dict[str, Any]) -> None:
    whole, loss = (read(Path(answer["folder"], name)) for name in ("whole", "loss"))
    assert whole.meta["buffers"] == ["bias"]
    assert list(whole.params) == ["dense/kernel"]
    np.testing.assert_array_equal(whole.loss, loss.loss)
    assert len(np.unique(whole.loss)) == 4


def held_on_to(folder: str, framework: str) -> list[int]:
    """Called where a framework is: how many tensors live after each of some deep updates, with nothing collected."""
    import gc

    from parity import recorder
    from parity.recording import writer
    from parity.watching import watch

    watched, updated, alive = {"torch": in_torch_alone, "jax": in_jax_alone, "tensorflow": in_keras_alone}[framework]()
    found, sizes = [], (recorder.SHARD_BYTES, writer.SHARD_BYTES)
    recorder.SHARD_BYTES = writer.SHARD_BYTES = 1  # else what waits to be written is held on to, as it should be
    with watch(Path(folder, "run"), *watched, deep=14, shadows=0) as run:
        updated(run)
        gc.collect()
        gc.disable()
        try:
            for _ in range(12):
                updated(run)
                found.append(alive())
        finally:
            gc.enable()
            recorder.SHARD_BYTES, writer.SHARD_BYTES = sizes
    return found


def in_torch_alone() -> tuple[Any, Any, Any]:
    import gc

    import torch

    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.Adam(model.parameters())

    def updated(run: Any) -> None:
        optimizer.zero_grad()
        model(torch.ones(2, 3)).square().mean().backward()
        optimizer.step()

    return (model, optimizer), updated, lambda: sum(type(each) is torch.Tensor for each in gc.get_objects())


def in_jax_alone() -> tuple[Any, Any, Any]:
    import flax.linen as nn
    import jax
    import optax

    x = np.ones((2, 3), np.float32)
    model, tx = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(1)]), optax.adam(1e-3)
    params = model.init(jax.random.key(0), x)
    now = {"state": (params, tx.init(params))}

    def step(params: Any, state: Any, x: Any) -> Any:
        loss, gradients = jax.value_and_grad(lambda p: (model.apply(p, x) ** 2).mean())(params)
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    def updated(run: Any) -> None:
        *state, _ = run.step(step, *now["state"], x)
        now["state"] = tuple(state)

    return now["state"], updated, lambda: len(jax.live_arrays())


def in_keras_alone() -> tuple[Any, Any, Any]:
    import gc

    import keras
    import tensorflow as tf

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "relu"), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 1), np.float32)
    kind = type(tf.constant(0.0))
    return (
        (model,),
        lambda run: run.step(model.train_on_batch, x, y),
        lambda: sum(type(each) is kind for each in gc.get_objects()),
    )


@pytest.mark.parametrize("framework", ["torch", "jax", "tensorflow"])
def test_a_deep_update_that_is_over_is_not_held_on_to(framework: str, warm: Warm, tmp_path: Path) -> None:
    ask = warm.ask(held_on_to, Environment(framework), {"framework": framework}, folder=lambda: tmp_path)
    found = ask.result()
    assert found[-1] <= found[3], found


def clipped(folder: str) -> dict[str, Any]:
    """Called where Keras is: its optimizer clips by itself, which torch's users do before."""
    import keras

    from parity.watching import watch

    model = keras.Sequential([keras.Input((3,), dtype="float32"), keras.layers.Dense(2, dtype="float32")])
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=1e-3), "mse")
    with watch(Path(folder, "run"), model, shadows=0) as run:
        for x in np.linspace(-1, 1, 24, dtype=np.float32).reshape(4, 2, 3):
            run.step(model.train_on_batch, x, x[:, :2] + 1)
    return {"folder": folder}


@pytest.mark.asks(question=clipped, framework="keras")
def test_gradients_are_those_that_an_optimizer_has_clipped(answer: dict[str, Any]) -> None:
    for step in steps_of(read(Path(answer["folder"], "run"))):
        norm = np.sqrt(sum(np.sum(np.square(gradient, dtype=float)) for gradient in step.gradients.values()))
        assert norm == pytest.approx(1e-3)


def in_torch_by_name(folder: str) -> dict[str, Any]:
    """Called where torch is: a closure whose arguments have names."""
    import torch

    from parity.watching import watch

    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.linspace(-1, 1, 6).view(2, 3)
    expected = float(model(x).square().mean())
    with watch(Path(folder, "run"), model, optimizer, shadows=1) as run:
        run.step(lambda function, *, scale: (scale * model(function).square()).mean(), function=x, scale=1.0)
    return {"folder": folder, "loss": expected}


def in_keras_by_name(folder: str) -> dict[str, Any]:
    """Called where Keras is: weights of a batch's rows."""
    import keras

    from parity.watching import watch

    model = keras.Sequential([keras.Input((3,), dtype="float32"), keras.layers.Dense(2, dtype="float32")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    x = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    given, weights = {"x": x, "y": x[:, :2] + 1}, np.float32([0.0, 2.0])
    expected = float(np.mean(np.square(np.asarray(model(x))[1] - given["y"][1])))
    with watch(Path(folder, "run"), model, shadows=1) as run:
        run.step(model.train_on_batch, **given, sample_weight=weights)
    return {"folder": folder, "loss": expected}


def in_tf1_by_name(folder: str) -> dict[str, Any]:
    """Called where TensorFlow is: the placeholders' values by the name that ``session.run`` has for them."""
    import tensorflow as tf

    from parity.watching import watch

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), tf1.Session() as session:
        x = tf1.placeholder("float32", [None, 3])
        kernel = tf1.get_variable("kernel", initializer=np.float32([[1], [2], [3]]))
        loss = tf.reduce_mean(tf.square(tf.matmul(x, kernel)))
        train = tf1.train.GradientDescentOptimizer(0.1).minimize(loss)
        session.run(tf1.global_variables_initializer())
        with watch(Path(folder, "run"), session, loss, train, shadows=1) as run:
            run.step(session.run, [train, loss], feed_dict={x: np.ones((2, 3), "float32")})
    return {"folder": folder, "loss": 36.0}


class TestByName:
    def check(self, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], "run"))
        np.testing.assert_allclose(run.loss, answer["loss"], rtol=1e-6)
        assert "0/strays/loss" in run.steps

    @pytest.mark.asks(question=in_torch_by_name, framework="torch")
    def test_a_closure_may_be_called_by_names(self, answer: dict[str, Any]) -> None:
        self.check(answer)

    @pytest.mark.asks(question=in_keras_by_name, framework="keras")
    def test_rows_may_have_weights(self, answer: dict[str, Any]) -> None:
        self.check(answer)

    @pytest.mark.asks(question=in_tf1_by_name, framework="tensorflow")
    def test_a_session_may_be_fed_by_name(self, answer: dict[str, Any]) -> None:
        self.check(answer)
