"""Training in Keras 3 on TensorFlow: Keras's layers and optimizers, gradients from a ``tf.GradientTape``.

A model file gives a ``keras.Model`` or a single layer, in the run's dtype and not yet built. Its parameters are
named by their paths within the model, as in ``dense/kernel``. The training loop is one ``tf.function``: it is traced
once, and one call trains any number of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from parity.dtypes import NARROW, carrier, smallest
from parity.layout import Layout, to_canonical, to_framework
from parity.nn.updates import rates
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.trainer import State, Trained

# On import, that module sets one thread and one order of every sum for TensorFlow, and so for Keras.
from parity.trainers import tf1_trainer
from parity.trainers.groups import decays
from parity.trainers.tf1_trainer import device_of, gathered
from parity.trainers.tf1_trainer import find_cuda as find_cuda
from parity.typing import Array, Batches, Params


def settle(device: str) -> None:
    """Give Keras what every run on a device begins with. The device is not looked for yet.

    A run sets the default dtype to its own, and layers without a name are called after those that were there before.
    """
    keras.utils.clear_session(free_memory=False)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    tf1_trainer.settle(device)


def process_state() -> dict[str, Any]:
    """What Keras and TensorFlow keep for a process, beside the default dtype, which every run sets."""
    return {
        **tf1_trainer.process_state(),
        "Keras's epsilon": keras.config.epsilon(),
        "Keras's layout of images": keras.config.image_data_format(),
        "Keras's dtype policy": keras.config.dtype_policy().name,
        "Keras's tracebacks": keras.config.is_traceback_filtering_enabled(),
    }


def binary_crossentropy(p: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from probabilities, with the clamps of torch's BCELoss on value and gradient.

    Keras's own loss clips the probabilities at 1e-7 instead. The slope is written out, because through a clamped
    logarithm the tape computes 0 times infinity at p = 1. The second term of the sum is exactly zero and has that
    slope. ``ops.custom_gradient`` would do the same, but a graph that holds one is never freed.
    """
    value = -(y * ops.maximum(ops.log(p), -100) + (1 - y) * ops.maximum(ops.log1p(-p), -100))
    slope = (p - y) / ops.maximum(p * (1 - p), max(1e-12, smallest(p.dtype.name)))
    return ops.stop_gradient(value) + ops.stop_gradient(slope) * (p - ops.stop_gradient(p))


