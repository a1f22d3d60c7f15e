"""A loop of TensorFlow 1: a graph, a session, and one ``session.run`` a batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from parity.judging.floors.floor import FLOOR
from parity.layout import Slot
from parity.recording.reader import read
from parity.recording.steps import steps_of
from parity.tests.watching.ports import BATCH, CLASSES, STEPS, WRONG, batches, initial

TF1 = {
    "conv/kernel": "conv/w",
    "conv/bias": "conv/b",
    "norm/scale": "norm/gamma",
    "norm/bias": "norm/beta",
    "norm/mean": "norm/mean",
    "norm/variance": "norm/variance",
    "dense/kernel": "dense/w",
    "dense/bias": "dense/b",
}
LAYOUT = [Slot(canonical, name) for canonical, name in TF1.items() if canonical != "norm/variance"]
DTYPES = ("float32", pytest.param("float64", marks=pytest.mark.slow))


def in_tf1(
    folder: Path | None,
    dtype: str,
    epsilon: float = 1e-5,
    closure: bool = True,
    clip: float | None = None,
    drop: float | None = None,
    **watching: Any,
) -> tuple[list[float], dict[str, Any]]:
    """The small convolutional network of ``ports`` as a graph, trained by SGD with momentum: TF1's Adam is another."""
    import tensorflow as tf

    from parity.watching import watch

    tf1, begun = tf.compat.v1, initial(dtype)
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.set_random_seed(3)
        x = tf1.placeholder(dtype, [None, 8, 8, 2], name="images")
        y = tf1.placeholder("int64", [None], name="labels")
        held: dict[str, Any] = {
            canonical: tf1.get_variable(
                name, initializer=begun[canonical], trainable=name not in ("norm/mean", "norm/variance")
            )
            for canonical, name in TF1.items()
        }
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        h = tf.nn.bias_add(tf.nn.conv2d(padded, held["conv/kernel"], 2, "VALID"), held["conv/bias"])
        mean, variance = tf.nn.moments(h, [0, 1, 2])
        moved = [
            tf1.assign(held[f"norm/{which}"], 0.9 * held[f"norm/{which}"] + 0.1 * now)
            for which, now in (("mean", mean), ("variance", variance))
        ]
        h = tf.nn.batch_normalization(h, mean, variance, held["norm/bias"], held["norm/scale"], epsilon)
        h = tf.reshape(tf.transpose(tf.nn.relu(h), [0, 3, 1, 2]), [-1, 64])
        if drop is not None:
            h = tf.nn.dropout(h, rate=drop)
        logits = tf.matmul(h, held["dense/kernel"]) + held["dense/bias"]
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
        rate, momentum = np.array([0.05, 0.9], dtype)  # plain numbers go through float32
        optimizer = tf1.train.MomentumOptimizer(rate, momentum)
        pairs = optimizer.compute_gradients(loss)
        if clip is not None:
            clipped, _ = tf.clip_by_global_norm([gradient for gradient, _ in pairs], clip)
            pairs = list(zip(clipped, (variable for _, variable in pairs), strict=True))
        with tf.control_dependencies(moved):
            train = optimizer.apply_gradients(pairs)
        session.run(tf1.global_variables_initializer())
        losses = []
        watched = session, loss, train
        with watch(folder, *watched, layout=LAYOUT, **watching) if folder else nullcontext() as run:
            for images, labels in batches(dtype):
                feed = {x: images, y: labels}
                if run is not None and closure:
                    _, value = run.step(session.run, [train, loss], feed)
                else:
                    _, value = session.run([train, loss], feed_dict=feed)
                losses.append(float(value))
        return losses, {name: session.run(variable) for name, variable in held.items()}


