"""Mistakes that people make with BatchNorm. What an update makes of the running statistics is changed in every
framework; training by the running statistics is planted in NumPy and PyTorch.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from impls.resnet.spec import MOMENTUM
from parity import nn
from parity.mistakes import Mistake, Phase, Plant, either, in_torch, with_functions
from parity.spec import Array, Batches, Case, Params
from parity.trainer import Build, Trained, Trainer, by_segment, continued, predicted, verbs

Wrong = Callable[[str, Array, Array, int], Array]
"""``(name, before, batch, values)``: a running statistic before an update, the statistic of the batch, and of how many
values a channel has it, to the running statistic after the update."""


def on_statistics(wrong: Wrong) -> Plant:
    """Train update by update, and put wrong running statistics in the place of those that each update leaves."""

    def plant(build: Build, case: Case, dtype: str, device: str) -> Trainer:
        trainer = build(case, dtype, device)

        def moved(before: Params, after: Params, rows: int) -> Params:
            def one(name: str) -> Array:
                batch = (after[name].astype(np.float64) - MOMENTUM * before[name]) / (1 - MOMENTUM)
                places = 16 if name.startswith("block2/") else 64
                return wrong(name, before[name].astype(np.float64), batch, rows * places).astype(after[name].dtype)

            return {**after, **{name: one(name) for name in case.buffers}}

        def update(rows: Array) -> Trained:
            before = trainer.export()
            trained = trainer.train([(rows,)])
            after = trainer.export()
            params = moved(before.params, after.params, len(rows))
            trainer.load(replace(after, params=params))
            return trained._replace(params={name: value[None] for name, value in params.items()})

        def segment(batches: Batches, inputs: Sequence[Array]) -> Trained:
            pieces = [update(rows) for rows in batches]
            return continued(pieces)._replace(predictions=predicted(trainer, inputs))

        return replace(verbs(trainer), train=by_segment(segment))

    return plant


def momentum_reversed(name: str, before: Array, batch: Array, values: int) -> Array:
    return (1 - MOMENTUM) * before + MOMENTUM * batch


def variance_unbiased(name: str, before: Array, batch: Array, values: int) -> Array:
    taken = batch * values / (values - 1) if name.endswith("/variance") else batch
    return MOMENTUM * before + (1 - MOMENTUM) * taken


def not_moved(name: str, before: Array, batch: Array, values: int) -> Array:
    return before


def in_evaluation(honest: Callable[..., tuple[Array, Array, Array]]) -> Callable[..., tuple[Array, Array, Array]]:
    return lambda *arguments, training, **settings: honest(*arguments, training=False, **settings)


def stay_in_evaluation(torch: Any, trainer: Any, case: Case) -> None:
    honest = trainer.module.train
    trainer.module.train = lambda training=True: honest(False)


MISTAKES = (
    Mistake(
        name="batch-norm-momentum-reversed",
        phase=Phase.UPDATE,
        sentence="BatchNorm's momentum is taken for 1 - momentum: the share of the running statistics that stays goes.",
        reference="pytorch/examples#289; kazuto1011/deeplab-pytorch#79; lukemelas/EfficientNet-PyTorch#3",
        how=on_statistics(momentum_reversed),
    ),
    Mistake(
        name="batch-norm-variance-unbiased",
        phase=Phase.UPDATE,
        sentence="The running variance takes up n / (n - 1) times the batch's variance instead of the variance itself.",
        reference="pytorch/pytorch#19902; rwth-i6/returnn#1539",
        how=on_statistics(variance_unbiased),
    ),
    Mistake(
        name="batch-norm-statistics-not-moved",
        phase=Phase.UPDATE,
        sentence="No update moves BatchNorm's running statistics, so predictions read the initial ones.",
        reference="meetps/tf-3dgan#7; zhangqianhui/vae-gan-tensorflow#5; ikhlestov/vision_networks#3",
        how=on_statistics(not_moved),
    ),
    Mistake(
        name="batch-norm-trains-in-evaluation-mode",
        phase=Phase.LOSS,
        sentence="Training normalizes by the running statistics, as a prediction does, instead of by the batch's.",
        reference="wkentaro/pytorch-fcn#56; pytorch/tutorials#1624",
        how=either(
            with_functions(
                nn,
                batch_norm=in_evaluation(nn.batch_norm),
                batch_norm_backward=in_evaluation(nn.batch_norm_backward),
            ),
            in_torch(stay_in_evaluation),
        ),
        pieces_of=("torch",),
    ),
)
