"""Look into a run of a torch module and its optimizer, by hooks that are gone when the watching ends."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parity.recording.layers import Layer
from parity.spec import Adam, AdamW, Optimizer, Sgd
from parity.typing import Params
from parity.watching.seen import Condition, Told, Update
from parity.watching.torch_layers import Layers, Stirring, plain, prediction_of, tensors

SLOTS = {"momentum_buffer": "momentum", "exp_avg": "first_moment", "exp_avg_sq": "second_moment"}
"""Names of torch's slots in the words of ``parity.spec``. Others keep their own."""

COMPILED = (
    "the module is compiled, which hides its layers: hand each update to step as a closure, and they are recorded from "
    "an update made aside, without the compiler"
)


@dataclass(frozen=True)
class Saved:
    """All that an update changes: what the module and the optimizer hold, and where random numbers come from."""

    tensors: dict[str, Tensor]
    slots: dict[str, dict[str, Any]]
    gradients: dict[str, Tensor | None]


class TorchWatch:
    """Sees every update of a module by an optimizer. See ``parity.watching.seen.Adapter``.

    A compiled module's layers cannot be seen. An update that is made by a closure is made once more without the
    compiler, aside, and the layers are those of that; otherwise the recording has no layers and says so.
    """

    framework = "torch"

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.base: nn.Module = getattr(model, "_orig_mod", model)
        self.compiled = self.base is not model or getattr(model, "_compiled_call_impl", None) is not None
        self.params = dict(self.base.named_parameters())
        self._own_names = {id(p): name for name, p in self.params.items()}
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        if not trained & {id(p) for p in self.params.values()}:
            raise ValueError("the optimizer trains none of the module's parameters: watch the module that it trains")
        kinds = {str(p.dtype).removeprefix("torch.") for p in self.params.values()}
        if len(kinds) > 1:
            raise ValueError(f"the module's parameters are of several dtypes, {', '.join(sorted(kinds))}: give it one")
        self.dtype = kinds.pop()
        self.device = next(iter(self.params.values())).device
        self.notes: list[str] = []
        self._rates: set[float] = set()
        self._layers: list[Layer] = []
        self._stirring: Stirring | None = None
        self._seen: Layers | None = None
        self._now: Update | None = None
        self._losses: list[Tensor] = []
        self._unclipped: dict[str, Tensor] = {}
        self._stepped = False
        self._aside: Update | None = None
        self._hooks: list[Any] = []
        self._of_gradients: list[Any] = []

    # What the recording asks.

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep = told, deep
        self._hooks = [
            self.model.register_forward_pre_hook(self._begun, with_kwargs=True),
            self.model.register_forward_hook(self._predicted),
            self.optimizer.register_step_pre_hook(self._before_step),
            self.optimizer.register_step_post_hook(self._after_step),
        ]
        original = self._original = torch.Tensor.backward

        def backward(tensor: Tensor, *arguments: Any, **named: Any) -> Any:
            if self._now is not None and tensor.numel() == 1:
                self._losses.append(tensor.detach().clone())
            return original(tensor, *arguments, **named)

        torch.Tensor.backward = backward

    def detach(self) -> None:
        torch.Tensor.backward = self._original
        self._forget()
        for hook in self._hooks:
            hook.remove()

    def condition(self) -> Condition:
        params = {name: value.detach().clone() for name, value in self._floats().items()}
        slots: dict[str, dict[str, Tensor]] = {}
        expected = self._expected()
        for name, p in self.params.items():
            for slot, value in self._slots(p, expected).items():
                slots.setdefault(SLOTS.get(slot, slot), {})[name] = value.detach().clone()
        return Condition(params=params, slots=slots)

    def buffers(self) -> list[str]:
        trained = {id(p) for group in self.optimizer.param_groups for p in group["params"] if p.requires_grad}
        return [name for name in self._floats() if id(self.params.get(name)) not in trained]

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        kind = type(self.optimizer)
        groups = [
            {name: plain(value) for name, value in group.items() if name != "params"}
            for group in self.optimizer.param_groups
        ]
        said: dict[str, Any] = {"optimizer": {"class": f"{kind.__module__}.{kind.__qualname__}", "groups": groups}}
        optimizer = optimizer_in_words(self.optimizer)
        if optimizer is not None and len(self._rates) <= 1:
            said["hyper_parameters"] = {"optimizer": repr(optimizer)}
        names = self._own_names
        every = self.base.named_parameters(remove_duplicate=False)
        tied = {name: names[id(p)] for name, p in every if names[id(p)] != name}
        return said | ({"tied": tied} if tied else {}) | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self.compiled and self._deep() and self._stirring is None:
            self._look_without_the_compiler(function, arguments)
        self.optimizer.zero_grad()
        self._stepped = False
        loss = function(*arguments)
        if not self._stepped:  # else the function made the whole update
            if not self._losses and isinstance(loss, Tensor) and loss.requires_grad:
                loss.backward()
            self.optimizer.step()
        return loss

    def saved(self) -> Saved:
        return Saved(
            {name: value.detach().clone() for name, value in self._held().items()},
            {name: copy.deepcopy(self.optimizer.state.get(p, {})) for name, p in self.params.items()},
            {name: p.grad for name, p in self.params.items()},
        )

    def go_to(self, saved: Saved) -> None:
        with torch.no_grad():
            for name, value in self._held().items():
                value.copy_(saved.tensors[name])
        for name, p in self.params.items():
            p.grad = saved.gradients[name]
            self.optimizer.state.pop(p, None)
            if saved.slots[name]:
                self.optimizer.state[p] = copy.deepcopy(saved.slots[name])

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
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

    def random(self) -> Any:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()

    def drawing(self) -> bytes | None:
        if self.device.type not in ("cpu", "cuda"):
            return None
        state = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else torch.get_rng_state()
        return bytes(state.numpy().tobytes())

    def draw_from(self, state: Any) -> None:
        mine, cuda, numpys, pythons = state
        torch.set_rng_state(mine)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        np.random.set_state(numpys)
        random.setstate(pythons)

    @contextmanager
    def aside(self, told: Told, seed: int | None = None) -> Iterator[None]:
        saved, drawn, before = self.saved(), self.random(), self._told
        self._told = told
        if seed is not None:
            self._stirring = Stirring(self.model, seed, self.device, layers=not self.compiled)
        try:
            yield
        finally:
            if self._stirring is not None:
                self._stirring.close()
            self._stirring, self._told = None, before
            self._forget()
            for p in self.params.values():
                p.grad = None
            self.go_to(saved)
            self.draw_from(drawn)

    def stir(self) -> None:
        assert self._stirring is not None
        expected = self._expected()
        with torch.no_grad():
            for p in self.params.values():
                for value in (p, *self._slots(p, expected).values()):
                    value.copy_(self._stirring.moved(value))

    # What the hooks do, in the order of an update.

    def _begun(self, model: nn.Module, arguments: Any, named: Any) -> None:
        """The model is called. If no loss came since it was called last, that call was for something else."""
        if not torch.is_grad_enabled():
            return
        if self._now is None or not self._losses:
            self._forget()
            self._now = Update()
            if self._deep():
                self._now.before = self.condition()
                trained = [p for p in self.params.values() if p.requires_grad]
                self._of_gradients = [p.register_post_accumulate_grad_hook(self._left) for p in trained]
                if not self.compiled:
                    self._seen = Layers(self.base)
        if self._now.before is not None:
            given = list(tensors((arguments, named)))
            self._now.inputs += [each.detach().clone() for each in given]
            if self._seen is not None:
                self._seen.given(given)

    def _predicted(self, model: nn.Module, arguments: Any, output: Any) -> None:
        if self._now is not None and self._now.before is not None and torch.is_grad_enabled():
            said = prediction_of(output).detach().clone()
            whole = self._now.prediction
            self._now.prediction = said if whole is None else torch.cat([whole, said])

    def _left(self, p: Tensor) -> None:
        """The backward pass has left a gradient, or added to one."""
        assert p.grad is not None
        self._unclipped[self._own_names[id(p)]] = p.grad.detach().clone()

    def _before_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if self._now is not None and self._losses:  # else the closure is called within the step, later
            self._take_gradients(self._now)

    def _after_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        self._stepped = True
        update, self._now = self._now, None
        if update is None or not self._losses:
            raise ValueError(
                "an update was made, and the watched module was not called before it: watch the module that your loop "
                "calls, as model(x), with gradients on"
            )
        if not update.gradients:
            self._take_gradients(update)
        update.loss = sum(self._losses[1:], self._losses[0])
        rates = [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        if rates and self._stirring is None:
            update.learning_rate = rates[0]
            self._rates |= set(rates)
        if self._seen is not None:
            update.activations, update.activation_gradients = self._seen.activations, self._seen.gradients
            self._layers = self._seen.found if self._stirring is None else self._layers
        elif self._aside is not None and self._stirring is None:
            update.activations, update.activation_gradients = self._aside.activations, self._aside.activation_gradients
            self._aside = None
        elif self.compiled and update.before is not None and COMPILED not in self.notes:
            self.notes.append(COMPILED)
        self._forget()
        self._told(update)

    def _take_gradients(self, update: Update) -> None:
        if update.before is None:
            return
        found = {name: p.grad.detach().clone() for name, p in self.params.items() if p.grad is not None}
        update.gradients = found
        before = self._unclipped
        if any(name in before and not torch.equal(before[name], found[name]) for name in found):
            update.unclipped = {name: before.get(name, value) for name, value in found.items()}

    def _forget(self) -> None:
        """Let go of an update that is over, or that was none."""
        if self._seen is not None:
            self._seen.close()
        for hook in self._of_gradients:
            hook.remove()
        self._seen, self._of_gradients, self._losses, self._unclipped, self._now = None, [], [], {}, None

    def _look_without_the_compiler(self, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
        """Make the update that comes aside, without the compiler, which hides the layers, and keep what they gave."""
        found: list[Update] = []
        with self.aside(found.append), torch.compiler.set_stance("force_eager"):
            self.compiled = False
            try:
                self.update(function, *arguments)
            finally:
                self.compiled = True
        self._aside = found[-1]

    # What the module and the optimizer hold.

    def _held(self) -> dict[str, Tensor]:
        return {**self.params, **dict(self.base.named_buffers())}

    def _floats(self) -> dict[str, Tensor]:
        return {name: value for name, value in self._held().items() if value.is_floating_point()}

    def _slots(self, p: Tensor, expected: Sequence[str]) -> dict[str, Tensor]:
        """The optimizer's tensors of a parameter, zeros where it has made none yet."""
        held = self.optimizer.state.get(p, {})
        found = {
            name: value
            for name, value in held.items()
            if isinstance(value, Tensor) and value.shape == p.shape and value.is_floating_point() and p.ndim
        }
        return {name: torch.zeros_like(p) for name in expected if p.requires_grad and name not in found} | found

    def _expected(self) -> tuple[str, ...]:
        """The slots that this optimizer will have, as far as its kind is known."""
        words = optimizer_in_words(self.optimizer)
        if isinstance(words, Adam):
            return ("exp_avg", "exp_avg_sq")
        return ("momentum_buffer",) if words is not None and words.momentum else ()


def optimizer_in_words(optimizer: torch.optim.Optimizer) -> Optimizer | None:
    """Say which optimizer this is in the words of ``parity.spec``; None if it has none for it.

    Examples:
        >>> weight = torch.nn.Parameter(torch.zeros(2))
        >>> optimizer_in_words(torch.optim.SGD([weight], lr=0.1))
        Sgd(learning_rate=0.1, momentum=0.0, weight_decay=0.0)
        >>> optimizer_in_words(torch.optim.SGD([weight], lr=0.1, momentum=0.9, nesterov=True)) is None
        True
    """
    groups = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    said = [{name: plain(value) for name, value in group.items()} for group in groups]
    group, kind = said[0], type(optimizer)
    if any(each != group for each in said) or group.get("maximize"):
        return None
    if kind is torch.optim.SGD and not group["nesterov"] and not group["dampening"]:
        return Sgd(float(group["lr"]), float(group["momentum"]), float(group["weight_decay"]))
    if kind not in (torch.optim.Adam, torch.optim.AdamW) or group["amsgrad"]:
        return None
    rate, epsilon = float(group["lr"]), float(group["eps"])
    beta1, beta2 = (float(beta) for beta in group["betas"])
    if kind is torch.optim.AdamW:
        return AdamW(rate, beta1, beta2, epsilon, float(group["weight_decay"]))
    return Adam(rate, beta1, beta2, epsilon) if not group["weight_decay"] else None
