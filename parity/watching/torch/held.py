"""What is watched in torch: a module and its optimizer, and all that the two hold between updates."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.spec import Adam
from parity.typing import Params
from parity.watching.carry.models import unsaved
from parity.watching.seen import Condition
from parity.watching.torch.optimizer import optimizer_in_words
from parity.watching.torch.state import Saved, set_scaler, set_settings, settings_of, state_of_scaler

SLOTS = {"momentum_buffer": "momentum", "exp_avg": "first_moment", "exp_avg_sq": "second_moment"}
"""Names of torch's slots in the words of ``parity.spec``. Others keep their own."""


class Held:
    """The tensors of a module and of the optimizer that trains it, by name.

    Args:
        base: The module, not compiled.
        optimizer: Its optimizer.

    Raises:
        ValueError: If the optimizer trains none of the module's parameters, or if they are of several dtypes.
    """

    def __init__(self, base: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self._base, self._optimizer = base, optimizer
        self.params = dict(base.named_parameters())
        self.names = {id(p): name for name, p in self.params.items()}
        """The name of each parameter, by its id."""
        if not self.names.keys() & self._ids():
            raise ValueError("the optimizer trains none of the module's parameters: watch the module that it trains")
        kinds = {str(p.dtype).removeprefix("torch.") for p in self.params.values()}
        if len(kinds) > 1:
            raise ValueError(f"the module's parameters are of several dtypes, {', '.join(sorted(kinds))}: give it one")
        self.dtype = kinds.pop()
        self.device = next(iter(self.params.values())).device
        self._constant = unsaved(base)

    def condition(self) -> Condition:
        """Copy the state between two updates."""
        params = {name: value.detach().clone() for name, value in self._floats().items()}
        slots: dict[str, dict[str, Tensor]] = {}
        expected = self._expected()
        for name, p in self.params.items():
            for slot, value in self._slots(p, expected).items():
                slots.setdefault(SLOTS.get(slot, slot), {})[name] = value.detach().clone()
        return Condition(params=params, slots=slots)

    def trained(self) -> list[Tensor]:
        """List the module's parameters that the optimizer trains now."""
        trained = self._ids()
        return [p for p in self.params.values() if p.requires_grad and id(p) in trained]

    def buffers(self) -> list[str]:
        """Name the floats of the state that are not trained."""
        trained = set(map(id, self.trained()))
        return [name for name in self._floats() if id(self.params.get(name)) not in trained]

    def tied(self) -> dict[str, str]:
        """Give the other names of parameters that stand in several places, each with the name that is recorded."""
        every = self._base.named_parameters(remove_duplicate=False)
        return {name: self.names[id(p)] for name, p in every if self.names[id(p)] != name}

    def moves(self) -> list[Tensor]:
        """List every parameter and every slot."""
        expected = self._expected()
        return [value for p in self.params.values() for value in (p, *self._slots(p, expected).values())]

    def saved(self, scalers: Sequence[object]) -> Saved:
        """Copy all that an update changes; ``scalers`` are the gradient scalers that take part in it."""
        trained = self._trains()
        return Saved(
            {name: value.detach().clone() for name, value in self._changes().items()},
            {name: copy.deepcopy(self._optimizer.state.get(p, {})) for name, p in trained.items()},
            {name: p.grad for name, p in trained.items()},
            settings_of(self._optimizer),
            [(each, state_of_scaler(each)) for each in scalers],
        )

    def go_to(self, saved: Saved, adds: bool) -> None:
        """Bring all back; ``adds`` says that a backward pass may add to gradients that nobody clears."""
        with torch.no_grad():
            for name, value in self._changes().items():
                if name in saved.tensors:
                    value.copy_(saved.tensors[name])
        for name, p in self._trains().items():
            if name not in saved.slots:  # it came to the optimizer since
                continue
            gradient = saved.gradients[name]
            p.grad = gradient.clone() if adds and gradient is not None else gradient
            self._optimizer.state.pop(p, None)
            if saved.slots[name]:
                self._optimizer.state[p] = copy.deepcopy(saved.slots[name])
        set_settings(self._optimizer, saved.settings)
        for scaler, state in saved.scalers:
            set_scaler(scaler, state)

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        """Set parameters, buffers and slots, by the names that ``condition`` gives."""
        held = self._held()
        with torch.no_grad():
            for name, value in params.items():
                held[name].copy_(torch.tensor(value))
            for slot, values in slots.items():
                for name, value in values.items():
                    # An optimizer makes its slots in its first update, and makes them zero.
                    for own, mine in self._slots(self.params[name], ()).items():
                        if SLOTS.get(own, own) == slot:
                            mine.copy_(torch.tensor(value))

    def without_gradients(self) -> None:
        """Take every gradient away."""
        for p in self._trains().values():
            p.grad = None

    def _ids(self) -> set[int]:
        return {id(p) for group in self._optimizer.param_groups for p in group["params"]}

    def _held(self) -> dict[str, Tensor]:
        return {**self.params, **dict(self._base.named_buffers())}

    def _others(self) -> dict[str, Tensor]:
        """What the optimizer trains beside the module, as a loss's own parameters."""
        trained = [p for group in self._optimizer.param_groups for p in group["params"]]
        return {f"optimizer's {k}": p for k, p in enumerate(trained) if id(p) not in self.names}

    def _trains(self) -> dict[str, Tensor]:
        return {**self.params, **self._others()}

    def _changes(self) -> dict[str, Tensor]:
        return {**self._held(), **self._others()}

    def _floats(self) -> dict[str, Tensor]:
        """The state."""
        held = self._held()
        return {name: value for name, value in held.items() if value.is_floating_point() and name not in self._constant}

    def _slots(self, p: Tensor, expected: Sequence[str]) -> dict[str, Tensor]:
        """The optimizer's tensors of a parameter, zeros where it has made none yet."""
        held = self._optimizer.state.get(p, {})
        found = {
            name: value
            for name, value in held.items()
            if isinstance(value, Tensor) and value.shape == p.shape and value.is_floating_point() and p.ndim
        }
        return {name: torch.zeros_like(p) for name in expected if p.requires_grad and name not in found} | found

    def _expected(self) -> tuple[str, ...]:
        """The slots that this optimizer will have, as far as its kind is known."""
        words = optimizer_in_words(self._optimizer)
        if isinstance(words, Adam):
            return ("exp_avg", "exp_avg_sq")
        return ("momentum_buffer",) if words is not None and words.momentum else ()


def pair_of(watched: Sequence[Any]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Give the module and the optimizer among what is to be watched, in either order.

    Raises:
        ValueError: If they are not one of each, with what to do.
    """
    modules = [each for each in watched if isinstance(each, nn.Module)]
    optimizers = [
        each
        for given in watched
        for each in (given if isinstance(given, list | tuple) else [given])
        if isinstance(each, torch.optim.Optimizer)
    ]
    if len(watched) == 2 and len(modules) == len(optimizers) == 1 and optimizers[0] in watched:
        return modules[0], optimizers[0]
    kinds = ", ".join(
        "[" + ", ".join(type(one).__name__ for one in each) + "]" if isinstance(each, list) else type(each).__name__
        for each in watched
    )
    said = "hand over a torch module and its torch.optim.Optimizer, as watch(folder, model, optimizer)"
    if len(optimizers) > 1:
        said = (
            "a recording has one optimizer. Watch each with the module that it trains, as with watch(one, model, a), "
            "watch(other, model, b)"
        )
    elif len(modules) > 1:
        said += "; of several modules, the one that calls the others"
    if any(isinstance(each, torch.optim.lr_scheduler.LRScheduler) for each in watched):
        said += "; leave the scheduler out, the optimizer tells the rate of each update"
    if any(isinstance(each, torch.amp.GradScaler) for each in watched):
        said += "; leave the gradient scaler out, the recording is not scaled"
    raise ValueError(f"nothing here can watch {kinds}: {said}")
