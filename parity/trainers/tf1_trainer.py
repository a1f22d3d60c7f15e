"""Training in a TF1 graph: placeholders, variables, a session, and the optimizers of ``tf.compat.v1.train``.

A model file gives ``forward(params, x)``, which adds the model's operations to the default graph and returns the
prediction; ``params`` are tensors by framework name. The training loop is part of the graph, so one call into the
session trains any number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow.compat.v1 as v1
from tensorflow.python.eager import context
from tensorflow.python.framework import ops
from tensorflow.python.framework.config import is_op_determinism_enabled

from parity.dtypes import NARROW, smallest
from parity.frameworks import TF32
from parity.layout import Layout, to_canonical, to_framework
from parity.nn.updates import rates
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.trainer import State, Trained
from parity.trainers.batches import all_rows
from parity.trainers.groups import decays
from parity.typing import Array, Batches, Params

# One thread and one order of every sum: the same bits at every run.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
tf.config.experimental.enable_op_determinism()


def find_cuda() -> str:
    """The name of the CUDA device; ValueError if TensorFlow sees none."""
    found = tf.config.list_physical_devices("GPU")
    if not found:
        why = "" if tf.test.is_built_with_cuda() else ": it was built without CUDA"
        raise ValueError(f"TensorFlow sees no CUDA device{why}")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "a GPU without a name")


def device_of(name: str) -> str:
    """Find a run's device, and from now on compute float32 products in TF32 if its name says so, else in full."""
    if name != "cpu":
        find_cuda()
    tf.config.experimental.enable_tensor_float_32_execution(name == TF32)
    return "/CPU:0" if name == "cpu" else "/GPU:0"


def settle(device: str) -> None:
    """Give TensorFlow what every run on a device begins with. The device is not looked for yet."""
    if _outside_graphs():
        v1.reset_default_graph()  # what is added to it is named after what is there
    tf.config.experimental.enable_tensor_float_32_execution(device == TF32)


def process_state() -> dict[str, Any]:
    """What TensorFlow keeps for a process, beside the default graph, which every run begins anew."""
    return {
        "TensorFlow's eager mode": tf.executing_eagerly(),
        "TensorFlow's graph": "the default" if _outside_graphs() else "one that was not left",
        "TensorFlow's functions": tf.config.functions_run_eagerly(),
        "TensorFlow's TF32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "TensorFlow's threads": (
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
        ),
        "TensorFlow's seed": context.global_seed(),
        "TensorFlow's determinism": is_op_determinism_enabled(),
        "TensorFlow's compiler": tf.config.optimizer.get_jit(),
        "TensorFlow's optimizer of graphs": tf.config.optimizer.get_experimental_options(),
        "TensorFlow's placement": (tf.config.get_soft_device_placement(), tf.debugging.get_log_device_placement()),
        "TensorFlow's variables": v1.resource_variables_enabled(),
        "TensorFlow's control flow": v1.control_flow_v2_enabled(),
        "TensorFlow's strategy": tf.distribute.has_strategy(),
    }


def _outside_graphs() -> bool:
    return bool(ops._default_graph_stack.is_cleared())


SESSION = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1, allow_soft_placement=True)
SESSION.gpu_options.allow_growth = True

Tensors = Mapping[str, tf.Tensor]
Forward = Callable[..., Any]
"""``(params, x)`` to the prediction, or ``(params, x, training)`` to the prediction and the buffers after it."""


