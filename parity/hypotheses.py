"""The porting mistakes that people make, each as something that can be replayed on an implementation that is right.

The catalogue serves twice. Planted, every mistake must be found by the harness; and when a real run fails, mistakes
are replayed on the reference until one makes the difference vanish. A mistake that needs to know its model stands
beside it: ``mistakes.py`` in a model's folder has ``MISTAKES``, a tuple of ``Hypothesis``.

``parity.planting`` says how a mistake is planted and how it is decided that it would change nothing.

No case changes its learning rate. The two mistakes about a changing rate are planted as a rate whose first fall, due
after the last epoch, comes an epoch early. Decay through the gradient is a mistake only where an implementation decays
otherwise, which no document's does: whether it changes anything is asked of the implementation, and its tests have one.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from parity.planting import (
    Gradients,
    Plant,
    Stepwise,
    after_output,
    batches,
    either,
    honest,
    in_order,
    on_case,
    on_optimizer,
    on_rows,
    one_by_one,
    stepwise,
    torch_functions,
    torch_loss,
    torch_output,
    with_functions,
    with_loss,
    with_products,
)
from parity.spec import (
    Adam,
    AdamW,
    Array,
    Batches,
    Case,
    Dataset,
    Optimizer,
    Params,
    RandomRow,
    RandomRows,
    Schedule,
    Sgd,
    Shuffled,
)
from parity.tolerance import Build
from parity.trainer import State, Trained, Trainer, joined, predicted
from parity.trainers import numpy_trainer as nn

if TYPE_CHECKING:
    from parity.suite import Entry


@dataclass(frozen=True)
class Hypothesis:
    """A named porting mistake.

    ``phase`` is one of ``parity.locate.PHASES``: where a walk from shared states first sees the mistake. States of
    which all is zero may hide it for a step. ``reference`` names an issue, a document or a library's own page that
    shows people making it. ``plant(build, case, dtype, device)`` gives the implementation with the mistake, or None
    where it cannot be made or changes nothing.

    ``figures_only``: the run's losses and parameters stay right, and only the printed figures come out wrong.
    ``pieces_of`` are the labels, beside the reference's, of implementations in whose pieces it can be planted.
    """

    name: str
    phase: str
    sentence: str
    reference: str
    plant: Plant
    figures_only: bool = False
    pieces_of: tuple[str, ...] = ()


def hypotheses_for(entry: Entry) -> tuple[Hypothesis, ...]:
    """The catalogue, and the mistakes of the entry's own model where its folder has a ``mistakes.py``.

    ValueError where two mistakes have the same name.
    """
    own: tuple[Hypothesis, ...] = ()
    if entry.implementations and entry.spec.with_name("mistakes.py").exists():
        package = next(iter(entry.implementations.values())).module.rpartition(".")[0]
        own = importlib.import_module(f"{package}.mistakes").MISTAKES
    found = (*CATALOGUE, *own)
    names = [hypothesis.name for hypothesis in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two mistakes of {entry.case.name} are called {twice!r}")
    return found


# Where a mistake can be made.


def has_adam(case: Case) -> bool:
    return isinstance(case.optimizer, Adam)


def has_momentum(case: Case) -> bool:
    return isinstance(case.optimizer, Sgd) and case.optimizer.momentum != 0


def has_decay(case: Case, kind: type[Sgd] | type[AdamW] | UnionType = Sgd | AdamW) -> bool:
    return isinstance(case.optimizer, kind) and case.optimizer.weight_decay != 0


def has_classes(case: Case) -> bool:
    return case.loss.kind in ("crossentropy", "nll")


def anywhere(case: Case) -> bool:
    return True


# Updates.


def moments(rule: Adam, name: str, g: Array, state: State) -> tuple[Array, Array]:
    """Adam's two moments after a gradient, kept in the state's slots."""
    first, second = f"first_moment/{name}", f"second_moment/{name}"
    m = state.slots[first] = rule.beta1 * state.slots[first] + (1 - rule.beta1) * g
    v = state.slots[second] = rule.beta2 * state.slots[second] + (1 - rule.beta2) * (g * g)
    return m, v


def epsilon_inside_the_root(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    m_hat, v_hat = m / (1 - rule.beta1**state.step), v / (1 - rule.beta2**state.step)
    return nn.decayed(rule, p) - rule.learning_rate * m_hat / np.sqrt(v_hat + rule.epsilon)


def _in_float32_powers(rule: Adam, state: State) -> tuple[np.float32, np.float32]:
    """1 - beta1ᵗ and 1 - beta2ᵗ, worked out in float32."""
    first, second = (np.float32(1) - np.float32(b) ** np.float32(state.step) for b in (rule.beta1, rule.beta2))
    return first, second


KERAS_EPSILON = 1e-7
"""What Keras's Adam has for epsilon unless told otherwise."""


def _before(rule: Adam, name: str, p: Array, g: Array, state: State, first: Any, second: Any, epsilon: float) -> Array:
    """Adam whose epsilon is added before the bias is corrected, by 1 - beta1ᵗ and 1 - beta2ᵗ as they are given."""
    m, v = moments(rule, name, g, state)
    rate = rule.learning_rate * second**0.5 / first
    return nn.decayed(rule, p) - rate * m / (np.sqrt(v) + epsilon)