def tf1_trained(dtype: str, folder: str) -> dict[str, Any]:
    """Called where TensorFlow is: watched and not, with another epsilon, and the loop as it stands."""
    found: dict[str, Any] = {"folder": folder}
    for name, how in (
        ("right", {}),
        ("loop", {"closure": False}),
        ("clipped", {"clip": 0.1, "deep": 3, "shadows": 0}),
        ("dropout", {"drop": 0.5, "shadows": 0, "closure": False}),
    ):
        graph = {key: value for key, value in how.items() if key in ("clip", "drop")}
        plain, after = in_tf1(None, dtype, **graph)
        seen, watched = in_tf1(Path(folder, name), dtype, **how)
        found[name] = plain == seen and all(np.array_equal(after[key], watched[key]) for key in after)
    in_tf1(Path(folder, "wrong"), dtype, WRONG)
    try:
        in_tf1(Path(folder, "random"), dtype, drop=0.5)
    except ValueError as error:
        found["refused"] = str(error)
    return found


@pytest.mark.asks(question=tf1_trained, framework="tensorflow")
@pytest.mark.parametrize("dtype", DTYPES)
class TestTf1:
    def test_watching_changes_no_bit_of_the_run(self, dtype: str, answer: dict[str, Any]) -> None:
        assert {name: answer[name] for name in ("right", "loop", "clipped", "dropout")} == dict.fromkeys(
            ("right", "loop", "clipped", "dropout"), True
        )

    @pytest.mark.parametrize("name", ["right", "loop"])
    def test_all_that_went_into_an_update_is_recorded(self, name: str, dtype: str, answer: dict[str, Any]) -> None:
        run = read(Path(answer["folder"], name))
        assert Path(answer["folder"], name, FLOOR).is_file() == (name == "right")
        assert run.meta["dtype"] == dtype
        assert run.loss.shape == (STEPS, 1)
        assert run.meta["buffers"] == ["norm/mean", "norm/variance"]
        assert run.meta["hyper_parameters"]["optimizer"].startswith("Sgd(learning_rate=0.05")
        assert run.meta["optimizer"]["class"] == "ResourceApplyMomentum"
        layers = {layer["name"]: layer for layer in run.meta["layers"]}
        kinds = [layer["kind"] for layer in layers.values()]
        assert [kind for kind in kinds if kind in ("Conv2D", "BiasAdd", "Rsqrt", "Relu", "MatMul")] == [
            *("Conv2D", "BiasAdd", "Rsqrt", "Relu", "MatMul")
        ]
        assert layers["Conv2D"]["configuration"]["strides"] == [1, 2, 2, 1]
        assert layers["Conv2D"]["configuration"]["padding"] == "VALID"
        epsilon = next(layer for layer in layers.values() if layer["name"] == "batchnorm/add")
        assert epsilon["configuration"]["y"] == pytest.approx(1e-5)
        assert layers["BiasAdd"]["inputs"] == ["Conv2D"]
        assert layers["MatMul"]["inputs"] == ["MatMul-in0"]
        for step in steps_of(run):
            assert {"conv/kernel", "dense/bias"} <= set(step.gradients)
            assert "norm/mean" not in step.gradients
            assert step.prediction.shape == (BATCH, CLASSES)
            assert "momentum/conv/kernel" in step.before.slots
            assert step.activations["Relu"].shape == step.activation_gradients["Relu"].shape
        assert run.steps["0/learning_rate"] == 0.05

    def test_gradients_are_kept_before_and_after_clipping(self, dtype: str, answer: dict[str, Any]) -> None:
        run, whole = (read(Path(answer["folder"], name)) for name in ("clipped", "right"))
        before, after = (run.steps[f"0/{kind}/dense/kernel"] for kind in ("unclipped", "gradients"))
        np.testing.assert_array_equal(before, whole.steps["0/gradients/dense/kernel"])
        assert np.abs(after).max() < np.abs(before).max()

    def test_a_graph_that_draws_random_numbers_has_no_shadows(self, dtype: str, answer: dict[str, Any]) -> None:
        assert "shadows=0" in answer["refused"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_right_port_passes_and_a_wrong_one_fails(dtype: str, against_torch: Callable[..., None]) -> None:
    against_torch(tf1_trained, "tensorflow", rule="sgd", dtype=dtype)


def in_session(
    kind: str, folder: Path | None, closure: bool = True, steps: int = 4, late: bool = False
) -> tuple[list[float], Any]:
    """A line through points, trained in a session of some kind."""
    import tensorflow as tf

    from parity.watching import watch

    tf1 = tf.compat.v1
    with tf.Graph().as_default(), ExitStack() as stack:
        x = tf1.placeholder("float32", [None, 2])
        slope, shift = (tf1.get_variable(k, initializer=np.float32(v)) for k, v in (("slope", [[1], [-1]]), ("b", [0])))
        loss = tf.reduce_mean(tf.square(tf.matmul(x, slope) + shift - 1.0))
        count = tf1.train.get_or_create_global_step()
        train = tf1.train.AdamOptimizer(0.1).minimize(loss, global_step=count)
        if kind == "monitored":
            hooks = [tf1.train.StopAtStepHook(num_steps=9)]
            session = stack.enter_context(tf1.train.MonitoredTrainingSession(hooks=hooks))
        else:
            session = stack.enter_context(tf1.Session()) if kind == "plain" else tf1.InteractiveSession()
            if kind == "interactive":
                stack.callback(session.close)
            if not late:
                session.run(tf1.global_variables_initializer())
        losses = []
        with watch(folder, session, loss, train, deep=2, shadows=2) if folder else nullcontext() as run:
            if late:
                session.run(tf1.global_variables_initializer())
            for k in range(steps):
                feed = {x: np.float32([[k, 1], [2, -k]])}
                made = session.run if run is None or not closure else lambda *given: run.step(session.run, *given)
                losses.append(float(made([train, loss], feed)[1]))
        return losses, session.run([slope, shift])


def sessions(folder: str) -> dict[str, Any]:
    """Called where TensorFlow is: each kind of session watched and not, and what is refused."""
    found: dict[str, Any] = {"folder": folder}
    for kind in ("plain", "interactive", "monitored"):
        plain, after = in_session(kind, None)
        for closure in (True, False):
            seen, mine = in_session(kind, Path(folder, f"{kind}-{closure}"), closure)
            found[f"{kind}-{closure}"] = plain == seen and all(map(np.array_equal, after, mine))
    try:
        in_session("plain", Path(folder, "late"), late=True)
    except ValueError as error:
        found["late"] = str(error)
    return found


@pytest.mark.asks(question=sessions, framework="tensorflow")
class TestSessions:
    @pytest.mark.parametrize("closure", [True, False])
    @pytest.mark.parametrize("kind", ["plain", "interactive", "monitored"])
    def test_every_kind_of_session_is_watched(self, kind: str, closure: bool, answer: dict[str, Any]) -> None:
        assert answer[f"{kind}-{closure}"]
        run = read(Path(answer["folder"], f"{kind}-{closure}"))
        assert run.loss.shape == (4, 1)
        assert set(steps_of(run)[0].gradients) == {"slope", "b"}
        assert Path(answer["folder"], f"{kind}-{closure}", FLOOR).is_file() == closure

    def test_variables_without_values_are_refused_with_what_to_do(self, answer: dict[str, Any]) -> None:
        assert "have no values yet, slope, b, global_step" in answer["late"]
        assert "before parity.watch" in answer["late"]


def unseen(folder: str) -> list[str]:
    """Called where TensorFlow is: a block in which nothing trains."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        in_session("plain", Path(folder, "empty"), steps=0)
    return [str(each.message) for each in warned if each.category is UserWarning]


@pytest.mark.asks(question=unseen, framework="tensorflow")
def test_an_empty_recording_warns(answer: list[str]) -> None:
    assert [
        each for each in answer if "holds the initial state alone: watch the training operation and the session" in each
    ]
