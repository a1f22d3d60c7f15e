"""Training in JAX with optax.

A model file gives one pure function, ``forward(params, x)``, in raw JAX or with a flax module. Compiled functions
depend only on a ``Program`` and on shapes, so the trainers of one model share them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from parity.dtypes import NARROW, smallest
from parity.frameworks import TF32
from parity.layout import Layout, to_canonical, to_framework
from parity.nn.updates import rates
from parity.spec import Adam, AdamW, Case, Loss, Optimizer
from parity.trainer import State, Trained, continued, joined
from parity.trainers.batches import all_rows, placing
from parity.trainers.groups import decays
from parity.typing import Array, Batches, Params

# Without x64 optax corrects Adam's moments with float32 powers, and float64 arrays become float32 silently.
jax.config.update("jax_enable_x64", True)


def find_cuda() -> str:
    """The name of the CUDA device; ValueError if JAX sees none."""
    try:
        return jax.devices("cuda")[0].device_kind
    except RuntimeError as error:
        # If a plugin is installed and does not start, its error says why.
        why = " ".join(str(error).split())
        raise ValueError(f"JAX {jax.__version__} sees no CUDA device: {why:.200}") from error


def device_of(name: str) -> jax.Device:
    """Find a run's device, and from now on compute float32 products in TF32 if its name says so, else in full.

    JAX compiles a function anew if the precision has changed since. JAX's default is TF32 on a GPU that has it. Its
    "tensorfloat32" is not always TF32: cuBLAS's kernels use TF32 then, but XLA's own kernels use float32.
    """
    if name != "cpu":
        find_cuda()
    settle(name)
    return jax.devices("cpu" if name == "cpu" else "cuda")[0]


def settle(device: str) -> None:
    """Give JAX what every run on a device begins with. Its devices are not looked for yet."""
    jax.config.update("jax_default_matmul_precision", "default" if device == TF32 else "highest")
    if _mappings() > MAPPINGS:
        jax.clear_caches()


MAPPINGS = 20_000
"""The programs of earlier runs are let go of beyond so many mappings of memory. Each program has a few; Linux allows a
process 65,530, and the next program is the end of it."""


def _mappings() -> int:
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # another system
        return 0


def process_state() -> dict[str, Any]:
    """What JAX keeps for a process."""
    return {f"JAX's {name}": value for name, value in jax.config.values.items()}


Arrays = dict[str, jax.Array]
"""The framework's name of a parameter, as in the layout, to its array."""
Forward = Callable[..., Any]
"""``(params, x)`` to the prediction, or ``(params, x, training)`` to the prediction and the buffers after it."""


@jax.custom_vjp
def binary_crossentropy(p: jax.Array, y: jax.Array) -> jax.Array:
    """Loss of each row from probabilities, as torch's BCELoss computes it: logarithms clamped at -100.

    The derivative is torch's formula as well: autodiff through the clamp gives NaN where p rounds to 0 or 1.
    """
    return -(y * jnp.maximum(jnp.log(p), -100) + (1 - y) * jnp.maximum(_log_of_rest(p), -100))


def _log_of_rest(p: jax.Array) -> jax.Array:
    """The logarithm of 1 - p, to the last place or two.

    XLA's ``log1p`` of float64 on a CPU is up to 126 units in the last place off between -0.4143 and -0.2928, where it
    takes an approximation that is made for other arguments. There 1 - p keeps all that the logarithm needs of p.
    """
    if p.dtype != jnp.float64:
        return jnp.log1p(-p)
    return jnp.where((p > 0.28) & (p < 0.42), jnp.log(1 - p), jnp.log1p(-p))


