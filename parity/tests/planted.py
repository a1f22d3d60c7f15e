"""Porting mistakes, each planted in an implementation that is right: the ladder must catch them all.

A mistake takes an implementation's ``build`` and returns the ``build`` of one that makes the mistake.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from parity.layout import Slot
from parity.mistakes.catalogue.batches import loss_after_update, too_early
from parity.spec import Adam, Case
from parity.trainer import Build, State, Trained, Trainer
from parity.typing import Array, Batches, Params

Mistake = Callable[[Build], Build]
Verb = Callable[..., Any]


def learning_rate(build: Build) -> Build:
    """One per cent too large."""
    return _on_case(build, lambda case: replace(case, optimizer=_times(case, 1.01)))


def learning_rate_in_float32(build: Build) -> Build:
    """On its way into a float64 update the learning rate passes through float32."""
    return _on_case(build, lambda case: replace(case, optimizer=_times(case, float(np.float32(0.1)) / 0.1)))


def mean_for_sum(build: Build) -> Build:
    return _on_case(build, lambda case: replace(case, loss=replace(case.loss, reduction="mean")))


def transposed_export(build: Build) -> Build:
    """Kernels come out as (out, in)."""

    def export(trainer: Trainer, honest: Verb) -> State:
        state = honest()
        state.params = {name: np.ascontiguousarray(value.T) for name, value in state.params.items()}
        return state

    return _on_verb(build, "export", export)


def transposed_layout(build: Build) -> Build:
    """The layout turns the kernel where it must not, or does not where it must."""
    module = sys.modules[build.__module__]

    def flip(slot: Slot) -> Slot:
        return replace(slot, axes=None if slot.axes else (1, 0)) if slot.canonical.endswith("kernel") else slot

    def planted(case: Case, dtype: str, device: str) -> Trainer:
        with mock.patch.object(module, "LAYOUT", tuple(map(flip, module.LAYOUT))):
            return build(case, dtype, device)

    return planted


def batches_in_another_order(build: Build) -> Build:
    """Each epoch's batches, the last one first."""

    def train(trainer: Trainer, honest: Verb, segments: Sequence[Batches], *inputs: Any) -> Trained:
        return honest([segment[::-1] for segment in segments], *inputs)

    return _on_verb(build, "train", train)


def update_before_loss(build: Build) -> Build:
    """Each batch's loss is taken after its update."""
    return partial(loss_after_update, build)


def figures_before_the_update(build: Build) -> Build:
    """What ``train`` predicts after a segment is what was predicted before it."""
    return lambda case, dtype, device: too_early(build(case, dtype, device))


def held_out_predictions(build: Build) -> Build:
    """Wrong on the rows that are held out, and on no other: probabilities of the other class, classes one on."""

    def planted(case: Case, dtype: str, device: str) -> Trainer:
        trainer = build(case, dtype, device)
        predict, train, held_out = trainer.predict, trainer.train, case.data().x_test

        def wrong(x: Array, prediction: Array) -> Array:
            if not np.array_equal(x, held_out):
                return prediction
            return 1 - prediction if prediction.shape[-1] == 1 else np.roll(prediction, 1, axis=-1)

        def faulty_train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
            trained = train(segments, inputs)
            predictions = (wrong(x, made) for x, made in zip(inputs, trained.predictions, strict=True))
            return trained._replace(predictions=tuple(predictions))

        trainer.predict, trainer.train = lambda x: wrong(x, predict(x)), faulty_train
        return trainer

    return planted


def predictions_in_float64(build: Build) -> Build:
    """Those of ``train`` alone."""

    def train(trainer: Trainer, honest: Verb, *arguments: Any) -> Trained:
        trained = honest(*arguments)
        return trained._replace(predictions=tuple(value.astype(np.float64) for value in trained.predictions))

    return _on_verb(build, "train", train)


def view_for_copy(build: Build) -> Build:
    """NumPy's trainer hands out its own parameters."""
    return _on_verb(build, "export", lambda trainer, honest: trainer.state)


def gradients_in_float64(build: Build) -> Build:
    def gradients(trainer: Trainer, honest: Verb, x: Array, y: Array) -> tuple[float, Params]:
        loss, found = honest(x, y)
        return loss, {name: value.astype(np.float64) for name, value in found.items()}

    return _on_verb(build, "gradients", gradients)


def nan_loss_at_the_end(build: Build) -> Build:
    """The loss of the run's very last batch."""

    def fault(trained: Trained) -> None:
        trained.losses[-1, -1] = np.nan

    return _at_the_end(build, fault)