def epsilon_before_the_correction(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    first, second = (1 - b**state.step for b in (rule.beta1, rule.beta2))
    return _before(rule, name, p, g, state, first, second, rule.epsilon)


def as_keras_has_it(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """Keras's own Adam in a float32 run: its epsilon, where it adds it, and its correction in float32."""
    return _before(rule, name, p, g, state, *_in_float32_powers(rule, state), KERAS_EPSILON)


def as_keras_has_it_in_float64(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    """The same in a float64 run, with the case's epsilon: what is Python's own passes through float32 on its way."""
    first, second = (1 - float(np.float32(b)) ** state.step for b in (rule.beta1, rule.beta2))
    return _before(rule, name, p, g, state, first, second, rule.epsilon)


def all_of_keras_in_float64(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    return as_keras_has_it_in_float64(replace(rule, epsilon=KERAS_EPSILON), name, p, g, state)


def in_float64_alone(plant: Plant) -> Plant:
    """What no other run can have."""
    return lambda build, case, dtype, device: plant(build, case, dtype, device) if dtype == "float64" else None


def without_correction(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    return nn.decayed(rule, p) - rule.learning_rate * m / (np.sqrt(v) + rule.epsilon)


def correction_one_step_off(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    ahead = State(state.params, state.slots, state.step + 1)
    return nn.adam(rule, name, p, g, ahead)


def correction_in_float32(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    m, v = moments(rule, name, g, state)
    m_scale, v_scale = _in_float32_powers(rule, state)
    return nn.decayed(rule, p) - rule.learning_rate * (m / m_scale) / (np.sqrt(v / v_scale) + rule.epsilon)


def amsgrad(rule: Adam, name: str, p: Array, g: Array, state: State) -> Array:
    slot = f"largest_second_moment/{name}"
    largest = state.slots.get(slot, state.slots[f"second_moment/{name}"])
    m, v = moments(rule, name, g, state)
    largest = state.slots[slot] = np.maximum(largest, v)
    m_hat, v_hat = m / (1 - rule.beta1**state.step), largest / (1 - rule.beta2**state.step)
    return nn.decayed(rule, p) - rule.learning_rate * m_hat / (np.sqrt(v_hat) + rule.epsilon)


def velocity(rule: Sgd, name: str, d: Array, state: State, share: float = 1.0) -> Array:
    """The momentum buffer after ``share`` of a step direction came in; the direction itself where there is none."""
    if not rule.momentum:
        return d
    slot = f"momentum/{name}"
    b = state.slots[slot] = rule.momentum * state.slots[slot] + share * d
    return b


def decoupled_decay(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    shrunk = p - rule.learning_rate * rule.weight_decay * p
    return shrunk - rule.learning_rate * velocity(rule, name, g, state)


def through_the_gradient(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    """L2 in the place of what the implementation does; nowhere where a first update's slots say that it is L2.

    AdamW's decay is decoupled wherever it is AdamW's.
    """
    if has_decay(case, AdamW):
        return Stepwise(build(case, dtype, device), case, dtype, rule=decay_in_the_moments)
    if not (has_decay(case, Sgd) and has_momentum(case)):
        return None  # Without a velocity both are the same.
    trainer, rows = build(case, dtype, device), next(one_by_one(case.schedule, len(case.data().x)))
    start = trainer.export()
    trainer.train([(rows,)])
    own = trainer.export().slots_at(1.0)
    trainer.load(start)
    mistaken = Stepwise(trainer, case, dtype)
    mistaken.train([(rows,)])
    other = mistaken.export().slots
    mistaken.load(start)
    # A decay that is missing from the velocity is far more than what rounding leaves.
    near = (np.allclose(own[name], value, 1e-3, 1e-3 * np.abs(value).max()) for name, value in other.items())
    return None if all(near) else mistaken


def decay_in_the_moments(rule: AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    return nn.adam(replace(rule, weight_decay=0.0), name, p, g + rule.weight_decay * p, state)


def decay_without_the_rate(rule: Sgd | AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    if isinstance(rule, AdamW):
        return nn.adam(replace(rule, weight_decay=0.0), name, p - rule.weight_decay * p, g, state)
    return p - rule.weight_decay * p - rule.learning_rate * velocity(rule, name, g, state)


def decay_of_weights_alone(rule: Sgd | AdamW, name: str, p: Array, g: Array, state: State) -> Array:
    return honest(replace(rule, weight_decay=0.0) if name.endswith("bias") else rule, name, p, g, state)


def dampened(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    d = g + rule.weight_decay * p
    return p - rule.learning_rate * velocity(rule, name, d, state, share=1 - rule.momentum)


def nesterov(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    d = g + rule.weight_decay * p
    return p - rule.learning_rate * (d + rule.momentum * velocity(rule, name, d, state))


def no_momentum(rule: Sgd, name: str, p: Array, g: Array, state: State) -> Array:
    return p - rule.learning_rate * (g + rule.weight_decay * p)


def not_zeroed(rule: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
    slot = f"accumulated_gradient/{name}"
    total = state.slots[slot] = g + state.slots.get(slot, 0)
    return honest(rule, name, p, total, state)


FALL = 0.1
"""By how much a learning rate falls at a step of its schedule: the default of torch's and of most listings."""


def falls_early(build: Build, case: Case, dtype: str, device: str, folded: bool) -> Trainer | None:
    """A rate that is to fall after the last epoch falls before it; ``folded`` keeps what the velocity has had of it."""
    if folded and not has_momentum(case):
        return None
    constant = (case.epochs - 1) * batches(case)

    def rule(optimizer: Any, name: str, p: Array, g: Array, state: State) -> Array:
        if state.step <= constant:
            return honest(optimizer, name, p, g, state)
        if folded:
            d = g + optimizer.weight_decay * p
            return p - optimizer.learning_rate * velocity(optimizer, name, d, state, share=FALL)
        return honest(replace(optimizer, learning_rate=FALL * optimizer.learning_rate), name, p, g, state)

    return Stepwise(build(case, dtype, device), case, dtype, rule=rule)


def float32_rate(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    rate = float(np.float32(case.optimizer.learning_rate))
    if dtype != "float64" or rate == case.optimizer.learning_rate:
        return None
    return build(replace(case, optimizer=replace(case.optimizer, learning_rate=rate)), dtype, device)


# Losses and gradients.


def other_reduction(case: Case, wanted: Literal["sum", "mean"]) -> Case | None:
    data = case.data()
    rows = max(len(rows) for rows in itertools.islice(one_by_one(case.schedule, len(data.x)), batches(case)))
    alone = rows == 1 and data.y[:1].size == 1 and case.loss.kind != "total"
    if case.loss.reduction == wanted or alone:
        return None  # the mean over one value is its sum
    return replace(case, loss=replace(case.loss, reduction=wanted))


def scaled(factor: float) -> Callable[..., tuple[float, Params]]:
    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, y)
        return loss * factor, {name: g * factor for name, g in found.items()}

    return evaluate


def over_classes(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    if not has_classes(case) or case.loss.reduction != "mean":
        return None
    trainer = build(case, dtype, device)
    classes = trainer.predict(case.data().x[:1]).shape[-1]
    return Stepwise(trainer, case, dtype, evaluate=scaled(1 / classes))


def broadcast(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    """Every prediction against every target: (ŷᵢ - yⱼ)² over all j is n ((ŷᵢ - ȳ)² + variance of y)."""
    data = case.data()
    rows = next(one_by_one(case.schedule, len(data.x)))
    if case.loss.kind != "squared_error" or data.y.shape[1:] != (1,) or len(rows) == 1:
        return None

    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = gradients(x, np.full_like(y, y.mean()))
        if case.loss.reduction == "mean":
            return loss + y.var(), found
        n = len(y)
        return n * (loss + n * y.var()), {name: n * g for name, g in found.items()}

    return Stepwise(build(case, dtype, device), case, dtype, evaluate=evaluate)


def penalty_in_the_loss(gradients: Gradients, params: Params, x: Array, y: Array, case: Case) -> tuple[float, Params]:
    loss, found = gradients(x, y)
    decay = case.optimizer.weight_decay if isinstance(case.optimizer, Sgd) else 0.0
    return loss + decay / 2 * sum(float((p * p).sum()) for p in params.values()), found


def with_penalty(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    if not has_decay(case, Sgd):
        return None
    return Stepwise(build(case, dtype, device), case, dtype, evaluate=partial(penalty_in_the_loss, case=case))


SMOOTHING = 0.1


def smoothed(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    if has_classes(case):
        return with_loss(smoothed_classes, case.loss.kind)(build, case, dtype, device)

    def evaluate(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
        return gradients(x, y * (1 - SMOOTHING) + SMOOTHING / 2)

    binary = stepwise(lambda case: case.loss.kind == "binary_crossentropy", evaluate=evaluate)
    return binary(build, case, dtype, device)


def smoothed_classes(loss: nn.Loss) -> nn.Loss:
    """A share of each target spread over all classes: linear in the target, so the mean over targets of the loss."""

    def mistaken(prediction: Array, y: Array) -> tuple[Array, Array]:
        classes = prediction.shape[-1]
        losses, derivative = loss(prediction, y)
        losses, derivative = (1 - SMOOTHING) * losses, (1 - SMOOTHING) * derivative
        for other in range(classes):
            more, d_more = loss(prediction, np.full_like(y, other))
            losses, derivative = losses + SMOOTHING / classes * more, derivative + SMOOTHING / classes * d_more
        return losses, derivative

    return mistaken


def log_with_epsilon(loss: nn.Loss) -> nn.Loss:
    def mistaken(p: Array, y: Array) -> tuple[Array, Array]:
        inside, outside = p + 1e-7, 1 - p + 1e-7
        return -y * np.log(inside) - (1 - y) * np.log(outside), (1 - y) / outside - y / inside

    return mistaken


def unclamped(p: Array, y: Array) -> tuple[Array, Array]:
    """Binary cross-entropy as it is written down, NaN where a probability is 0 or 1."""
    return -y * np.log(p) - (1 - y) * np.log(1 - p), (1 - y) / (1 - p) - y / p


CLAMPED_STEPS = 200
"""So many updates are looked at for a probability that the clamps of the loss would touch."""


def unclamped_value(p: Array, y: Array) -> tuple[Array, Array]:
    """The same beside the derivative that a sigmoid's turns into p - y, which needs no clamp."""
    return unclamped(p, y)[0], nn.binary_crossentropy(p, y)[1]


def without_clamp(build: Build, case: Case, dtype: str, device: str, loss: nn.Loss = unclamped) -> Trainer | None:
    """Only where training meets a probability that the clamps touch: elsewhere the formula is the same."""
    trainer = build(case, dtype, device)
    if not isinstance(trainer, nn.NumpyTrainer) or case.loss.kind != "binary_crossentropy":
        return None
    clamped, data = trainer.loss, case.data()
    start = trainer.export()
    steps = min(CLAMPED_STEPS, case.epochs * batches(case))
    for rows in itertools.islice(one_by_one(case.schedule, len(data.x)), steps):
        p = trainer.predict(data.x[rows]).astype(np.float64)  # a float16 would make 0 of the bound
        if np.any(p * (1 - p) < 1e-12):
            trainer.load(start)
            trainer.loss = np.errstate(all="ignore")(loss)
            return trainer
        trainer.train([(rows,)])
    assert trainer.loss is clamped
    return None


def softmax_over_rows(loss: nn.Loss) -> nn.Loss:
    def mistaken(logits: Array, y: Array) -> tuple[Array, Array]:
        log_p, rows = nn.log_softmax(logits, 0), np.arange(len(y))
        derivative = np.exp(log_p) * np.bincount(y, minlength=logits.shape[1]).astype(logits.dtype)
        derivative[rows, y] -= 1
        return -log_p[rows, y], derivative

    return mistaken


def of_a_sigmoid(loss: nn.Loss) -> nn.Loss:
    def mistaken(p: Array, y: Array) -> tuple[Array, Array]:
        losses, _ = loss(nn.sigmoid(p), y)
        return losses, nn.sigmoid(p) - y

    return mistaken


def softmax(x: Array) -> Array:
    return np.exp(nn.log_softmax(x))


def softmax_backward(d_output: Array, output: Array) -> Array:
    return output * (d_output - (d_output * output).sum(-1, keepdims=True))


# Parameters and products.


def squares_transposed(params: Params) -> Params:
    return {name: p.T if name.endswith("kernel") and p.shape[0] == p.shape[1] else p for name, p in params.items()}


def rearranged(params: Params, back: bool) -> Params:
    """The first kernel with its rows in another order: down the columns of a square image, or the last input first.

    The first by its name: parameters and gradients come in any order.
    """
    name = min((name for name in params if name.endswith("kernel")), default=None)
    if name is None:
        return params
    rows = len(params[name])
    side = round(rows**0.5)
    order = np.arange(rows).reshape(side, side).T.ravel() if side > 1 and side * side == rows else np.arange(rows)[::-1]
    return params | {name: params[name][np.argsort(order) if back else order]}


def without_biases(params: Params) -> Params:
    return {name: np.zeros_like(p) if name.endswith("bias") else p for name, p in params.items()}


def tables_scaled(params: Params) -> Params:
    """Embeddings times the root of their width; the same factor takes a gradient back."""
    return {name: p * p.shape[1] ** 0.5 if name.endswith("/table") else p for name, p in params.items()}


def in_float32(params: Params) -> Params:
    return {name: p.astype(np.float32).astype(p.dtype) for name, p in params.items()}


def float32_layers(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    def rule(optimizer: Optimizer, name: str, p: Array, g: Array, state: State) -> Array:
        return honest(optimizer, name, p, g, state).astype(np.float32)

    if dtype != "float64":
        return None
    return stepwise(anywhere, in_float32, evaluate=_in_float32, rule=rule)(build, case, dtype, device)


def _in_float32(gradients: Gradients, params: Params, x: Array, y: Array) -> tuple[float, Params]:
    loss, found = gradients(x.astype(np.float32).astype(x.dtype) if x.dtype.kind == "f" else x, y)
    return float(np.float32(loss)), in_float32(found)


def tensor_float(x: Array) -> Array:
    """The nearest number with ten bits after the leading one, as TF32 reads a factor."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(x.dtype)


def tensor_float_product(a: Array, b: Array) -> Array:
    return tensor_float(a) @ tensor_float(b)


HALF_BLOCK = 16
"""Products that are summed before a partial sum is rounded, as in one instruction of a tensor core."""


def half_product(a: Array, b: Array) -> Array:
    """a @ b whose partial sums are kept in half precision; ``a`` (…, k), ``b`` (k, n)."""
    total: Array = np.zeros((*a.shape[:-1], *b.shape[1:]), np.float16)
    for start in range(0, len(b), HALF_BLOCK):
        block = slice(start, start + HALF_BLOCK)
        total = (total + a[..., block] @ b[block]).astype(np.float16)
    return total.astype(a.dtype)


def leaky_relu(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)


def leaky_relu_backward(d_output: Array, output: Array) -> Array:
    return np.where(output > 0, d_output, 0.01 * d_output)


def one_at_zero(d_output: Array, output: Array) -> Array:
    return d_output * (output >= 0)


def tanh_backward(d_output: Array, output: Array) -> Array:
    return d_output * (1 - output * output)


# The same in PyTorch's words. What is not here has none: a tanh is refused by its binary cross-entropy, and on a CPU no
# product is made in TF32 or half precision.


def torch_leaky_relu(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    return {"relu": lambda x, inplace=False: torch.where(x > 0, x, 0.01 * x)}


def torch_relu_let_through(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    """Where the derivative is 1 at an output of 0, all of them are: the function is the identity, going back."""
    return {"relu": lambda x, inplace=False: x + (torch.relu(x) - x).detach()}


def torch_log_softmax_over_rows(torch: Any, trainer: Any, case: Case) -> dict[str, Callable[..., Any]]:
    return {"log_softmax": lambda x, *arguments, **options: torch.log_softmax(x, 0)}


def torch_log_with_epsilon(torch: Any, p: Any, y: Any) -> Any:
    return -y * torch.log(p + 1e-7) - (1 - y) * torch.log(1 - p + 1e-7)


def torch_softmax_over_rows(torch: Any, logits: Any, y: Any) -> Any:
    return -torch.log_softmax(logits, 0).gather(1, y[:, None])


def torch_of_a_sigmoid(torch: Any, p: Any, y: Any) -> Any:
    return torch.nn.functional.binary_cross_entropy_with_logits(p, y, reduction="none")


# The order of the batches.


def another_generator(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if isinstance(schedule, Shuffled):
        return shuffled(schedule, rows, np.random.default_rng)
    generator = np.random.default_rng(getattr(schedule, "seed", None))
    if isinstance(schedule, RandomRow):
        return (generator.integers(rows, size=1) for _ in itertools.count())
    if isinstance(schedule, RandomRows):
        return (generator.permutation(rows)[: schedule.batch_size] for _ in itertools.count())
    return None


def shuffled(schedule: Shuffled, rows: int, make: Callable[[int], Any], anew: bool = True) -> Iterator[Array]:
    """As the schedule's own, with another generator; ``anew=False`` shuffles what the epoch before has shuffled."""
    end = rows if schedule.keep_last else rows - rows % schedule.batch_size
    generator, order = make(schedule.seed), np.arange(rows)
    while True:
        generator = make(schedule.seed) if schedule.reseed else generator
        order = np.arange(rows) if anew else order.copy()
        generator.shuffle(order)
        for start in range(0, end, schedule.batch_size):
            yield order[start : min(start + schedule.batch_size, end)]


def shuffled_again(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    return shuffled(schedule, rows, np.random.RandomState, anew=False) if isinstance(schedule, Shuffled) else None


def another_seed(schedule: Any, rows: int) -> Iterator[Array] | None:
    return one_by_one(replace(schedule, seed=schedule.seed + 1), rows) if hasattr(schedule, "seed") else None


def not_reshuffled(schedule: Schedule, rows: int) -> Iterator[Array]:
    return itertools.cycle(next(schedule.epochs(rows)))


def not_reseeded(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    return one_by_one(replace(schedule, reseed=False), rows) if isinstance(schedule, Shuffled) else None


def not_shuffled(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if isinstance(schedule, Shuffled):
        return _in_turn(rows, schedule.batch_size, rows if schedule.keep_last else rows - rows % schedule.batch_size)
    size = {RandomRow: 1, RandomRows: getattr(schedule, "batch_size", 0)}.get(type(schedule))
    return _in_turn(rows, size, rows - rows % size) if size else None


def _in_turn(rows: int, size: int, end: int) -> Iterator[Array]:
    order = np.arange(rows)
    return itertools.cycle([order[start : min(start + size, end)] for start in range(0, end, size)])


def with_replacement(schedule: Schedule, rows: int) -> Iterator[Array] | None:
    if not isinstance(schedule, Shuffled | RandomRows):
        return None
    generator = np.random.RandomState(schedule.seed)
    return (generator.randint(rows, size=schedule.batch_size, dtype=np.int64) for _ in itertools.count())


def other_last_batch(schedule: Schedule, rows: int, keep: bool) -> Iterator[Array] | None:
    if not isinstance(schedule, Shuffled) or schedule.keep_last == keep:
        return None
    if rows < schedule.batch_size:
        return None  # The last batch is the only one.
    return one_by_one(replace(schedule, keep_last=keep), rows)


def one_batch_late(schedule: Schedule, rows: int) -> Iterator[Array]:
    order = one_by_one(schedule, rows)
    first = next(order)
    return itertools.chain((first, first), order)


def one_epoch_ahead(schedule: Schedule, rows: int) -> Iterator[Array]:
    epochs = schedule.epochs(rows)
    next(epochs)
    return itertools.chain.from_iterable(epochs)


# Data and figures.


def standardized(data: Dataset) -> bool:
    """Whether the training rows were: each column's mean 0 and population deviation 1, up to rounding."""
    if data.x.ndim != 2 or data.x.dtype.kind != "f" or len(data.x) < 2:
        return False
    return bool(np.allclose(data.x.mean(0), 0, atol=1e-9) and np.allclose(data.x.std(0), 1, atol=1e-9))


def by_sample_deviation(data: Dataset, case: Case) -> Dataset | None:
    return replace(data, x=data.x / data.x.std(0, ddof=1)) if standardized(data) else None


def by_all_rows(data: Dataset, case: Case) -> Dataset | None:
    """Standardizing anew undoes what was done by the training rows: scale and shift of the raw values cancel."""
    if not standardized(data) or data.x_test is None:
        return None
    everything = np.concatenate([data.x, data.x_test])
    return replace(data, x=(data.x - everything.mean(0)) / everything.std(0))


class LossAfterUpdate:
    """A trainer whose ``train`` takes each batch's loss once more after its update, and reports that."""

    def __init__(self, trainer: Trainer, data: Dataset) -> None:
        self.trainer, self.data = trainer, data
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        return joined([self._segment(segment, inputs) for segment in segments])

    def _segment(self, segment: Batches, inputs: Sequence[Array]) -> Trained:
        losses = []
        for rows in segment:
            trained = self.trainer.train([(rows,)])
            losses.append(self.trainer.gradients(self.data.x[rows], self.data.y[rows])[0])
        predictions = predicted(self.trainer, inputs)
        return trained._replace(losses=np.array([losses], trained.losses.dtype), predictions=predictions)


def loss_after_update(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    return LossAfterUpdate(build(case, dtype, device), case.data())


class StaleFigures:
    """A trainer that is asked for its figures too early: before each segment that it trains, not after."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.predict, self.gradients = trainer.predict, trainer.gradients
        self.export, self.load = trainer.export, trainer.load

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        before = predicted(self.trainer, inputs)
        trained = self.trainer.train(segments, inputs)
        early = zip(before, trained.predictions, strict=True)
        return trained._replace(predictions=tuple(np.concatenate([first, later[:-1]]) for first, later in early))


def stale_figures(build: Build, case: Case, dtype: str, device: str) -> Trainer | None:
    """Where a published figure is one of the metrics, after an epoch."""
    early = any(
        (callable(published.of) or published.of.startswith("metrics/")) and max(published.values) > 0
        for published in case.published
    )
    return StaleFigures(build(case, dtype, device)) if early and case.metrics else None


CATALOGUE: tuple[Hypothesis, ...] = (
    # The order of the batches, and when the loss is taken.
    Hypothesis(
        "shuffle-with-another-generator",
        "batch",
        "The rows are shuffled by NumPy's newer generator instead of RandomState, under the same seed.",
        "qiskit-community/qiskit-aqua#921; biocore/calour#211",
        in_order(another_generator),
    ),
    Hypothesis(
        "shuffle-with-another-seed",
        "batch",
        "The generator of the batch order is seeded with the next number.",
        "PyTorch documentation, Reproducibility; hirofumi0810/neural_sp#314",
        in_order(another_seed),
    ),
    Hypothesis(
        "not-shuffled",
        "batch",
        "The rows come in the order of the data instead of a random one.",
        "kmonachopoulos/ImageNet-to-TFrecord#4; keras-team/keras-io#1872",
        in_order(not_shuffled),
    ),
    Hypothesis(
        "not-reshuffled",
        "batch",
        "Every epoch repeats the batches of the first instead of being shuffled anew.",
        "pytorch/pytorch#31771: DistributedSampler without set_epoch",
        in_order(not_reshuffled),
    ),
    Hypothesis(
        "generator-not-made-anew",
        "batch",
        "The generator goes on from epoch to epoch instead of being made anew, with its seed, at each.",
        "pytorch/pytorch#11324; kyutai-labs/pocket-tts#287: when an order repeats and when it goes on",
        in_order(not_reseeded),
    ),
    Hypothesis(
        "shuffled-in-place",
        "batch",
        "Each epoch shuffles the order that the epoch before has left instead of the order of the data.",
        "NumPy documentation, RandomState.shuffle works in place",
        in_order(shuffled_again),
    ),
    Hypothesis(
        "drawn-with-replacement",
        "batch",
        "The rows of a batch are drawn with replacement instead of without.",
        "PyTorch documentation, RandomSampler(replacement)",
        in_order(with_replacement),
    ),
    Hypothesis(
        "last-batch-dropped",
        "batch",
        "The short last batch of an epoch is dropped, so that every later batch comes a step early.",
        "TimDettmers/ConvE#2; NVIDIA/DeepLearningExamples#177",
        in_order(partial(other_last_batch, keep=False)),
    ),
    Hypothesis(
        "last-batch-kept",
        "batch",
        "The short last batch of an epoch is kept, so that every later batch comes a step late.",
        "keras-team/keras#8310; thinking-machines-lab/tinker-cookbook#392",
        in_order(partial(other_last_batch, keep=True)),
    ),
    Hypothesis(
        "one-batch-late",
        "batch",
        "The first batch is used twice, and every other batch one step late.",
        "TensorFlow guide, Better performance with the tf.data API: prefetching",
        in_order(one_batch_late),
    ),
    Hypothesis(
        "epoch-off-by-one",
        "batch",
        "Every epoch has the batches of the next, as if one had been drawn and thrown away first.",
        "agentscope-ai/Trinity-RFT#593; huggingface/accelerate#4203: an order one epoch ahead or behind",
        in_order(one_epoch_ahead),
    ),
    Hypothesis(
        "loss-after-the-update",
        "batch",
        "A batch's loss is taken after its update instead of before.",
        "keras-team/keras#12274; tensorflow/tensorflow#29964",
        loss_after_update,
    ),
    Hypothesis(
        "evaluation-before-the-update",
        "state",
        "An epoch's figures are taken before its updates instead of after.",
        "keras-team/keras#503; keras-team/keras#12274",
        stale_figures,
        figures_only=True,
    ),
    # The data.
    Hypothesis(
        "sample-standard-deviation",
        "batch",
        "The inputs are divided by their sample standard deviation (n - 1) instead of the population's (n).",
        "pytorch/pytorch#1082; scikit-learn/scikit-learn#12901",
        on_rows(by_sample_deviation),
    ),
    Hypothesis(
        "statistics-of-train-and-test",
        "batch",
        "Mean and deviation are those of training and test rows together instead of the training rows alone.",
        "scikit-learn/scikit-learn#24695; scikit-learn/scikit-learn#24399",
        on_rows(by_all_rows),
    ),
    # The prediction.
    Hypothesis(
        "kernel-transposed",
        "prediction",
        "Square kernels are taken for (out, in) instead of (in, out).",
        "PyTorch documentation, Linear: weight is (out_features, in_features), Keras's Dense has (inputs, units)",
        stepwise(anywhere, squares_transposed, squares_transposed),
    ),
    Hypothesis(
        "rows-permuted",
        "prediction",
        "The rows of the first kernel belong to the inputs in another order.",
        "microsoft/MMdnn#250; keras-team/keras#13830",
        stepwise(anywhere, partial(rearranged, back=False), partial(rearranged, back=True)),
    ),
    Hypothesis(
        "bias-missing",
        "prediction",
        "The layers have no bias.",
        "pudae/tensorflow-densenet#21; OpenNMT/CTranslate2#833",
        stepwise(anywhere, without_biases, without_biases),
    ),
    Hypothesis(
        "embedding-scaled",
        "prediction",
        "Embeddings are multiplied by the root of their width.",
        "SamLynnEvans/Transformer#10; OpenNMT/OpenNMT-py#1722",
        stepwise(anywhere, tables_scaled, tables_scaled),
    ),
    Hypothesis(
        "relu-after-the-last-layer",
        "prediction",
        "A ReLU follows the last layer, which should have none.",
        "hunkim/PyTorchZeroToAll#4; pytorch/tutorials#1654; nerfstudio-project/nerfstudio#932",
        either(
            after_output(nn.relu, nn.relu_backward, "squared_error", "crossentropy"),
            torch_output(lambda torch, z: torch.relu(z), "squared_error", "crossentropy"),
        ),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "leaky-relu",
        "prediction",
        "ReLUs have a slope of .01 below 0 instead of none.",
        "torch-points3d/torch-points3d#248; jinyu121/DW2TF#2",
        either(
            with_functions(nn, relu=leaky_relu, relu_backward=leaky_relu_backward),
            torch_functions(torch_leaky_relu),
        ),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "tanh-for-sigmoid",
        "prediction",
        "A tanh takes the place of the sigmoid.",
        "tflearn/tflearn#200; google/e3d_lstm#17",
        with_functions(nn, sigmoid=np.tanh, sigmoid_backward=tanh_backward),
    ),
    Hypothesis(
        "softmax-twice",
        "prediction",
        "The model ends with a softmax, and the loss, which takes logits, applies another.",
        "tflearn/tflearn#562; nfmcclure/tensorflow_cookbook#86",
        either(
            after_output(softmax, softmax_backward, "crossentropy"),
            torch_output(lambda torch, z: torch.softmax(z, -1), "crossentropy"),
        ),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "log-softmax-over-the-batch",
        "prediction",
        "The model's log-softmax runs over the rows of a batch instead of the classes.",
        "MicrosoftDocs/pytorchfundamentals#21",
        either(
            with_functions(
                nn,
                log_softmax=partial(nn.log_softmax, axis=0),
                log_softmax_backward=partial(nn.log_softmax_backward, axis=0),
            ),
            torch_functions(torch_log_softmax_over_rows),
        ),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "probabilities-for-log-probabilities",
        "prediction",
        "The model ends with a softmax instead of the log-softmax that the negative log-likelihood needs.",
        "AnubhavGupta3377/Text-Classification-Models-Pytorch#9; clvrai/ACGAN-PyTorch#4",
        either(after_output(np.exp, np.multiply, "nll"), torch_output(lambda torch, log_p: torch.exp(log_p), "nll")),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "tf32-products",
        "prediction",
        "Matrix products read their factors in TF32, with ten bits of mantissa.",
        "pytorch/pytorch#67384; ml-explore/mlx#3860",
        with_products(tensor_float_product),
    ),
    Hypothesis(
        "half-precision-accumulation",
        "prediction",
        "Matrix products keep their partial sums in half precision.",
        "chainer/chainer#6246; ROCm/AMDMIGraphX#1029",
        with_products(half_product),
    ),
    Hypothesis(
        "float32-layers",
        "prediction",
        "In a float64 run the layers keep their parameters in float32.",
        "wala/ML#821; NVIDIA/TransformerEngine#270: layers cast to their own dtype",
        float32_layers,
    ),
    # The loss.
    Hypothesis(
        "mean-for-sum",
        "loss",
        "The losses of a batch are averaged instead of added up.",
        "aymericdamien/TensorFlow-Examples#76; Open-Deep-ML/DML-OpenProblem#358",
        on_case(partial(other_reduction, wanted="mean")),
    ),
    Hypothesis(
        "sum-for-mean",
        "loss",
        "The losses of a batch are added up instead of averaged.",
        "pytorch/pytorch#10148; pytorch/pytorch#12933",
        on_case(partial(other_reduction, wanted="sum")),
    ),
    Hypothesis(
        "mean-over-classes",
        "loss",
        "The loss is averaged over a row's outputs, too, as over the classes, instead of over the rows alone.",
        "PyTorch documentation, KLDivLoss: 'mean' divides by all elements, 'batchmean' by the rows",
        over_classes,
    ),
    Hypothesis(
        "half-squared-error",
        "loss",
        "The squared error is halved.",
        "BVLC/caffe#2176; davisking/dlib#1169",
        stepwise(lambda case: case.loss.kind == "squared_error", evaluate=scaled(0.5)),
    ),
    Hypothesis(
        "broadcast-targets",
        "loss",
        "Predictions (n, 1) meet targets (n,), and every prediction is held against every target.",
        "pytorch/pytorch#16045; pytorch/pytorch#19699",
        broadcast,
    ),
    Hypothesis(
        "log-without-clamp",
        "loss",
        "The binary cross-entropy takes its logarithms as they are, of 0, too, and becomes NaN.",
        "ml-explore/mlx#1280; zylo117/Yet-Another-EfficientDet-Pytorch#717",
        without_clamp,
    ),
    Hypothesis(
        "log-without-clamp-beside-its-gradient",
        "loss",
        "The binary cross-entropy takes its logarithms as they are and becomes NaN; its gradient, by hand, does not.",
        "rasbt/python-machine-learning-book-2nd-edition#49; jdwittenauer/ipython-notebooks#8",
        partial(without_clamp, loss=unclamped_value),
    ),
    Hypothesis(
        "log-with-epsilon",
        "loss",
        "The binary cross-entropy adds 1e-7 inside its logarithms instead of clamping them.",
        "TensorFlow documentation, tf.compat.v1.losses.log_loss(epsilon=1e-7); pytorch/pytorch#4867",
        either(
            with_loss(log_with_epsilon, "binary_crossentropy"),
            torch_loss(torch_log_with_epsilon, "binary_crossentropy"),
        ),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "label-smoothing",
        "loss",
        "A tenth of every target is spread over all classes.",
        "scikit-adaptation/skada#279",
        smoothed,
    ),
    Hypothesis(
        "softmax-over-the-batch",
        "loss",
        "The loss's softmax runs over the rows of a batch instead of the classes.",
        "perone/euclidesdb#2; DeepReinforcementLearning/DeepReinforcementLearningInAction#32",
        either(with_loss(softmax_over_rows, "crossentropy"), torch_loss(torch_softmax_over_rows, "crossentropy")),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "sigmoid-before-a-with-logits-loss",
        "loss",
        "A probability goes into a loss that takes a logit and applies a sigmoid of its own.",
        "yudi-mars/daisyRec#15; itakurah/focal-loss-pytorch#5",
        either(with_loss(of_a_sigmoid, "binary_crossentropy"), torch_loss(torch_of_a_sigmoid, "binary_crossentropy")),
        pieces_of=("torch",),
    ),
    Hypothesis(
        "weight-decay-in-the-reported-loss",
        "loss",
        "The reported loss has the penalty of the weight decay added.",
        "Keras documentation, Layer weight regularizers: penalties are summed into the loss",
        with_penalty,
    ),
    # The gradient.
    Hypothesis(
        "relu-derivative-one-at-zero",
        "gradient",
        "The derivative of ReLU, asked of its output, is 1 at 0, where every closed unit stands.",
        "tensorflow/playground#19; pytorch/tutorials#269",
        either(with_functions(nn, relu_backward=one_at_zero), torch_functions(torch_relu_let_through)),
        pieces_of=("torch",),
    ),
    # The update.
    Hypothesis(
        "adam-epsilon-inside-the-root",
        "update",
        "Adam adds epsilon to the second moment instead of to its root.",
        "CyberZHG/keras-radam#29; FluxML/Flux.jl#448",
        stepwise(has_adam, rule=epsilon_inside_the_root),
    ),
    Hypothesis(
        "adam-epsilon-before-bias-correction",
        "update",
        "Adam adds epsilon to the root before the bias is corrected, as TF1 and Keras do.",
        "tensorflow/tensorflow#35102; tensorflow/tensorflow#9047",
        stepwise(has_adam, rule=epsilon_before_the_correction),
    ),
    Hypothesis(
        "adam-epsilon-1e-7",
        "update",
        "Adam's epsilon is 1e-7, Keras's default, instead of the case's.",
        "juntang-zhuang/Adabelief-Optimizer#12; Keras documentation, Adam(epsilon=1e-07)",
        on_optimizer(lambda rule: replace(rule, epsilon=KERAS_EPSILON), Adam),
    ),
    Hypothesis(
        "adam-of-keras",
        "update",
        "Adam is Keras's own: epsilon 1e-7, added before the bias is corrected, and a correction in float32.",
        "keras-team/keras#17391; Keras documentation, Adam(epsilon=1e-07), the epsilon hat of Kingma and Ba",
        stepwise(has_adam, rule=as_keras_has_it),
    ),
    Hypothesis(
        "adam-of-keras-in-float64",
        "update",
        "Adam is Keras's own in a float64 run: epsilon 1e-7, added before the correction, whose betas were float32.",
        "keras-team/keras#17391; Keras 3.15, Adam.update_step: ops.cast makes a float32 of a Python number first",
        in_float64_alone(stepwise(has_adam, rule=all_of_keras_in_float64)),
    ),
    Hypothesis(
        "adam-of-keras-in-float64-but-epsilon",
        "update",
        "Adam is Keras's own in a float64 run save its epsilon: added before the correction, whose betas were float32.",
        "keras-team/keras#17391; Keras 3.15, Adam.update_step: ops.cast makes a float32 of a Python number first",
        in_float64_alone(stepwise(has_adam, rule=as_keras_has_it_in_float64)),
    ),
    Hypothesis(
        "adam-without-bias-correction",
        "update",
        "Adam's moments are not corrected for their bias towards zero.",
        "google-research/bert#153; ml-explore/mlx#1640",
        stepwise(has_adam, rule=without_correction),
    ),
    Hypothesis(
        "adam-bias-correction-one-step-off",
        "update",
        "Adam corrects its bias as if one more update had been made.",
        "cs231n/cs231n.github.io#179; tensorflow/tensorflow#35444",
        stepwise(has_adam, rule=correction_one_step_off),
    ),
    Hypothesis(
        "adam-bias-correction-in-float32",
        "update",
        "Adam's bias correction is worked out in float32, where 1 - beta2ᵗ has lost its last digits.",
        "ekzhang/jax-js#149; optax, tree_bias_correction: decay**count is float32 unless x64 is on",
        stepwise(has_adam, rule=correction_in_float32),
    ),
    Hypothesis(
        "adam-beta2-0.99",
        "update",
        "Adam's second moment forgets at .99 instead of the case's beta2.",
        "Keras documentation, Adam(beta_2=0.999); fast.ai documentation, Optimizers: Adam(sqr_mom=0.99)",
        on_optimizer(lambda rule: replace(rule, beta2=0.99), Adam),
    ),
    Hypothesis(
        "amsgrad",
        "update",
        "Adam divides by the largest second moment so far instead of the present one.",
        "mir-group/nequip#322; ooples/AiDotNet#1469: the variant as a default",
        stepwise(has_adam, rule=amsgrad),
    ),
    Hypothesis(
        "decoupled-weight-decay",
        "update",
        "The weight decay shrinks the parameters beside the momentum instead of going through the gradient.",
        "pytorch/pytorch#13801: C++ SGD decayed beside the momentum, Python SGD through the gradient",
        stepwise(lambda case: has_decay(case) and has_momentum(case), rule=decoupled_decay),
    ),
    Hypothesis(
        "weight-decay-through-the-gradient",
        "update",
        "The weight decay goes through the gradient, as an L2 penalty's does, instead of shrinking the parameters.",
        "keras-team/keras#19051; pytorch/pytorch#38767",
        through_the_gradient,
    ),
    Hypothesis(
        "weight-decay-without-learning-rate",
        "update",
        "The weight decay shrinks the parameters by itself, not multiplied by the learning rate.",
        "pytorch/pytorch#3740; egg-west/AdamW-pytorch#1",
        stepwise(has_decay, rule=decay_without_the_rate),
    ),
    Hypothesis(
        "weight-decay-not-on-biases",
        "update",
        "The weight decay leaves the biases out.",
        "d2l-ai/d2l-en#2284; ultralytics/yolov5#4104",
        stepwise(
            lambda case: has_decay(case) and any(p.endswith("bias") for p in case.initial()),
            rule=decay_of_weights_alone,
        ),
    ),
    Hypothesis(
        "weight-decay-missing",
        "update",
        "There is no weight decay.",
        "ml-explore/mlx#473: a decay that had no effect without momentum",
        on_optimizer(lambda rule: replace(rule, weight_decay=0.0), Sgd | AdamW),
    ),
    Hypothesis(
        "weight-decay-doubled",
        "update",
        "The weight decay counts twice, because a penalty without the factor one half has twice the derivative.",
        "tensorpack/tensorpack#1381; titu1994/DenseNet#57; mlcommons/hpc#22",
        on_optimizer(lambda rule: replace(rule, weight_decay=2 * rule.weight_decay), Sgd),
    ),
    Hypothesis(
        "momentum-dampened",
        "update",
        "A gradient enters the velocity times one minus the momentum.",
        "torch/optim#163; HIPS/autograd#289",
        stepwise(has_momentum, rule=dampened),
    ),
    Hypothesis(
        "nesterov-momentum",
        "update",
        "The momentum is Nesterov's.",
        "PyTorch documentation, SGD(nesterov)",
        stepwise(has_momentum, rule=nesterov),
    ),
    Hypothesis(
        "momentum-missing",
        "update",
        "There is no momentum.",
        "PyTorch documentation, SGD(momentum=0): none by default",
        stepwise(has_momentum, rule=no_momentum),
    ),
    Hypothesis(
        "learning-rate-folded-into-the-velocity",
        "update",
        "The velocity keeps gradients times the learning rate of their time, and the rate falls an epoch early.",
        "PyTorch documentation, SGD, note on Sutskever's form; pytorch/pytorch#1099",
        partial(falls_early, folded=True),
    ),
    Hypothesis(
        "learning-rate-a-decay-step-off",
        "update",
        "The learning rate falls to a tenth an epoch early.",
        "huggingface/pytorch-image-models#2753; huggingface/pytorch-image-models#2745",
        partial(falls_early, folded=False),
    ),
    Hypothesis(
        "float32-learning-rate",
        "update",
        "In a float64 run the learning rate passes through float32.",
        "tinygrad/tinygrad#4297; LBANN/lbann#1979: a rate kept in less precision than it is used in",
        float32_rate,
    ),
    # What one step leaves the next.
    Hypothesis(
        "gradient-not-zeroed",
        "state",
        "Gradients are not zeroed between updates and add up.",
        "pytorch/pytorch#47175; meta-pytorch/torchforge#71",
        stepwise(lambda case: case.epochs * batches(case) > 1, rule=not_zeroed),
    ),
)
