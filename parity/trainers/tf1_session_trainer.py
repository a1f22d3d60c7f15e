"""Training in a TF1 graph as its first users did: named tensors, and one ``session.run`` a batch with a feed dict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as v1

from parity.layout import Layout, to_canonical, to_framework
from parity.spec import Case
from parity.trainer import State, Trained

# On import, that module sets one thread and one order of every sum for TensorFlow.
from parity.trainers.tf1_trainer import SESSION, device_of, to_numpy
from parity.typing import Array, Batches, Params


class Tf1SessionTrainer:
    """The five verbs with a graph that holds the whole model, down to its update, under names of its own.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the graph's variables, by their names.
        define: Adds the operations to the default graph: the placeholders ``inputs`` and ``targets``, the variables,
            ``cost``, and ``train``, which updates every variable once by an optimizer that keeps no slots.
        prediction: The name of the operation that predicts.

    Raises:
        ValueError: If TensorFlow sees no such device.
    """

    def __init__(
        self, case: Case, dtype: str, device: str, layout: Layout, define: Callable[[], None], prediction: str
    ) -> None:
        self.layout, self.prediction = layout, f"{prediction}:0"
        self.dtype = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
        with tf.Graph().as_default() as graph, tf.device(device_of(device)):
            define()
            self.variables = {variable.op.name: variable for variable in v1.trainable_variables()}
            cost = graph.get_tensor_by_name("cost:0")
            slopes = v1.gradients(cost, list(self.variables.values()))
            self.evaluation = cost, dict(zip(self.variables, slopes, strict=True))
            initializer = v1.global_variables_initializer()
        self.targets = [-1 if size is None else size for size in graph.get_tensor_by_name("targets:0").shape]
        self.session = v1.Session(graph=graph, config=SESSION)
        self.session.run(initializer)
        data = case.data()
        self.x, self.y = self._cast(data.x), self._cast(data.y)
        self.load(State(case.initial()))

    def predict(self, x: Array) -> Array:
        return to_numpy(self.session.run(self.prediction, {"inputs:0": self._cast(x)}))

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, gradients = self.session.run(self.evaluation, self._feed(self._cast(x), self._cast(y)))
        return float(loss), self._canonical(gradients)

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        losses, snapshots, predictions = [], [], []
        for segment in segments:
            for rows in segment:
                _, cost = self.session.run(["train", "cost:0"], self._feed(self.x[rows], self.y[rows]))
                losses.append(cost)
                self.step += 1
            snapshots.append(self.session.run(self.variables))
            predictions.append([self.predict(x) for x in inputs])
        stacked = {name: np.stack([snapshot[name] for snapshot in snapshots]) for name in self.variables}
        return Trained(
            to_numpy(np.array(losses)).reshape(len(segments), -1),
            self._canonical(stacked, stacked=1),
            tuple(map(np.stack, zip(*predictions, strict=True))),
        )

    def export(self) -> State:
        return State(self._canonical(self.session.run(self.variables)), {}, self.step)

    def load(self, state: State) -> None:
        params = to_framework(self.layout, state.params)
        # A variable's initializer assigns the value that is fed in the place of its initial value.
        feed = {v.initializer.inputs[1]: self._cast(params[name]) for name, v in self.variables.items()}
        self.session.run([variable.initializer for variable in self.variables.values()], feed)
        self.step = state.step

    def _feed(self, x: Array, y: Array) -> dict[str, Array]:
        return {"inputs:0": x, "targets:0": y.reshape(self.targets)}

    def _canonical(self, arrays: Params, stacked: int = 0) -> Params:
        return to_canonical(self.layout, {name: to_numpy(value) for name, value in arrays.items()}, stacked)

    def _cast(self, values: Array) -> Array:
        return values.astype(self.dtype) if values.dtype.kind == "f" else values
