"""The field's runs in JAX: losses, optimizers and the loop, recorded in either way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util

from parity.proving.field.jax_models import build, placed
from parity.proving.field.setup import (
    CLASS_WEIGHTS,
    DEEP,
    HIDDEN,
    OUTPUTS,
    SHADOWS,
    UPDATES,
    WATCHED_DEEP,
    WATCHED_UPDATES,
    Setup,
    batches,
    data_of,
    weights_of,
)
from parity.recorder import Recorder
from parity.spec import Optimizer
from parity.watching import watch

ALPHA = 0.9
"""Of RMSprop."""


def loss_of(setup: Setup, prediction: Any, y: Any) -> Any:
    """The loss of a batch, a number."""
    if setup.loss == "huber":
        value = optax.huber_loss(prediction, y, delta=setup.delta).mean()
        return value / setup.delta if setup.delta_divides else value
    if setup.loss == "absolute":
        return jnp.abs(prediction - y).mean()
    if setup.loss == "divergence":
        each = optax.kl_divergence(jax.nn.log_softmax(prediction), y)
        return each.sum() / (y.size if setup.reduction == "elements" else len(y))
    if setup.loss == "classes":
        return crossentropy(setup, prediction.reshape(-1, prediction.shape[-1]), y.reshape(-1))
    squares = (prediction - y) ** 2
    return squares.sum() if setup.reduction == "sum" else squares.mean()


def crossentropy(setup: Setup, logits: Any, labels: Any) -> Any:
    """Of logits (rows, classes) and labels (rows,)."""
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    if setup.smoothing and setup.smoothing_over == "others":
        targets = targets * (1 - setup.smoothing) + (1 - targets) * setup.smoothing / (OUTPUTS - 1)
    elif setup.smoothing:
        targets = optax.smooth_labels(targets, setup.smoothing)
    each = optax.softmax_cross_entropy(logits, targets)
    if setup.class_weights != "no":
        weights = jnp.asarray(CLASS_WEIGHTS, logits.dtype)[labels]
        return (each * weights).sum() / (weights.sum() if setup.class_weights == "weights" else len(each))
    if setup.ignored != "no":
        kept = labels != 0
        return jnp.where(kept, each, 0).sum() / (kept.sum() if setup.ignored == "left-out" else len(each))
    return each.mean()


def optimizer_of(setup: Setup) -> Any:
    """The optimizer as optax has it, with the numbers of the setup; by hand where optax has another."""
    rates = jnp.asarray(setup.rates or (setup.rate,))
    rate: Any = setup.rate
    if setup.rates:

        def rate(count: Any) -> Any:
            return rates[jnp.minimum(count, len(rates) - 1)]

    if setup.optimizer == "sgd" and setup.variant == "rate-in-velocity":
        return optax.chain(optax.scale_by_learning_rate(rate), optax.trace(setup.momentum))
    if setup.optimizer == "sgd":
        return optax.sgd(rate, setup.momentum or None, setup.nesterov)
    if setup.optimizer == "rmsprop":
        return optax.rmsprop(rate, ALPHA, setup.epsilon, eps_in_sqrt=setup.epsilon_at == "inside")
    if setup.optimizer == "adagrad":
        return optax.adagrad(rate, setup.accumulator, setup.epsilon)
    if setup.optimizer == "nadam" and setup.variant == "without-schedule":
        return optax.nadam(rate, eps=setup.epsilon)
    if setup.optimizer == "adam" and setup.variant == "amsgrad-of-optax":
        return optax.amsgrad(rate, eps=setup.epsilon)
    inner = by_hand(setup) if setup.variant or setup.optimizer == "nadam" or setup.epsilon_at == "before" else None
    inner = inner or optax.scale_by_adam(eps=setup.epsilon)
    parts = [inner, optax.scale_by_learning_rate(rate)]
    if setup.decay:
        mask = (lambda tree: jax.tree.map(lambda p: p.ndim > 1, tree)) if setup.decay_on == "kernels" else None
        decayed = optax.add_decayed_weights(setup.decay, mask)
        parts.insert(0 if setup.decay_by == "gradient" else 1, decayed)
    return optax.chain(*parts)


def by_hand(setup: Setup) -> Any:
    """Adam's kin in the forms that optax does not have."""
    one, two, epsilon = 0.9, 0.999, setup.epsilon

    def init(params: Any) -> Any:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return {"count": jnp.zeros((), int), "product": jnp.ones((), jnp.float32), "m": zeros, "v": zeros, "top": zeros}

    def update(gradients: Any, state: Any, params: Any = None) -> Any:
        t, m, v = state["count"] + 1, state["m"], state["v"]
        dtype = jax.tree.leaves(gradients)[0].dtype
        k = t.astype(dtype)
        m = jax.tree.map(lambda m, g: one * m + (1 - one) * g, m, gradients)
        v = jax.tree.map(lambda v, g: two * v + (1 - two) * g * g, v, gradients)
        top = jax.tree.map(jnp.maximum, state["top"], v)
        root = top if setup.variant == "amsgrad" else v
        first, second, product = 1 - one**k, 1 - two**k, state["product"]
        if setup.variant == "uncorrected":
            steps = jax.tree.map(lambda m, r: m / (jnp.sqrt(r) + epsilon), m, root)
        elif setup.epsilon_at == "before":
            factor = jnp.sqrt(second) / first
            steps = jax.tree.map(lambda m, r: factor * m / (jnp.sqrt(r) + epsilon), m, root)
        elif setup.optimizer == "nadam":
            now, then = (one * (1 - 0.5 * 0.96 ** (count * 0.004)) for count in (k, k + 1))
            # PyTorch keeps this product in float32, whatever it trains.
            product = product * now.astype(jnp.float32)
            so_far = product.astype(dtype)
            steps = jax.tree.map(
                lambda g, m, r: (
                    ((1 - now) / (1 - so_far) * g + then / (1 - so_far * then) * m) / (jnp.sqrt(r / second) + epsilon)
                ),
                gradients,
                m,
                root,
            )
        else:
            steps = jax.tree.map(lambda m, r: m / first / (jnp.sqrt(r / second) + epsilon), m, root)
        return steps, {"count": t, "product": product, "m": m, "v": v, "top": top}

    return optax.GradientTransformation(init, update)