def _residuals(p: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return binary_crossentropy(p, y), (p, y)


def _derivative(residuals: tuple[jax.Array, jax.Array], d_loss: jax.Array) -> tuple[jax.Array, None]:
    p, y = residuals
    return d_loss * (p - y) / jnp.maximum(p * (1 - p), max(1e-12, smallest(p.dtype.name))), None


binary_crossentropy.defvjp(_residuals, _derivative)


def nll(log_probabilities: jax.Array, y: jax.Array) -> jax.Array:
    """Loss of each row, from log-probabilities ``(..., classes)`` and integer classes ``(...)``."""
    return -jnp.take_along_axis(log_probabilities, y[..., None], -1)[..., 0]


def squared_error(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """Squared error, not halved."""
    return jnp.square(prediction - y)


def total(prediction: jax.Array, y: jax.Array) -> jax.Array:
    """The predictions themselves. The targets are ignored."""
    return prediction


LOSSES = {
    "binary_crossentropy": binary_crossentropy,
    "crossentropy": optax.softmax_cross_entropy_with_integer_labels,
    "nll": nll,
    "squared_error": squared_error,
    "total": total,
}


@dataclass(frozen=True)
class Program:
    """The static part of a compiled function. Compared by value, so ``forward`` should be no closure.

    ``unused`` names the parameters that ``forward`` never reads. JAX gives them a gradient of zeros, to which weight
    decay would add. torch gives them none and leaves them alone, so here the optimizer does not see them. ``spared``
    names those that weight decay leaves out, ``buffers`` those that ``forward`` itself moves.
    """

    forward: Forward
    loss: Loss
    optimizer: Optimizer
    unused: tuple[str, ...] = ()
    spared: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()

    def trained(self, params: Arrays) -> Arrays:
        return {name: p for name, p in params.items() if name not in self.unused and name not in self.buffers}

    def predict(self, params: Arrays, x: jax.Array) -> jax.Array:
        return self.forward(params, x, False)[0] if self.buffers else self.forward(params, x)

    def train(self, params: Arrays, x: jax.Array) -> tuple[jax.Array, Arrays]:
        """The prediction of a training step, and the buffers after it."""
        return self.forward(params, x, True) if self.buffers else (self.forward(params, x), {})

    def transformation(self, rate: jax.Array | None = None) -> optax.GradientTransformation:
        """optax's transformation for one update, of the learning rate ``rate`` where that changes."""
        rule = self.optimizer
        learning_rate = rule.learning_rate if rate is None else rate
        mask = None if rule.decayed is None else self._decayed
        if isinstance(rule, AdamW):
            return optax.adamw(
                learning_rate, rule.beta1, rule.beta2, rule.epsilon, weight_decay=rule.weight_decay, mask=mask
            )
        if isinstance(rule, Adam):
            return optax.adam(learning_rate, rule.beta1, rule.beta2, rule.epsilon)
        sgd = optax.sgd(learning_rate, rule.momentum or None)
        return optax.chain(optax.add_decayed_weights(rule.weight_decay, mask), sgd) if rule.weight_decay else sgd

    def _decayed(self, params: Arrays) -> dict[str, bool]:
        return {name: name not in self.spared for name in params}

    def clipped(self, gradients: Arrays) -> Arrays:
        """Clip gradients as the case asks: ``optax.clip_by_global_norm``, but with the epsilon that a case may have."""
        asked = self.optimizer.clipping
        if asked is None:
            return gradients
        if asked.kind == "value":
            return {name: jnp.clip(g, -asked.limit, asked.limit) for name, g in gradients.items()}
        whole = optax.global_norm(gradients)

        def shortened(g: jax.Array) -> jax.Array:
            norm = whole if asked.kind == "global_norm" else jnp.linalg.norm(g.ravel())
            return g * (asked.limit / jnp.maximum(norm + asked.epsilon, asked.limit))

        return {name: shortened(g) for name, g in gradients.items()}

    def slots(self) -> dict[str, str]:
        """optax's name of each slot to its canonical name."""
        if isinstance(self.optimizer, Adam):
            return {"mu": "first_moment", "nu": "second_moment"}
        return {"trace": "momentum"} if self.optimizer.momentum else {}


@partial(jax.jit, static_argnames="program")
def predict(program: Program, params: Arrays, x: jax.Array) -> jax.Array:
    return program.predict(params, x)


@partial(jax.jit, static_argnames="program")
def loss_and_gradients(
    program: Program, params: Arrays, x: jax.Array, y: jax.Array
) -> tuple[jax.Array, Arrays, Arrays]:
    """One batch's loss, the gradient of every parameter that is used, and the buffers after the step."""

    def loss_of(trained: Arrays) -> tuple[jax.Array, Arrays]:
        prediction, moved = program.train(params | trained, x)
        losses = LOSSES[program.loss.kind](prediction, y)
        return losses.sum() if program.loss.reduction == "sum" else losses.mean(), moved

    (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(program.trained(params))
    return loss, gradients, moved


def _widened(tree: Any) -> Any:
    """Widen narrow arrays to float32: in bfloat16 the .999 of Adam's second moment would be 1."""
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32) if leaf.dtype.name in NARROW else leaf, tree)


LEAST_ROOM = 4
"""The results of a call have room for so many segments at least, and then for the next power of two."""


@partial(jax.jit, static_argnames=("program", "room", "batches"))
def advance(
    program: Program,
    room: int,
    batches: int,
    segments: int,
    params: Arrays,
    slots: optax.OptState,
    x: jax.Array,
    y: jax.Array,
    rows: jax.Array | None,
    rates: jax.Array | None,
    inputs: tuple[jax.Array, ...],
) -> tuple[Arrays, optax.OptState, jax.Array, Arrays, tuple[jax.Array, ...]]:
    """Train ``segments`` segments of ``batches`` updates each; the results have ``room`` for more segments.

    ``rows`` is (room·batches, batch), or None if every batch is all rows in order. ``rates`` are the learning rates
    (room·batches,), or None if all updates have the optimizer's. Returns the parameters, the slots, the losses
    (room·batches,) and, after each segment, the parameters (room, *shape) and the predictions of ``inputs``
    (room, n, ...).

    ``segments`` and the first step of a segment are traced. The compiler never unrolls a loop of unknown length, nor
    merges it with the code around it, so a step rounds the same no matter how many steps one call runs.
    """
    constant = program.transformation()
    put = lax.dynamic_update_index_in_dim  # compiles to less than .at[].set, which checks bounds

    def step(t: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        params, slots, losses = carry
        batch_x, batch_y = x, y
        if rows is not None:
            chosen = lax.dynamic_index_in_dim(rows, t, keepdims=False)
            batch_x, batch_y = (jnp.take(values, chosen, 0, mode="clip") for values in (x, y))
        loss, gradients, moved = loss_and_gradients(program, params, batch_x, batch_y)
        if loss.dtype != losses.dtype:  # the model promoted it; storing would round it silently
            raise TypeError(f"the loss is {loss.dtype}, the run {losses.dtype}")
        trained, transformation = program.trained(params), constant
        gradients = program.clipped(_widened(gradients))
        if rates is not None:
            rate = lax.dynamic_index_in_dim(rates, t, keepdims=False)
            transformation = program.transformation(rate.astype(jax.tree.leaves(gradients)[0].dtype))
        updates, updated = transformation.update(gradients, *map(_widened, (slots, trained)))
        slots = jax.tree.map(lambda old, new: new.astype(old.dtype), slots, updated)
        return params | moved | optax.apply_updates(trained, updates), slots, put(losses, loss, t, 0)

    def segment(s: jax.Array, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        params, slots, losses = lax.fori_loop(s * batches, (s + 1) * batches, step, carry[:3])
        snapshots, predictions = carry[3:]
        snapshots = {name: put(stack, params[name], s, 0) for name, stack in snapshots.items()}
        asked = zip(inputs, predictions, strict=True)
        predictions = tuple(put(stack, program.predict(params, x), s, 0) for x, stack in asked)
        return params, slots, losses, snapshots, predictions

    losses = jnp.zeros(room * batches, next(iter(params.values())).dtype)
    said = tuple(jax.eval_shape(program.predict, params, x) for x in inputs)
    snapshots, predictions = (
        jax.tree.map(lambda one: jnp.zeros((room, *one.shape), one.dtype), each) for each in (params, said)
    )
    return lax.fori_loop(0, segments, segment, (params, slots, losses, snapshots, predictions))


class JaxTrainer:
    """The five verbs in JAX, with optax's optimizer.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the arrays that ``forward`` takes, by their names there.
        forward: A pure function, ``(params, x)`` to the prediction (batch, ...). In a case with buffers it is
            ``(params, x, training)`` to the prediction and, by name, the buffers as training leaves them.
        unused: The names of the parameters that ``forward`` never reads, which are not trained.

    Raises:
        ValueError: If JAX sees no such device.
    """

    def __init__(
        self,
        case: Case,
        dtype: str,
        device: str,
        layout: Layout,
        forward: Forward,
        unused: tuple[str, ...] = (),
    ) -> None:
        self.dtype, self.device, self.layout = jnp.dtype(dtype), device_of(device), layout
        masked = case.optimizer.decayed is not None
        spared = tuple(name for name, decay in decays(case.optimizer, layout).items() if masked and not decay)
        self.trained = [slot for slot in layout if slot.canonical not in case.buffers]
        buffers = tuple(slot.framework for slot in layout if slot.canonical in case.buffers)
        self.program = Program(forward, case.loss, case.optimizer, unused, spared, buffers)
        data = case.data()
        self._input = placing(self._put, data.x, data.x_test)
        self.x, self.y = self._input(data.x), self._put(data.y)
        self.params = self._arrays(self.layout, case.initial())
        self.slots = jax.device_put(self.program.transformation().init(self.program.trained(self.params)), self.device)
        self.step = 0

    def predict(self, x: Array) -> Array:
        return _numpy(predict(self.program, self.params, self._input(x))).copy()

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        loss, gradients, _ = loss_and_gradients(self.program, self.params, self._put(x), self._put(y))
        return float(loss), self._canonical(self.trained, gradients)

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        asked = tuple(map(self._input, inputs))
        if len({len(rows) for segment in segments for rows in segment}) == 1:
            return self._advance(segments, asked)
        return joined([self._segment(segment, asked) for segment in segments])

    def export(self) -> State:
        slots = {
            f"{slot}/{name}": value
            for key, slot in self.program.slots().items()
            for name, value in self._canonical(self.trained, optax.tree_utils.tree_get(self.slots, key)).items()
        }
        return State(self._canonical(self.layout, self.params), slots, self.step)

    def load(self, state: State) -> None:
        slots = state.slots_at(1.0)
        self.params, self.step = self._arrays(self.layout, state.params), state.step
        names = [slot.canonical for slot in self.trained]
        values: dict[str, Any] = {
            key: self.program.trained(self._arrays(self.trained, {name: slots[f"{slot}/{name}"] for name in names}))
            for key, slot in self.program.slots().items()
        }
        if isinstance(self.program.optimizer, Adam):
            values["count"] = jax.device_put(np.int32(state.step), self.device)
        self.slots = optax.tree_utils.tree_set(self.slots, **values)

    def _put(self, values: Array) -> jax.Array:
        return jax.device_put(values.astype(self.dtype) if values.dtype.kind == "f" else values, self.device)

    def _arrays(self, layout: Layout, params: Params) -> Arrays:
        return {name: self._put(value) for name, value in to_framework(layout, params).items()}

    def _canonical(self, layout: Layout, arrays: Arrays) -> Params:
        missing = {name: jnp.zeros_like(p) for name, p in self.params.items() if name not in arrays}
        return to_canonical(layout, {name: _numpy(p) for name, p in (arrays | missing).items()})

    def _segment(self, segment: Batches, inputs: tuple[jax.Array, ...]) -> Trained:
        """Train a segment whose last batch is shorter, in a call of its own: an array has one batch size."""
        *runs, last = (tuple(run) for _, run in groupby(segment, key=len))
        pieces = [*(self._advance([run], ()) for run in runs), self._advance([last], inputs)]
        return continued(pieces)

    def _advance(self, segments: Sequence[Batches], inputs: tuple[jax.Array, ...]) -> Trained:
        """Do as ``train``, with batches of one size. The room is one of few sizes: each is compiled."""
        count, batches = len(segments), len(segments[0])
        room = max(LEAST_ROOM, 1 << (count - 1).bit_length())
        indices = None
        if not all_rows(segments, len(self.x)):
            indices = np.zeros((room * batches, len(segments[0][0])), np.int64)
            indices[: count * batches] = [rows for segment in segments for rows in segment]
            indices = jax.device_put(indices, self.device)
        changing = None
        if self.program.optimizer.rates is not None:
            changing = jax.device_put(rates(self.program.optimizer, self.step, room * batches), self.device)
        self.params, self.slots, losses, snapshots, predictions = advance(
            self.program, room, batches, count, self.params, self.slots, self.x, self.y, indices, changing, inputs
        )
        self.step += count * batches
        ends = {name: _numpy(stack)[:count] for name, stack in snapshots.items()}
        return Trained(
            _numpy(losses)[: count * batches].reshape(count, batches).copy(),
            to_canonical(self.layout, ends, stacked=1),
            tuple(_numpy(stack)[:count].copy() for stack in predictions),
        )


def _numpy(array: jax.Array) -> Array:
    return np.asarray(array.astype(jnp.float32) if array.dtype == jnp.bfloat16 else array)