def nan_parameter_at_the_end(build: Build) -> Build:
    """One element of one parameter after the run's very last update."""

    def fault(trained: Trained) -> None:
        trained.params["dense/kernel"][-1, -1, -1] = np.nan

    return _at_the_end(build, fault)


def slots_not_loaded(build: Build) -> Build:
    """Loading a state leaves the optimizer's slots at zero."""
    return _on_verb(build, "load", lambda trainer, honest, state: honest(_without_slots(state)))


def slots_made_by_the_first_update(build: Build) -> Build:
    """As in optimizers that make their slots at the first update: until then a loaded state's have no place."""

    def planted(case: Case, dtype: str, device: str) -> Trainer:
        trainer = build(case, dtype, device)
        load, train = trainer.load, trainer.train
        made = False

        def faulty_load(state: State) -> None:
            load(state if made else _without_slots(state))

        def faulty_train(*arguments: Any) -> Trained:
            nonlocal made
            made = True
            return train(*arguments)

        trainer.load, trainer.train = faulty_load, faulty_train
        return trainer

    return planted


def slots_in_other_units(build: Build) -> Build:
    """The slots are divided on their way out and multiplied on their way in, which rounds."""

    def export(trainer: Trainer, honest: Verb) -> State:
        state = honest()
        return replace(state, slots={name: value / 3 * 3 for name, value in state.slots.items()})

    return _on_verb(build, "export", export)


def adam_without_correction(build: Build) -> Build:
    def rule(adam: Adam, m: Array, v: Array, t: int) -> Array:
        return adam.learning_rate * m / (np.sqrt(v) + adam.epsilon)

    return _on_adam(build, rule)


def adam_epsilon_hat(build: Build) -> Build:
    """TF1's and Keras's epsilon, which is added before the bias is corrected."""

    def rule(adam: Adam, m: Array, v: Array, t: int) -> Array:
        rate = adam.learning_rate * np.sqrt(1 - adam.beta2**t) / (1 - adam.beta1**t)
        return float(rate) * m / (np.sqrt(v) + adam.epsilon)

    return _on_adam(build, rule)


def adam_epsilon_inside_the_root(build: Build) -> Build:
    def rule(adam: Adam, m: Array, v: Array, t: int) -> Array:
        corrected = v / (1 - adam.beta2**t)
        return adam.learning_rate / (1 - adam.beta1**t) * m / np.sqrt(corrected + adam.epsilon)

    return _on_adam(build, rule)


def _without_slots(state: State) -> State:
    return replace(state, slots={name: np.zeros_like(value) for name, value in state.slots.items()})


def _times(case: Case, factor: float) -> Any:
    return replace(case.optimizer, learning_rate=case.optimizer.learning_rate * factor)


def _on_case(build: Build, change: Callable[[Case], Case]) -> Build:
    return lambda case, dtype, device: build(change(case), dtype, device)


def _on_verb(build: Build, verb: str, fault: Callable[..., Any]) -> Build:
    """Replace a verb by ``fault(trainer, honest verb, *arguments)``."""

    def planted(case: Case, dtype: str, device: str) -> Trainer:
        trainer = build(case, dtype, device)
        setattr(trainer, verb, partial(fault, trainer, getattr(trainer, verb)))
        return trainer

    return planted


def _at_the_end(build: Build, fault: Callable[[Trained], None]) -> Build:
    def planted(case: Case, dtype: str, device: str) -> Trainer:
        batches = len(next(case.schedule.epochs(len(case.data().x))))

        def train(trainer: Trainer, honest: Verb, *arguments: Any) -> Trained:
            trained = honest(*arguments)
            if trainer.export().step == case.epochs * batches:
                fault(trained)
            return trained

        return _on_verb(build, "train", train)(case, dtype, device)

    return planted


def _on_adam(build: Build, rule: Callable[[Adam, Array, Array, int], Array]) -> Build:
    """NumPy's trainer with another last step of Adam: the moments are right, what is subtracted is the rule's."""

    def planted(case: Case, dtype: str, device: str) -> Trainer:
        trainer = build(case, dtype, device)

        def update(honest: Callable[[Params], None], gradients: Params) -> None:
            before = dict(trainer.state.params)
            honest(gradients)
            state = trainer.state
            for name, p in before.items():
                m, v = state.slots[f"first_moment/{name}"], state.slots[f"second_moment/{name}"]
                state.params[name] = p - rule(case.optimizer, m, v, state.step)

        trainer._update = partial(update, trainer._update)
        return trainer

    return planted