def crossentropy(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from logits ``(..., classes)`` and integer classes ``(...)``, softmax and logarithm in one."""
    return keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


def nll(log_probabilities: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Loss of each row from log-probabilities ``(..., classes)`` and integer classes ``(...)``."""
    # A mask, not a gather: its gradient is elementwise, so it is the same on every device.
    chosen = ops.one_hot(y, log_probabilities.shape[-1], dtype="bool")
    return -ops.sum(ops.where(chosen, log_probabilities, ops.zeros_like(log_probabilities)), -1)


def squared_error(prediction: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Squared error, not halved."""
    return ops.square(prediction - y)


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
REDUCTIONS = {"sum": ops.sum, "mean": ops.mean}

Cost = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""``(prediction, y)`` to the batch's loss, one number."""


class AdamOfTorch(keras.optimizers.Adam):
    """Keras's Adam with the epsilon and the bias correction of ``parity.spec.Adam``.

    Keras adds epsilon to an uncorrected √v, so torch's epsilon becomes epsilon·√(1 - beta2ᵗ) here, another number at
    every step. Keras corrects the bias in the variable's dtype. In float32 that spoils 1 - beta2ᵗ, and with it the step
    size, by 6e-6, so ``update_step`` hands over a learning rate that makes up for it. In float64 it changes nothing.

    ``rate_of_torch`` is the learning rate as a number, because the optimizer's own is a variable of the default dtype.
    ``decay_of_torch`` is the share that ``parity.spec.AdamW`` takes off a parameter at each step. Where the rate
    changes both are float64 tensors of this update.
    """

    def _corrections(self, dtype: str) -> tuple[tf.Tensor, tf.Tensor]:
        """1 - beta1ᵗ and √(1 - beta2ᵗ), computed in ``dtype``."""
        t = ops.cast(self.iterations + 1, dtype)
        first, second = (1 - ops.power(ops.convert_to_tensor(b, dtype), t) for b in (self.beta_1, self.beta_2))
        return first, ops.sqrt(second)

    @property
    def epsilon(self) -> tf.Tensor:
        return ops.cast(self._epsilon_of_torch * self._corrections("float64")[1], self.learning_rate.dtype)

    @epsilon.setter
    def epsilon(self, value: float) -> None:
        self._epsilon_of_torch = value

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        if variable.dtype in NARROW:
            return self._narrow_step(gradient, variable)
        (first, second), (own_first, own_second) = map(self._corrections, ("float64", variable.dtype))
        exact, own = second / first, own_second / own_first
        learning_rate = ops.cast(learning_rate, "float64") * (exact / ops.cast(own, "float64"))
        if isinstance(self.decay_of_torch, tf.Tensor):
            variable.assign(variable * ops.cast(1 - self.decay_of_torch, variable.dtype))
        elif self.decay_of_torch:
            variable.assign(variable * (1 - self.decay_of_torch))
        return super().update_step(gradient, variable, learning_rate)

    def _narrow_step(self, gradient: tf.Tensor, variable: keras.Variable) -> None:
        """Update in float32. Keras's own update rounds beta2: in bfloat16 it becomes 1 and its correction 0."""
        place = self._get_variable_index(variable)
        moments = self._momentums[place], self._velocities[place]
        m, v, g, p = (ops.cast(value, "float32") for value in (*moments, gradient, variable))
        m = self.beta_1 * m + (1 - self.beta_1) * g
        v = self.beta_2 * v + (1 - self.beta_2) * ops.square(g)
        m_scale, v_scale = (ops.cast(value, "float32") for value in self._corrections("float64"))
        p *= ops.cast(1 - self.decay_of_torch, "float32")
        p -= ops.cast(self.rate_of_torch, "float32") / m_scale * m / (ops.sqrt(v) / v_scale + self._epsilon_of_torch)
        for kept, value in zip((*moments, variable), (m, v, p), strict=True):
            kept.assign(ops.cast(value, kept.dtype))


class SgdOfTorch(keras.optimizers.SGD):
    """Keras's SGD for a learning rate that changes, with the momentum of ``parity.spec.Sgd``.

    Keras's own keeps gradients times the rate of their time. Here they are all kept times the first rate, and the
    step makes up for it.
    """

    def update_step(self, gradient: tf.Tensor, variable: keras.Variable, learning_rate: tf.Tensor) -> None:
        if not self.momentum:
            return super().update_step(gradient, variable, learning_rate)
        kept = self.momentums[self._get_variable_index(variable)]
        first = ops.cast(self.learning_rate, kept.dtype)
        kept.assign(kept * ops.cast(self.momentum, kept.dtype) - gradient * first)
        variable.assign_add(kept * ops.cast(learning_rate / ops.cast(self.learning_rate, "float64"), kept.dtype))


def optimizer_of(rule: Optimizer, dtype: str) -> tuple[keras.optimizers.Optimizer, dict[str, str]]:
    """Keras's optimizer for a rule, and each canonical slot's name in Keras.

    Weight decay is left to the trainer, because Keras's is decoupled from the gradient. In float64 the numbers must be
    ``np.float64`` and the default dtype float64, or they pass through float32. In float32 they must be Python floats:
    a ``np.float64`` would widen the update to float64.
    """
    keras.config.set_floatx(dtype)
    number = np.float64 if dtype == "float64" else float
    learning_rate = number(rule.learning_rate)
    if isinstance(rule, Adam):
        adam = AdamOfTorch(learning_rate, number(rule.beta1), number(rule.beta2), number(rule.epsilon))
        adam.rate_of_torch = learning_rate
        adam.decay_of_torch = learning_rate * number(rule.weight_decay) if isinstance(rule, AdamW) else 0
        return adam, {"first_moment": "momentum", "second_moment": "velocity"}
    kind = keras.optimizers.SGD if rule.rates is None else SgdOfTorch
    return kind(learning_rate, number(rule.momentum)), {"momentum": "momentum"} if rule.momentum else {}


class KerasTrainer:
    """The five verbs with a Keras model and optimizer. Both are freed with the trainer, and so are their traces.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        model: A model or a single layer in that dtype, not yet built.
        layout: Which canonical tensor is which of the model's variables, by their paths within it, as in
            ``dense/kernel``.
        cost: ``(prediction, y)`` to the batch's loss, in the place of the case's.

    Raises:
        ValueError: If TensorFlow sees no such device.
    """

    def __init__(
        self, case: Case, dtype: str, device: str, model: keras.Layer, layout: Layout, cost: Cost | None = None
    ) -> None:
        self.case, self.model, self.layout, self.device = case, model, layout, device_of(device)
        self.cost = cost or self._cost
        self.dtype = np.dtype(tf.as_dtype(dtype).as_numpy_dtype)
        data = case.data()
        with tf.device(self.device):
            self.x, self.y = tf.constant(self._cast(data.x)), tf.constant(self._cast(data.y))
            model(self.x[:1])  # a layer makes its variables when it first sees the shape of its input
            self.decays = decays(case.optimizer, layout)
            self.optimizer, slots = optimizer_of(case.optimizer, dtype)
            self.optimizer.build(model.trainable_variables)
            self.variables = {v.path.removeprefix(f"{model.name}/"): v for v in model.trainable_variables}
            own = {variable.name: variable for variable in self.optimizer.variables}
            self.slots = {
                slot: {name: own[f"{v.path.replace('/', '_')}_{own_name}"] for name, v in self.variables.items()}
                for slot, own_name in slots.items()
            }
            self.slot_scale = -case.optimizer.learning_rate if "momentum" in slots else 1.0
            self.trained = [slot for slot in layout if slot.canonical not in case.buffers]
            buffers = {slot.framework for slot in layout if slot.canonical in case.buffers}
            named = {v.path.removeprefix(f"{model.name}/"): v for v in model.non_trainable_variables}
            self.buffers = {name: variable for name, variable in named.items() if name in buffers}
            self._assign(self.layout, self.variables | self.buffers, case.initial())
            self.inputs, targets = (tf.TensorSpec((None, *v.shape[1:]), v.dtype) for v in (self.x, self.y))
            self._predict = _traced(self._say, self.inputs)
            self._evaluate = _traced(self._loss_and_gradients, self.inputs, targets)
            self.loops: dict[int, Any] = {}

    def predict(self, x: Array) -> Array:
        return _numpy(self._predict(self._cast(x)))

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        with self._buffers_kept():
            loss, gradients = self._evaluate(self._cast(x), self._cast(y))
        zeros = {name: np.zeros(variable.shape, carrier(self.dtype.name)) for name, variable in self.variables.items()}
        return float(loss), to_canonical(self.trained, zeros | _arrays(gradients))

    def eager_loss_and_gradients(self, x: Array, y: Array) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Compute the loss of one batch, (batch, ...) each, and its gradients, without the trace."""
        with self._buffers_kept():
            return self._loss_and_gradients(tf.constant(self._cast(x)), tf.constant(self._cast(y)))

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        rows, ends = gathered(segments, self.x.shape[0])
        if len(inputs) not in self.loops:
            with tf.device(self.device):
                self.loops[len(inputs)] = self._loop_for(*[self.inputs] * len(inputs))
        counts = np.int32(len(segments)), np.int32(len(segments[0]))
        changing = np.empty(0)
        if self.case.optimizer.rates is not None:
            changing = rates(self.case.optimizer, int(self.optimizer.iterations), len(segments) * len(segments[0]))
        losses, params, predictions = self.loops[len(inputs)](*counts, rows, ends, changing, *map(self._cast, inputs))
        params = to_canonical(self.layout, _arrays(params), stacked=1)
        return Trained(_numpy(losses).reshape(len(segments), -1), params, tuple(map(_numpy, predictions)))

    def export(self) -> State:
        slots = {
            f"{slot}/{name}": value
            for slot, variables in self.slots.items()
            for name, value in to_canonical(self.trained, _arrays(variables)).items()
        }
        params = to_canonical(self.layout, _arrays(self.variables | self.buffers))
        return State(params, slots, int(self.optimizer.iterations), self.slot_scale)

    def load(self, state: State) -> None:
        self._assign(self.layout, self.variables | self.buffers, state.params)
        given = state.slots_at(self.slot_scale)
        for slot, variables in self.slots.items():
            named = {name: given[f"{slot}/{name}"] for name in self.case.trained(state.params)}
            self._assign(self.trained, variables, named)
        # Keras computes Adam's powers of beta from this count at every step: there is nothing else to restore.
        self.optimizer.iterations.assign(state.step)

    def _assign(self, layout: Layout, variables: dict[str, keras.Variable], params: Params) -> None:
        framework = to_framework(layout, params)
        for name, variable in variables.items():
            variable.assign(framework[name].astype(self.dtype))

    def _cast(self, values: Array) -> Array:
        return values.astype(self.dtype) if values.dtype.kind == "f" else values

    def _cost(self, prediction: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return REDUCTIONS[self.case.loss.reduction](LOSSES[self.case.loss.kind](prediction, y))

    @contextmanager
    def _buffers_kept(self) -> Iterator[None]:
        """Take back what a training step without its update does to the buffers."""
        kept = {name: buffer.numpy() for name, buffer in self.buffers.items()}
        yield
        for name, value in kept.items():
            self.buffers[name].assign(value)

    def _say(self, x: tf.Tensor) -> tf.Tensor:
        return self.model(x, training=False) if self.buffers else self.model(x)

    def _train(self, x: tf.Tensor) -> tf.Tensor:
        """The prediction of a training step, which moves the buffers, if the case has any."""
        return self.model(x, training=True) if self.buffers else self.model(x)

    def _loss_and_gradients(self, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The loss, and the gradient of every parameter that has one."""
        with tf.GradientTape() as tape:
            loss = self.cost(self._train(x), y)
        gradients = tape.gradient(loss, {name: variable.value for name, variable in self.variables.items()})
        # Made dense: Keras's Adam is wrong if an embedding looked the same row up twice.
        return loss, {name: tf.convert_to_tensor(g) for name, g in gradients.items() if g is not None}

    def _step(self, x: tf.Tensor, y: tf.Tensor, rate: tf.Tensor | None) -> tf.Tensor:
        """Update every parameter that has a gradient once. Returns the batch's loss before that.

        ``rate`` is the learning rate of this update, float64, if it changes.
        """
        loss, gradients = self._loss_and_gradients(x, y)
        rule = self.case.optimizer
        gradients = tf1_trainer.clipped(rule, gradients)
        if isinstance(rule, Sgd) and rule.weight_decay:
            gradients = {
                name: g + self.decays[name] * self.variables[name].value if self.decays[name] else g
                for name, g in gradients.items()
            }
        # The very updates of ``optimizer.apply``, without its way through tf.distribute, whose custom gradient would
        # keep every graph for ever.
        for name, g in gradients.items():
            if isinstance(rule, AdamW) and (rule.rates is not None or rule.decayed is not None):
                number = np.float64 if self.dtype == np.float64 else float
                learning_rate = number(rule.learning_rate) if rate is None else rate
                self.optimizer.decay_of_torch = learning_rate * self.decays[name] if self.decays[name] else 0
            if isinstance(rule, Adam) and rate is not None:
                self.optimizer.rate_of_torch = rate
            self.optimizer.update_step(g, self.variables[name], self.optimizer.learning_rate if rate is None else rate)
        self.optimizer.iterations.assign_add(1)
        return loss

    def _loop_for(self, *inputs: tf.TensorSpec) -> Any:
        """Trace the loop that predicts ``inputs`` after each segment."""
        counts, rows = tf.TensorSpec((), tf.int32), tf.TensorSpec((None,), tf.int64)
        return _traced(self._loop, counts, counts, rows, rows, tf.TensorSpec((None,), tf.float64), *inputs)

    def _loop(
        self,
        segments: tf.Tensor,
        batches: tf.Tensor,
        rows: tf.Tensor,
        cuts: tf.Tensor,
        changing: tf.Tensor,
        *inputs: tf.Tensor,
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor], list[tf.Tensor]]:
        """Do a whole call to ``train``. ``rows`` and ``cuts`` are the results of ``gathered``; ``changing`` are the
        learning rates of all updates, if they change.

        Returns losses ``(segments * batches,)``, snapshots ``(segments, *shape)``, predictions ``(segments, n, ...)``.
        """
        scheduled = self.case.optimizer.rates is not None
        losses = tf.TensorArray(self.dtype, segments * batches, element_shape=())
        every = self.variables | self.buffers
        snapshots = {
            name: tf.TensorArray(self.dtype, segments, element_shape=variable.shape) for name, variable in every.items()
        }
        predictions = [tf.TensorArray(self.dtype, segments) for _ in inputs]
        for s in tf.range(segments):
            for i in tf.range(s * batches, (s + 1) * batches):
                x, y = self.x, self.y
                if tf.size(rows) > 0:
                    chosen = rows[cuts[i] : cuts[i + 1]]
                    x, y = tf.gather(self.x, chosen), tf.gather(self.y, chosen)
                losses = losses.write(i, self._step(x, y, changing[i] if scheduled else None))
            snapshots = {name: array.write(s, every[name].value) for name, array in snapshots.items()}
            predictions = [array.write(s, self._say(x)) for array, x in zip(predictions, inputs)]  # noqa: B905
        ends = {name: array.stack() for name, array in snapshots.items()}
        return losses.stack(), ends, [array.stack() for array in predictions]


def _traced(function: Callable[..., Any], *signature: tf.TensorSpec) -> Any:
    """Trace a function now, once for all batch sizes, so that nothing built later can change or repeat the trace."""
    return tf.function(function).get_concrete_function(*signature)


def _arrays(tensors: dict[str, tf.Tensor | keras.Variable]) -> Params:
    return {name: _numpy(tensor) for name, tensor in tensors.items()}


def _numpy(tensor: tf.Tensor | keras.Variable) -> Array:
    array = tensor.numpy()
    # TensorFlow's bfloat16 is a type of its own, which NumPy cannot compute with.
    return array.astype(np.float32) if array.dtype == tf.bfloat16.as_numpy_dtype else array
