"""The layers of a trainer's model, for a suite's runs that are recorded deeply."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from parity.recording.layers import Layer
from parity.recording.tensors import as_array
from parity.trainer import Trainer, innermost
from parity.typing import Array, Params

WATCHERS = {
    "parity.trainers.torch_trainer": "parity.watching.torch.inside",
    "parity.trainers.keras_trainer": "parity.watching.keras.inside",
    "parity.trainers.jax_trainer": "parity.watching.jax.inside",
}
"""Who looks into the models of which trainers, by the module of the trainer's class."""


@dataclass
class Inside:
    """What a model's layers gave for one batch.

    Attributes:
        activations: What each layer gave, by its name.
        gradients: The loss's gradient for it.
        layers: The layers, in the order in which they ended; none of a model that is a function alone.
        notes: What could not be seen, each in a sentence.
    """

    activations: Params
    gradients: Params
    layers: list[Layer]
    notes: list[str] = field(default_factory=list)


SECONDS = 60.0
"""So long layers are looked at in a run, and then no more: op by op, a recurrence of JAX takes a thousand times as long
as compiled. The first update, in which layers part first, is looked at in any case."""

Look = Callable[[Any, Array, Array], "Inside | None"]


class LayersOfTrainer:
    """Looks into a trainer's model, update after update.

    A trainer whose model has no modules, as one written by hand on plain tensors, has no layers to see.

    Args:
        trainer: Any trainer.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = innermost(trainer)
        names = [f"{cls.__module__}" for cls in type(self._trainer).__mro__]
        module = next((WATCHERS[name] for name in names if name in WATCHERS), None)
        self._look: Look | None = importlib.import_module(module).look if module is not None else None
        self._layers: list[Layer] = []
        self._notes: dict[str, None] = {}
        self._spent, self._looked = 0.0, 0

    def __call__(self, x: Array, y: Array) -> Params:
        """Give what the layers say of a batch (x, y) at the trainer's state, by the names of a recorded step."""
        if self._look is None:
            return {}
        if self._looked and self._spent >= SECONDS:
            count = "first update" if self._looked == 1 else f"first {self._looked} updates"
            self._notes[f"layers are recorded of the {count} alone: to look at them took {self._spent:.0f} s"] = None
            return {}
        begun = time.perf_counter()
        found = self._look(self._trainer, x, y)
        self._spent += time.perf_counter() - begun
        self._looked += 1
        if found is None or not found.layers:
            return {}
        self._layers = found.layers
        self._notes |= dict.fromkeys(found.notes)
        kinds = (("activations", found.activations), ("activation_gradients", found.gradients))
        return {f"{kind}/{name}": as_array(value) for kind, tensors in kinds for name, value in tensors.items()}

    @property
    def said(self) -> dict[str, Any]:
        """What a recording is to say of the layers beside their numbers; nothing if there are none."""
        notes = {"notes": list(self._notes)} if self._notes else {}
        return {"layers": [asdict(layer) for layer in self._layers], **notes} if self._layers else {}
