"""What a Keras model and its optimizer hold: variables by their names, and the optimizer's slots."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from parity.typing import Params
from parity.watching.flow import as_plain
from parity.watching.seen import Condition

SLOTS = {"momentums": "first_moment", "velocities": "second_moment"}
"""Names of the slots of Keras's Adam in the words of ``parity.spec``. Others keep their own."""


class Held:
    """The variables of a model and of its optimizer.

    Args:
        model: A built model.
        optimizer: Its optimizer, built too.
    """

    def __init__(self, model: Any, optimizer: Any) -> None:
        self._model, self._optimizer = model, optimizer
        self._found: dict[int, tuple[Any, Any]] = {}
        """Variables beyond the model's and the optimizer's that updates change, and what they were before."""
        self._known: dict[int, Any] = {}

    def values(self) -> list[Any]:
        """List the model's, the optimizer's and the metrics' variables, as TensorFlow has them."""
        every = (*self._model.variables, *self._optimizer.variables, *self._model.metrics_variables)
        return [v.value for v in every]

    def moves(self) -> list[Any]:
        """List what is trained, and the optimizer's slots."""
        return [*self._model.trainable_variables, *(v for held in self.slots().values() for v in held)]

    def described(self) -> dict[str, Any]:
        """Say which optimizer it is, and how it is set."""
        kind, said = type(self._optimizer), self._optimizer.get_config()
        group = {name: as_plain(value) for name, value in said.items() if as_plain(value) is not None}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "groups": [group]}

    def condition(self) -> Condition:
        """Copy every float that the model holds, and the slots in the words of ``parity.spec``."""
        params = {self.name(v): v.value.numpy() for v in self._model.variables if self._is_float(v)}
        trained = list(self._optimizer._trainable_variables)
        slots = {
            slot: {self.name(p): _over(v.value.numpy(), times) for v, p in zip(held, trained, strict=True)}
            for slot, (held, times) in self._in_words().items()
        }
        return Condition(params=params, slots=slots)

    def buffers(self) -> list[str]:
        """Name what no optimizer trains."""
        trained = {id(v) for v in self._model.trainable_variables}
        return [self.name(v) for v in self._model.variables if self._is_float(v) and id(v) not in trained]

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        """Set these variables and slots, by the names that ``condition`` gives."""
        for v in self._model.variables:
            if (name := self.name(v)) in params and self._is_float(v):
                v.assign(params[name])
        for slot, (held, times) in self._in_words().items():
            for v, p in zip(held, self._optimizer._trainable_variables, strict=True):
                if (name := self.name(p)) in slots.get(slot, {}):
                    v.assign(slots[slot][name] * times)

    def saved(self) -> Any:
        """Copy all that an update changes."""
        return {id(v): (v, v.numpy()) for v in self.every()}

    def go_to(self, saved: Any) -> None:
        """Bring all of it back."""
        later = [v for v in self.every() if id(v) not in saved]
        unknown = {id(v) for v in later} - self._found.keys()
        for metric in self._model.metrics:
            # Keras makes the variables of metrics in the first update that it makes.
            if any(id(v.value) in unknown for v in metric.variables):
                metric.reset_state()
        for v, value in (*(self._found[id(v)] for v in later if id(v) in self._found), *saved.values()):
            v.assign(value)

    def every(self) -> list[Any]:
        """All variables that an update may change, those that were found to be changed among them."""
        values = (*self.values(), *(v for v, _ in self._found.values()))
        return list({id(v): v for v in values}.values())

    def changes(self, beside: Any) -> Callable[[Any], None]:
        """Note each variable that an update is about to change, unless it is held already or ``beside`` that."""

        def changes(variable: Any) -> None:
            if id(variable) not in self._known:
                self._known = {id(v): v for v in (beside, *self.every())}
            if id(variable) not in self._known:
                self._found[id(variable)] = variable, variable.numpy()
                self._known[id(variable)] = variable

        return changes

    def slots(self) -> dict[str, list[Any]]:
        """The optimizer's lists of variables, one for each that it trains, by their own name."""
        trained = list(self._optimizer._trainable_variables)
        found = {}
        for name, held in vars(self._optimizer).items():
            if name != "_trainable_variables" and isinstance(held, list) and len(held) == len(trained):
                shapes = [getattr(v, "shape", None) for v in held if hasattr(v, "assign")]
                if shapes == [p.shape for p in trained]:
                    found[name.strip("_")] = held
        return found

    def _in_words(self) -> dict[str, tuple[list[Any], float]]:
        """The slots in the words of ``parity.spec``, each with how many times as large the optimizer keeps it."""
        found = {}
        momentum = getattr(self._optimizer, "momentum", None)
        for slot, held in self.slots().items():
            if momentum is not None and slot == "momentums" and not hasattr(self._optimizer, "_velocities"):
                # Keras's SGD keeps the step itself, where the spec keeps what the learning rate multiplies.
                found["momentum"] = held, -float(np.asarray(self._optimizer.learning_rate))
            else:
                found[SLOTS.get(slot, slot)] = held, 1.0
        return found

    def name(self, variable: Any) -> str:
        """Name a variable by its path within the model."""
        return str(variable.path).removeprefix(f"{self._model.path or self._model.name}/")

    def _is_float(self, variable: Any) -> bool:
        return "float" in str(variable.dtype)


def _over(value: Any, times: float) -> Any:
    return value if times == 1.0 else value / times