def clipped(setup: Setup, gradients: Any) -> Any:
    """Clip gradients."""
    if setup.clip == "value":
        return jax.tree.map(lambda g: jnp.clip(g, -setup.clipped_to / 8, setup.clipped_to / 8), gradients)
    if not setup.clip:
        return gradients
    scaled = 1024 if setup.clip == "scaled" else 1
    norms = jax.tree.map(lambda g: jnp.sqrt(jnp.sum((g * scaled) ** 2)), gradients)
    if setup.clip != "tensor":
        norms = jax.tree.map(lambda g: jnp.sqrt(sum(n**2 for n in jax.tree.leaves(norms))), gradients)
    return jax.tree.map(lambda g, n: g * jnp.minimum(1, setup.clipped_to / n), gradients, norms)


def run(
    folder: Path,
    setup: Setup,
    dtype: str,
    by_hand: bool,
    stirred: int | None = None,
    said: Optimizer | None = None,
) -> None:
    """Train and record: see ``parity.proving.field.torch_side.run``."""
    jax.config.update("jax_enable_x64", dtype == "float64")
    data, model, optimizer = data_of(setup, dtype), build(setup, dtype), optimizer_of(setup)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    params = placed(setup, weights_of(setup, dtype, stirred))
    stats: dict[str, Any] = {}
    if setup.norm == "batch":
        stats = {"norm": {"mean": jnp.zeros(HIDDEN, dtype), "var": jnp.ones(HIDDEN, dtype)}}
    state = optimizer.init(params)

    def loss_and_more(params: Any, stats: Any, x: Any, y: Any) -> Any:
        variables = {"params": params, **({"batch_stats": stats} if setup.norm == "batch" else {})}
        prediction, seen = model.apply(variables, x, mutable=["batch_stats"])
        return loss_of(setup, prediction, y), (prediction, seen.get("batch_stats", stats))

    def graded(params: Any, stats: Any, x: Any, y: Any) -> Any:
        """The loss, the prediction, new statistics, and gradients as the optimizer gets them."""
        graded = jax.value_and_grad(loss_and_more, has_aux=True)
        if setup.parts == 1:
            (loss, (prediction, stats)), gradients = graded(params, stats, x, y)
        else:
            halves = [jnp.split(of, setup.parts) for of in (x, y)]
            made = [graded(params, stats, *part) for part in zip(*halves, strict=True)]
            divided = 1 if setup.parts_joined == "sum" else setup.parts
            gradients = jax.tree.map(lambda *each: sum(each) / divided, *(one[1] for one in made))
            loss = sum(one[0][0] for one in made) / setup.parts
            prediction = jnp.concatenate([one[0][1][0] for one in made])
        return loss, prediction, stats, clipped(setup, gradients)

    def stepped(gradients: Any, state: Any, params: Any) -> Any:
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def update(params: Any, stats: Any, state: Any, x: Any, y: Any) -> Any:
        loss, _, stats, gradients = graded(params, stats, x, y)
        params, state = stepped(gradients, state, params)
        return params, stats, state, loss

    if not by_hand:
        with watch(folder, params, stats, state, shadows=SHADOWS, deep=WATCHED_DEEP) as recording:
            for rows in batches(WATCHED_UPDATES):
                params, stats, state, _ = recording.step(update, params, stats, state, x[rows], y[rows], rows=rows)
        return
    graded, stepped = jax.jit(graded), jax.jit(stepped)

    def flat() -> dict[str, Any]:
        kept = {f"norm/{name}": value for name, value in stats.get("norm", {}).items()}
        return {name: np.asarray(p) for name, p in traverse_util.flatten_dict(params, sep="/").items()} | kept

    with Recorder(folder, dtype, implementation="jax", deep=DEEP, optimizer=said) as recorder:
        recorder.snapshot(flat())
        for rows in batches(UPDATES):
            loss, prediction, moved, gradients = graded(params, stats, x[rows], y[rows])
            named = traverse_util.flatten_dict(gradients, sep="/")
            recorder.step(loss, rows=rows, prediction=prediction, gradients=named, params=flat())
            (params, state), stats = stepped(gradients, state, params), moved
            recorder.snapshot(flat())