def binary_crossentropy(p: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from probabilities, with the clamps of torch's BCELoss on value and gradient.

    The slope is written out, because through a clamped logarithm TensorFlow computes 0 times infinity at p = 1. The
    second term of the sum is exactly zero and has that slope. ``tf.custom_gradient`` would do the same, but a graph
    that holds one is never freed.
    """
    value = -(y * tf.maximum(tf.math.log(p), -100) + (1 - y) * tf.maximum(tf.math.log1p(-p), -100))
    slope = (p - y) / tf.maximum(p * (1 - p), max(1e-12, smallest(p.dtype.name)))
    return tf.stop_gradient(value) + tf.stop_gradient(slope) * (p - tf.stop_gradient(p))


def crossentropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from logits ``(..., classes)`` and integer classes ``(...)``, softmax and logarithm in one."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)


def nll(log_probabilities: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from log-probabilities ``(..., classes)`` and integer classes ``(...)``."""
    # A mask, not a gather: its gradient is elementwise, so it is the same on every device.
    chosen = tf.one_hot(y, log_probabilities.shape[-1], on_value=True, off_value=False)
    return -tf.reduce_sum(tf.where(chosen, log_probabilities, tf.zeros_like(log_probabilities)), -1)


def squared_error(prediction: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Squared error, not halved."""
    return tf.math.squared_difference(prediction, y)


def total(prediction: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The predictions themselves. The gradient of their sum holds the derivative of each output."""
    return prediction


LOSSES = {
    "binary_crossentropy": binary_crossentropy,
    "crossentropy": crossentropy,
    "nll": nll,
    "squared_error": squared_error,
    "total": total,
}
REDUCTIONS = {"sum": tf.reduce_sum, "mean": tf.reduce_mean}


def gathered(segments: Sequence[Batches], rows: int) -> tuple[Array, Array]:
    """The rows of all batches in one array, and the bounds of each batch in it; both are empty for ``all_rows``."""
    if all_rows(segments, rows):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    batches = [batch for segment in segments for batch in segment]
    return np.concatenate(batches), np.cumsum([0, *map(len, batches)])


class AdamOfFloat64(v1.train.AdamOptimizer):
    """TF1's Adam with its update written out, because the fused update computes 1 - beta in the run's dtype.

    In float32, 1 - beta2 is off by 1.3e-5 if beta2 is .999, and so is every second moment. Here hyper-parameters are
    float64 tensors until they meet a moment. ``decay`` gives the share that ``parity.spec.AdamW`` takes off a variable
    at this step; None takes nothing off any.
    """

    decay: Callable[[v1.Variable], tf.Tensor | None] = staticmethod(lambda variable: None)

    def _resource_apply_dense(self, gradient: tf.Tensor, variable: v1.Variable) -> tf.Operation:
        own = gradient.dtype
        wide = tf.float32 if own.name in NARROW else own  # in bfloat16 a beta2 of .999 would be 1

        def number(value: tf.Tensor) -> tf.Tensor:
            return tf.cast(value, wide)

        slots = self.get_slot(variable, "m"), self.get_slot(variable, "v")
        first = number(self._beta1_t) * number(slots[0]) + number(1 - self._beta1_t) * number(gradient)
        second = number(self._beta2_t) * number(slots[1]) + number(1 - self._beta2_t) * tf.square(number(gradient))
        change = number(self._lr_t) * first / (tf.sqrt(second) + number(self._epsilon_t))
        decay = self.decay(variable)
        if decay is not None:
            change += number(decay) * number(variable.read_value())
        changes = zip(slots, (first, second), strict=True)
        moments = [slot.assign(tf.cast(value, own)) for slot, value in changes]
        return tf.group(*moments, variable.assign_sub(tf.cast(change, own)))


def clipped(rule: Optimizer, gradients: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Clip gradients as a case asks: ``tf.clip_by_global_norm``, but with the epsilon that a case may have."""
    asked = rule.clipping
    if asked is None:
        return dict(gradients)
    if asked.kind == "value":
        return {name: tf.clip_by_value(g, -asked.limit, asked.limit) for name, g in gradients.items()}
    squares = {name: tf.reduce_sum(tf.square(g)) for name, g in gradients.items()}
    if asked.kind == "global_norm":
        squares = dict.fromkeys(squares, tf.add_n(list(squares.values())))
    return {
        name: g * (asked.limit / tf.maximum(tf.sqrt(squares[name]) + asked.epsilon, asked.limit))
        for name, g in gradients.items()
    }


def optimizer_of(
    rule: Optimizer, step: v1.Variable, rate: Callable[[], tf.Tensor], decays: Mapping[Any, float]
) -> tuple[v1.train.Optimizer, dict[str, str]]:
    """TF1's optimizer for a rule, and each canonical slot's name in TF1. ``step`` counts the updates done.

    ``rate`` gives the learning rate of the update that is built, where it changes. ``decays`` has the weight decay by
    each variable's ``ref``.

    Hyper-parameters are float64 tensors: a Python float would reach a float64 update through float32.

    TF1's Adam computes 1 - beta2ᵗ in the run's dtype, which in float32 spoils the step size by 6e-6, and adds its
    epsilon to an uncorrected √v. So its powers of beta are held at zero, which makes its own correction 1. The learning
    rate and epsilon carry a correction in float64 instead. They are functions, because the training loop must compute
    them anew at every step.
    """
    constant = tf.constant(rule.learning_rate, tf.float64)

    def learning_rate() -> tf.Tensor:
        return constant if rule.rates is None else rate()

    if isinstance(rule, Adam):
        beta1, beta2 = (tf.constant(beta, tf.float64) for beta in (rule.beta1, rule.beta2))
        epsilon = tf.constant(rule.epsilon, tf.float64)

        def correction(beta: tf.Tensor) -> tf.Tensor:
            return 1 - beta ** tf.cast(step.read_value() + 1, tf.float64)

        adam = AdamOfFloat64(
            lambda: learning_rate() * tf.sqrt(correction(beta2)) / correction(beta1),
            beta1,
            beta2,
            lambda: epsilon * tf.sqrt(correction(beta2)),
        )
        if isinstance(rule, AdamW):
            whole = tf.constant(rule.learning_rate * rule.weight_decay, tf.float64)
            share = tf.constant(rule.weight_decay, tf.float64)

            def decay(variable: v1.Variable) -> tf.Tensor | None:
                if not decays[variable.ref()]:
                    return None
                return whole if rule.rates is None else rate() * share

            adam.decay = decay
        return adam, {"first_moment": "m", "second_moment": "v"}
    asked = constant if rule.rates is None else rate
    if rule.momentum:
        momentum = tf.constant(rule.momentum, tf.float64)
        return v1.train.MomentumOptimizer(asked, momentum), {"momentum": "momentum"}
    return v1.train.GradientDescentOptimizer(asked), {}


class Tf1Trainer:
    """The five verbs in a TF1 graph and a session of their own. Both are freed with the trainer.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        forward: ``(params, x)`` to the prediction (batch, ...). It adds the model's operations to the default graph. In
            a case with buffers it is ``(params, x, training)`` to the prediction and, by name, the buffers as training
            leaves them.
        layout: Which canonical tensor is which of the tensors that ``forward`` takes, by their names there.

    Raises:
        ValueError: If TensorFlow sees no such device.
    """

    def __init__(self, case: Case, dtype: str, device: str, forward: Forward, layout: Layout) -> None:
        self.case, self.forward, self.layout, self.device = case, forward, layout, device_of(device)
        self.dtype = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
        data = case.data()
        x, y = self._cast(data.x), self._cast(data.y)
        with tf.Graph().as_default() as graph, tf.device(self.device):
            # The data come in through placeholders: as constants they would be part of the graph, which ends at 2 GB.
            data_in = [v1.placeholder(values.dtype, values.shape) for values in (x, y)]
            self.x, self.y = (v1.Variable(values, trainable=False, use_resource=True) for values in data_in)
            self.trained = [slot for slot in layout if slot.canonical not in case.buffers]
            names = {slot.framework for slot in self.trained}
            every = {
                name: v1.Variable(value.astype(self.dtype), trainable=name in names, use_resource=True, name=name)
                for name, value in to_framework(layout, case.initial()).items()
            }
            self.variables = {name: variable for name, variable in every.items() if name in names}
            self.buffers = {name: variable for name, variable in every.items() if name not in names}
            self.step = v1.Variable(0, dtype=tf.int64, trainable=False, use_resource=True, name="global_step")
            self.decays = decays(case.optimizer, layout)
            of_variables = {variable.ref(): self.decays[name] for name, variable in self.variables.items()}
            self.rates = v1.placeholder(tf.float64, (None,), "rates")
            self.optimizer, slots = optimizer_of(case.optimizer, self.step, lambda: self.rate, of_variables)

            self.inputs = v1.placeholder(x.dtype, (None, *x.shape[1:]), "inputs")
            self.targets = v1.placeholder(y.dtype, (None, *y.shape[1:]), "targets")
            params = self._read()
            self.prediction = self._predict(params, self.inputs)
            training = self._train(params, self.inputs)[0] if self.buffers else self.prediction
            self.evaluation = self._loss_and_gradients(params, training, self.targets)

            self.segments, self.batches = (v1.placeholder(tf.int32, (), name) for name in ("segments", "batches"))
            self.rows, self.ends = (v1.placeholder(tf.int64, (None,), name) for name in ("rows", "ends"))
            self.loops = {0: self._loop(0)}
            self.slots = {
                slot: {name: self._slot(variable, own_name) for name, variable in self.variables.items()}
                for slot, own_name in slots.items()
            }
            powers = [v for v in self.optimizer.variables() if v.op.name in ("beta1_power", "beta2_power")]
            initializer = v1.global_variables_initializer()
        self.session = v1.Session(graph=graph, config=SESSION)
        self.session.run(initializer, dict(zip(data_in, (x, y), strict=True)))
        self._assign([(power, 0.0) for power in powers])

    def predict(self, x: Array) -> Array:
        return to_numpy(self.session.run(self.prediction, {self.inputs: self._cast(x)}))

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, gradients = self.session.run(self.evaluation, {self.inputs: self._cast(x), self.targets: self._cast(y)})
        zeros = {name: np.zeros(variable.shape, self.dtype) for name, variable in self.variables.items()}
        return float(loss), self._canonical(self.trained, zeros | gradients)

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        rows, ends = gathered(segments, self.x.shape[0])
        feed = {self.segments: len(segments), self.batches: len(segments[0]), self.rows: rows, self.ends: ends}
        if self.case.optimizer.rates is not None:
            done = int(self.session.run(self.step))
            feed[self.rates] = rates(self.case.optimizer, done, len(segments) * len(segments[0]))
        if len(inputs) not in self.loops:
            with self.session.graph.as_default(), tf.device(self.device):
                self.loops[len(inputs)] = self._loop(len(inputs))
        places, results = self.loops[len(inputs)]
        feed |= dict(zip(places, map(self._cast, inputs), strict=True))
        losses, params, predictions = self.session.run(results, feed)
        return Trained(
            to_numpy(losses).reshape(len(segments), -1),
            self._canonical(self.layout, params, stacked=1),
            tuple(map(to_numpy, predictions)),
        )

    def export(self) -> State:
        params, slots, step = self.session.run((self.variables | self.buffers, self.slots, self.step))
        canonical = {
            f"{slot}/{name}": value
            for slot, values in slots.items()
            for name, value in self._canonical(self.trained, values).items()
        }
        return State(self._canonical(self.layout, params), canonical, int(step))

    def load(self, state: State) -> None:
        given = state.slots_at(1.0)
        values: list[tuple[v1.Variable, Array | float]] = [(self.step, state.step)]
        groups = [(self.layout, self.variables | self.buffers, state.params)]
        groups += [
            (self.trained, variables, {name: given[f"{slot}/{name}"] for name in self.case.trained(state.params)})
            for slot, variables in self.slots.items()
        ]
        for layout, variables, params in groups:
            framework = to_framework(layout, params)
            values += [(variable, self._cast(framework[name])) for name, variable in variables.items()]
        self._assign(values)

    def _assign(self, values: Sequence[tuple[v1.Variable, Array | float]]) -> None:
        # A variable's initializer assigns the value that is fed in the place of its initial value.
        feed = {variable.initializer.inputs[1]: value for variable, value in values}
        self.session.run([variable.initializer for variable, _ in values], feed)

    def _canonical(self, layout: Layout, arrays: Params, stacked: int = 0) -> Params:
        return to_canonical(layout, {name: to_numpy(value) for name, value in arrays.items()}, stacked)

    def _cast(self, values: Array) -> Array:
        return values.astype(self.dtype) if values.dtype.kind == "f" else values

    def _read(self) -> dict[str, tf.Tensor]:
        return {name: variable.read_value() for name, variable in (self.variables | self.buffers).items()}

    def _predict(self, params: Tensors, x: tf.Tensor) -> tf.Tensor:
        return self.forward(params, x, False)[0] if self.buffers else self.forward(params, x)

    def _train(self, params: Tensors, x: tf.Tensor) -> tuple[tf.Tensor, Tensors]:
        """The prediction of a training step, and the buffers after it."""
        return self.forward(params, x, True) if self.buffers else (self.forward(params, x), {})

    def _slot(self, variable: v1.Variable, own_name: str) -> v1.Variable:
        slot = self.optimizer.get_slot(variable, own_name)
        if slot is None:  # TF1 makes none for a parameter without a gradient; zeros stand for it.
            return v1.Variable(tf.zeros(variable.shape, self.dtype), trainable=False, use_resource=True)
        return slot

    def _loss_and_gradients(
        self, params: Tensors, prediction: tf.Tensor, y: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The loss, and the gradient of every parameter that has one."""
        loss = REDUCTIONS[self.case.loss.reduction](LOSSES[self.case.loss.kind](prediction, y))
        trained = {name: params[name] for name in self.variables}
        gradients = zip(trained, v1.gradients(loss, list(trained.values())), strict=True)
        # Made dense: TF1's momentum would leave alone the rows that an embedding did not look up.
        return loss, {name: tf.convert_to_tensor(g) for name, g in gradients if g is not None}

    def _batch(self, i: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        rows = self.rows[self.ends[i] : self.ends[i + 1]]
        return tf.gather(self.x, rows), tf.gather(self.y, rows)

    def _step(self, x: tf.Tensor, y: tf.Tensor, i: tf.Tensor) -> tuple[tf.Tensor, tf.Operation]:
        """The loss of one batch, and the operation that updates every parameter once: the i-th of this call."""
        params = self._read()
        prediction, moved = self._train(params, x)
        loss, gradients = self._loss_and_gradients(params, prediction, y)
        rule = self.case.optimizer
        gradients = clipped(rule, gradients)
        if isinstance(rule, Sgd) and rule.weight_decay:
            gradients = {
                name: g + self.decays[name] * params[name] if self.decays[name] else g for name, g in gradients.items()
            }
        if rule.rates is not None:
            self.rate = self.rates[i]
        # A graph has no order but the one that it is given: every gradient is computed before any parameter moves.
        with tf.control_dependencies([loss, *params.values(), *gradients.values(), *moved.values()]):
            pairs = [(g, self.variables[name]) for name, g in gradients.items()]
            update = self.optimizer.apply_gradients(pairs, global_step=self.step)
            return loss, tf.group(update, *(self.buffers[name].assign(value) for name, value in moved.items()))

    def _loop(self, asked: int) -> tuple[list[tf.Tensor], tuple[Any, ...]]:
        """Build a whole call to ``train``: placeholders for ``asked`` inputs, and the results.

        The results are the losses ``(segments * batches,)``, the snapshots ``(segments, *shape)`` and the predictions
        ``(segments, n, ...)``.
        """
        whole = tf.equal(tf.size(self.rows), 0)
        every_x, every_y = self.x.read_value(), self.y.read_value()
        inputs = [v1.placeholder(self.inputs.dtype, self.inputs.shape) for _ in range(asked)]

        def batch(i: tf.Tensor, end: tf.Tensor, losses: tf.TensorArray) -> tuple[Any, ...]:
            x, y = tf.cond(whole, lambda: (every_x, every_y), lambda: self._batch(i))
            loss, update = self._step(x, y, i)
            with tf.control_dependencies([update]):
                return i + 1, end, losses.write(i, loss)

        def segment(
            s: tf.Tensor,
            losses: tf.TensorArray,
            snapshots: Mapping[str, tf.TensorArray],
            predictions: Sequence[tf.TensorArray],
        ) -> tuple[Any, ...]:
            start = s * self.batches
            end, _, losses = tf.while_loop(
                lambda i, end, _: i < end, batch, (start, start + self.batches, losses), parallel_iterations=1
            )
            with tf.control_dependencies([end]):
                params = self._read()
            said = [self._predict(params, x) for x in inputs]
            with tf.control_dependencies([*params.values(), *said]):
                snapshots = {name: array.write(s, params[name]) for name, array in snapshots.items()}
                predictions = [array.write(s, value) for array, value in zip(predictions, said, strict=True)]
                return s + 1, losses, snapshots, predictions

        losses = tf.TensorArray(self.dtype, self.segments * self.batches, element_shape=())
        snapshots = {
            name: tf.TensorArray(self.dtype, self.segments, element_shape=variable.shape)
            for name, variable in (self.variables | self.buffers).items()
        }
        predictions = [tf.TensorArray(self.dtype, self.segments) for _ in inputs]
        _, losses, snapshots, predictions = tf.while_loop(
            lambda s, *_: s < self.segments, segment, (0, losses, snapshots, predictions), parallel_iterations=1
        )
        ends = {name: array.stack() for name, array in snapshots.items()}
        return inputs, (losses.stack(), ends, [array.stack() for array in predictions])


def to_numpy(array: Array) -> Array:
    # TensorFlow's bfloat16 is a type of its own, which NumPy cannot compute with.
    return array.astype(np.float32) if array.dtype == tf.bfloat16.as_numpy_dtype else array
