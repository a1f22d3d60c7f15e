"""Porting mistakes that can be replayed.

The file ``mistakes.py`` beside a model's ``spec.py`` holds the model's own mistakes, written with these names.
"""

from parity.mistakes.in_torch import in_torch, is_torch, torch_functions, torch_loss, torch_output
from parity.mistakes.mistake import (
    Applies,
    CannotBePlanted,
    ChangesNothing,
    Gradients,
    Local,
    Mistake,
    Plant,
    Unplanted,
    anywhere,
    has_adam,
    has_classes,
    has_decay,
    has_momentum,
    of_loss,
    of_schedule,
)
from parity.mistakes.pieces import after_output, on_pieces, with_functions, with_loss, with_products
from parity.mistakes.planting import (
    batches,
    either,
    in_order,
    on_case,
    on_optimizer,
    on_rows,
    one_by_one,
    replaced,
)
from parity.mistakes.stepwise import Stepwise, on_step
from parity.recording.steps import Phase

__all__ = [
    "Applies",
    "CannotBePlanted",
    "ChangesNothing",
    "Gradients",
    "Local",
    "Mistake",
    "Phase",
    "Plant",
    "Stepwise",
    "Unplanted",
    "after_output",
    "anywhere",
    "batches",
    "either",
    "has_adam",
    "has_classes",
    "has_decay",
    "has_momentum",
    "in_order",
    "in_torch",
    "is_torch",
    "of_loss",
    "of_schedule",
    "on_case",
    "on_optimizer",
    "on_pieces",
    "on_rows",
    "on_step",
    "one_by_one",
    "replaced",
    "torch_functions",
    "torch_loss",
    "torch_output",
    "with_functions",
    "with_loss",
    "with_products",
]
