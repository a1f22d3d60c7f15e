"""Mistakes in what goes with an optimizer: its learning rate over time, what its decay touches, and clipping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from parity import nn
from parity.mistakes.mistake import Applies, ChangesNothing, Mistake, Unplanted, has_decay
from parity.mistakes.planting import batches, on_case, on_optimizer
from parity.mistakes.stepwise import Stepwise, honest
from parity.recording.steps import Phase
from parity.spec import Case, LinearWarmup, WarmupCosine, decay_of
from parity.trainer import Build, State, Trainer
from parity.typing import Array


def has_rates(case: Case) -> bool:
    return case.optimizer.rates is not None


def warms_up(case: Case) -> bool:
    return isinstance(case.optimizer.rates, LinearWarmup | WarmupCosine)


def clips(*kinds: str) -> Applies:
    return lambda case: case.optimizer.clipping is not None and case.optimizer.clipping.kind in kinds


def has_mask(case: Case) -> bool:
    return has_decay(case) and case.optimizer.decayed is not None


def rate_of_another_step(build: Build, case: Case, dtype: str, device: str, *, by_epochs: bool) -> Trainer | Unplanted:
    """Take each update's learning rate at the place of the next, or at the number of its epoch."""
    each = batches(case)

    def place(step: int) -> int:
        return (step - 1) // each if by_epochs else step

    steps = range(1, case.epochs * each + 1)
    if all(nn.rate(case.optimizer, place(step)) == nn.rate(case.optimizer, step - 1) for step in steps):
        return ChangesNothing("every update has the same learning rate")

    def rule(optimizer: Any, name: str, p: Array, g: Array, state: State) -> Array:
        rate = nn.rate(case.optimizer, place(state.step))
        return honest(replace(optimizer, learning_rate=rate), name, p, g, state)

    return Stepwise(build(case, dtype, device), case, dtype, rule=rule)


def without_warmup(rule: Any) -> Any:
    return replace(rule, rates=replace(rule.rates, start=rule.learning_rate))


def inverted(case: Case) -> Case:
    """Let those parameters decay that should not, and no other."""
    spared = tuple(name for name in case.initial() if not decay_of(case.optimizer, name))
    return replace(case, optimizer=replace(case.optimizer, decayed=spared))


def clipped_otherwise(rule: Any, **changes: Any) -> Any:
    return replace(rule, clipping=replace(rule.clipping, **changes))


TORCH_EPSILON = 1e-6
"""What torch's ``clip_grad_norm_`` adds to the norm."""
CLIPPED: dict[str, Callable[[Any], Any]] = {
    "clipping-missing": lambda rule: replace(rule, clipping=None),
    "clipped-each-by-its-own-norm": partial(clipped_otherwise, kind="norm"),
    "clipped-by-value": partial(clipped_otherwise, kind="value"),
    "clipped-by-the-norm-and-1e-6": partial(clipped_otherwise, epsilon=TORCH_EPSILON),
}
"""By the name of a mistake, what it makes of an optimizer that clips; the plainest first, where two change the same."""
BY_EPOCHS = "schedule-counted-in-epochs"

MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="learning-rate-of-the-next-update",
        phase=Phase.UPDATE,
        sentence="The learning rate is that of the next update: the schedule is stepped before the optimizer.",
        reference="pytorch/pytorch#31286; jadore801120/attention-is-all-you-need-pytorch#188",
        applies=has_rates,
        how=partial(rate_of_another_step, by_epochs=False),
    ),
    Mistake(
        name=BY_EPOCHS,
        phase=Phase.UPDATE,
        sentence="The learning-rate schedule counts epochs instead of updates.",
        reference="ace-step/ACE-Step#198; vturrisi/solo-learn#264",
        applies=has_rates,
        how=partial(rate_of_another_step, by_epochs=True),
    ),
    Mistake(
        name="schedule-missing",
        phase=Phase.UPDATE,
        sentence="The learning rate is the same in every update.",
        reference="kkhoot/PAA#12; y0ast/Glow-PyTorch#3",
        applies=has_rates,
        how=on_optimizer(lambda rule: replace(rule, rates=None)),
    ),
    Mistake(
        name="warm-up-missing",
        phase=Phase.UPDATE,
        sentence="The learning rate does not rise: it is as high from the first update on as after the warm-up.",
        reference="PaddlePaddle/PaddleDetection#4611; TakuyaShintate/tsts#76",
        applies=warms_up,
        how=on_optimizer(without_warmup),
    ),
    Mistake(
        name="weight-decay-on-everything",
        phase=Phase.UPDATE,
        sentence="The weight decay touches the parameters that it should leave out, too.",
        reference="huggingface/transformers#4360; CyberZHG/keras-bert#60",
        applies=has_mask,
        how=on_optimizer(lambda rule: replace(rule, decayed=None)),
    ),
    Mistake(
        name="weight-decay-mask-inverted",
        phase=Phase.UPDATE,
        sentence="The weight decay touches the parameters that it should leave out, and no others.",
        reference="optax documentation, adamw(mask): True decays; Keras documentation, exclude_from_weight_decay: no",
        applies=has_mask,
        how=on_case(inverted),
    ),
    Mistake(
        name="clipped-each-by-its-own-norm",
        phase=Phase.UPDATE,
        sentence="Each tensor's gradient is clipped by its own norm instead of by the norm of all.",
        reference="keras-team/keras#13575; carpedm20/MemN2N-tensorflow#19",
        applies=clips("global_norm"),
        how=on_optimizer(CLIPPED["clipped-each-by-its-own-norm"]),
    ),
    Mistake(
        name="clipped-by-value",
        phase=Phase.UPDATE,
        sentence="The elements of gradients are cut off at the limit that is meant for their norm.",
        reference="ymcui/Eval-on-NN-of-RC#3; Happy-Algorithms-League/hal-cgp#210",
        applies=clips("global_norm", "norm"),
        how=on_optimizer(CLIPPED["clipped-by-value"]),
    ),
    Mistake(
        name="clipping-missing",
        phase=Phase.UPDATE,
        sentence="Gradients are not clipped.",
        reference="NVIDIA/OpenSeq2Seq#192; msalhab96/SpeeQ#50",
        applies=clips("global_norm", "norm", "value"),
        how=on_optimizer(CLIPPED["clipping-missing"]),
    ),
    Mistake(
        name="clipped-by-the-norm-and-1e-6",
        phase=Phase.UPDATE,
        sentence="Gradients are divided by their norm plus 1e-6, as torch's clip_grad_norm_ does.",
        reference="goodfire-ai/spd#643; PyTorch documentation, torch.nn.utils.clip_grad_norm_",
        applies=clips("global_norm", "norm"),
        how=on_optimizer(CLIPPED["clipped-by-the-norm-and-1e-6"]),
    ),
)
