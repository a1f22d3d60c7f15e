"""Look into a run of a torch module and its optimizer, by hooks that are gone when the watching ends."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from parity.recording.layers import Layer
from parity.typing import Params
from parity.watching.seen import Condition, Told, Update
from parity.watching.torch.calls import in_backward, leave, listen, unscaled
from parity.watching.torch.held import Held
from parity.watching.torch.layers import (
    Layers,
    Stirring,
    divided,
    loss_of,
    prediction_of,
    returned_loss,
    tensors,
)
from parity.watching.torch.optimizer import described, needs_closure, optimizer_in_words
from parity.watching.torch.state import (
    Call,
    Saved,
    another_batch,
    differing,
    set_scaler,
    set_settings,
    settings_of,
    state_of_scaler,
)

COMPILED = (
    "the module is compiled, which hides its layers: hand each update to step as a closure, and they are recorded from "
    "an update made aside, without the compiler"
)


AGAIN = "step calls the closure once more for each shadow"
NOT_CALLED = (
    "an update was made, and the watched module was not called before it: watch the module that your loop calls, as "
    "model(x), with gradients on and within the closure if step is handed one. What is compiled hides the "
    "call: compile the module itself, and watch what torch.compile gave"
)
NO_BACKWARD = (
    "an update was made, and no backward pass reached the parameters of the watched module since it was called: call "
    "loss.backward(), torch.autograd.backward or torch.autograd.grad before optimizer.step()"
)
ANOTHER_BATCH = (
    f"the closure took another batch when it was called again, and {AGAIN}: take the batch outside of the closure, as "
    "x, y = next(batches), and let the closure use x and y; the same goes for numbers of a torch.Generator of your own"
)


@dataclass
class Pass:
    """What is seen of the module's calls since gradients were cleared, or since the last backward pass."""

    update: Update
    layers: Layers | None


class TorchWatch:
    """Sees every update of a module by an optimizer. See ``parity.watching.seen.Adapter``.

    A compiled module's layers cannot be seen. An update that is made by a closure is made once more without the
    compiler, aside, and the layers are those of that; otherwise the recording has no layers and says so.
    """

    framework = "torch"
    usage = (
        "hand each update to step, as run.step(lambda: loss_of(model(x), y)), or let the loop call the watched model "
        "and step the watched optimizer within the watched block"
    )

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.base: nn.Module = getattr(model, "_orig_mod", model)
        self.compiled = self.base is not model or getattr(model, "_compiled_call_impl", None) is not None
        self._held = Held(self.base, optimizer)
        self.dtype = self._held.dtype
        self.notes: list[str] = []
        self._rates: set[float] = set()
        self._layers: list[Layer] = []
        self._stirring: Stirring | None = None
        # Of the update that goes on: all calls since gradients were cleared, and those since the last backward pass.
        self._passes: list[Pass] = []
        self._called = False  # since the last backward pass
        self._losses: list[Tensor] = []
        self._by_vectors: list[Tensor] = []
        self._by_grad: list[Tensor] = []
        self._pending: tuple[list[tuple[Tensor | None, int]], Tensor | None, bool] | None = None
        self._unclipped: dict[str, Tensor] = {}
        self._as_left: dict[str, tuple[Tensor, int]] = {}  # the gradients that those are copies of
        self._scale: Tensor | None = None
        self._scaling = False
        self._scalers: list[Any] = []
        self._stepping: int | None = None  # within the optimizer's step: how many losses there were when it began
        self._frozen = False  # the optimizer evaluates its closure again, which is no part of the recording
        # Of the function that ``update`` is handed.
        self.skipped = False
        self._stepped = self._asked = self._went_back = False
        self._whole = False  # it makes the whole update, and clears gradients itself or never does
        self._call: Call | None = None
        self._calling = self._compared = self._repeated = False
        self._asides = 0
        self._settings: dict[tuple[int, str], Any] = {}
        self._changed: set[tuple[int, str]] = set()
        self._aside: Update | None = None
        self._looks = False  # into an update that is made aside
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
            register_optimizer_step_pre_hook(self._another_steps),
        ]
        listen(self)

    def detach(self) -> None:
        leave(self)
        self._forget()
        for hook in self._hooks:
            hook.remove()

    def condition(self) -> Condition:
        return self._held.condition()

    def buffers(self) -> list[str]:
        return self._held.buffers()

    def layers(self) -> list[Layer]:
        return self._layers

    def describe(self) -> dict[str, Any]:
        said: dict[str, Any] = {"optimizer": described(self.optimizer)}
        optimizer = optimizer_in_words(self.optimizer)
        if optimizer is not None and len(self._rates) <= 1:
            said["hyper_parameters"] = {"optimizer": repr(optimizer)}
        tied = self._held.tied()
        return said | ({"tied": tied} if tied else {}) | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return self._called_once(partial(function, *arguments, **named))

    def _called_once(self, function: Callable[[], Any]) -> Any:
        """Make one update by a closure, and refuse one that changes more than it may when it is called again."""
        if not self._asides:
            self._call = Call(settings_of(self.optimizer), [(each, state_of_scaler(each)) for each in self._scalers])
            if self.compiled and self._deep():
                self._look_without_the_compiler(function)
        call = self._call
        assert call is not None
        if self._asides:  # begin as the run did, whatever its scheduler has done since
            set_settings(self.optimizer, call.settings)
            for scaler, state in call.scalers:
                set_scaler(scaler, state)
        self._calling, self._compared = True, False
        self._settings, self._changed = settings_of(self.optimizer), set()
        try:
            result = self._update(function)
        except StopIteration as error:
            self._forget()
            if not self._asides:
                raise
            raise ValueError(ANOTHER_BATCH) from error
        except BaseException:
            self._forget()
            self._stepping = None
            raise
        finally:
            self._calling = False
        left = settings_of(self.optimizer)
        self._changed |= differing(self._settings, left)
        if not self._asides:
            call.changed, call.left = self._changed, left
        elif (name := call.departs(self._changed, left)) is not None:
            raise ValueError(
                f"the closure changes the optimizer's {name}, to another value when it is called again, and {AGAIN}: "
                f"change it after step, as a scheduler does"
            )
        if self._asides and self.skipped and call.left is not None:
            raise ValueError(
                "the gradient scaler skipped the update in a shadow and not in the run, which is at the edge of its "
                "range: begin with a lower init_scale, or watch with shadows=0"
            )
        return result

    def _update(self, function: Callable[[], Any]) -> Any:
        self.skipped = self._stepped = self._asked = self._went_back = False
        if not self._whole:
            self.optimizer.zero_grad()
        result = function()
        self._whole = self._stepped or self._asked
        if not self._stepped and not self._asked:  # else the function made the whole update
            self._backward(result)
            if needs_closure(self.optimizer):
                self._step_with_closure(result, function)
            elif self._looks:  # what the optimizer makes of the gradients is not looked at
                self._before_step(self.optimizer, (), {})
                self._after_step(self.optimizer, (), {})
            else:
                self.optimizer.step()
        elif not self._stepped:
            self.skipped = True
            self._forget()
        return result

    def _backward(self, result: Any) -> None:
        """Go backward from what the function returned, unless it did."""
        if not self._went_back:
            loss = loss_of(result)
            if not self._passes:
                raise ValueError(NOT_CALLED)
            loss.backward()

    def _step_with_closure(self, result: Any, function: Callable[[], Any]) -> None:
        """Step an optimizer that evaluates the loss itself, as LBFGS does. Its first evaluation is made already."""
        made = [result]

        def evaluate() -> Any:
            if made:
                result = made.pop()
            else:
                self.optimizer.zero_grad()
                self._went_back = False
                result = function()
                self._backward(result)
            loss = returned_loss(result)
            if loss is None:
                raise ValueError(
                    f"{type(self.optimizer).__name__} evaluates the loss several times: let the closure return it"
                )
            return loss

        if not self._passes:
            raise ValueError(NOT_CALLED)
        self._freeze()
        self.optimizer.step(evaluate)

    def saved(self) -> Saved:
        return self._held.saved(self._scalers)

    def go_to(self, saved: Saved) -> None:
        self._held.go_to(saved, adds=self._whole)

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        self._held.load(params, slots)

    def random(self) -> Any:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
        return torch.get_rng_state(), cuda, np.random.get_state(), random.getstate()

    def drawing(self) -> bytes | None:
        if self._held.device.type not in ("cpu", "cuda"):
            return None
        state = (
            torch.cuda.get_rng_state(self._held.device) if self._held.device.type == "cuda" else torch.get_rng_state()
        )
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
            self._repeated = True
            self._stirring = Stirring(self.model, seed, self._held.device, layers=not self.compiled)
        self._asides += 1
        try:
            yield
        finally:
            self._asides -= 1
            if self._stirring is not None:
                self._stirring.close()
            self._stirring, self._told = None, before
            self._forget()
            self._held.without_gradients()
            self.go_to(saved)
            self.draw_from(drawn)

    def stir(self) -> None:
        assert self._stirring is not None
        with torch.no_grad():
            for value in self._held.moves():
                value.copy_(self._stirring.moved(value))

    # What the hooks do, in the order of an update.

    def _begun(self, model: nn.Module, arguments: Any, named: Any) -> None:
        """The model is called. If no loss came since gradients were cleared, earlier calls were for something else."""
        if not torch.is_grad_enabled() or self._frozen:
            return
        if self._calling and not self._compared and (self._repeated or self._asides or self.compiled):
            self._compare(list(tensors((arguments, named))))
        if not self._losses and not self._by_vectors and not self._by_grad:
            self._forget()
            self._passes = [self._new_pass()]
            if self._passes[0].update.before is not None:
                trained = [p for p in self._held.params.values() if p.requires_grad]
                self._of_gradients = [p.register_post_accumulate_grad_hook(self._left) for p in trained]
        elif not self._called:
            self._close(self._passes[1:])
            self._passes[1:] = [self._new_pass()]
        self._called = True
        if self._passes[0].update.before is not None:
            given = list(tensors((arguments, named)))
            copies = [each.detach().clone() for each in given]
            for each in self._passes:
                each.update.inputs += copies
                if each.layers is not None:
                    each.layers.given(given)

    def _new_pass(self) -> Pass:
        deep = self._deep()
        update = Update(before=self.condition() if deep else None)
        return Pass(update, Layers(self.base) if deep and not self.compiled else None)

    def _compare(self, given: list[Tensor]) -> None:
        """Hold what the module is given in its first call of an update against what it was given in the run's own."""
        assert self._call is not None
        self._compared = True
        if self._call.given is None:
            self._call.given = [each if each.requires_grad else each.clone() for each in given]
        elif another_batch(self._call.given, given):
            raise ValueError(ANOTHER_BATCH)

    def _predicted(self, model: nn.Module, arguments: Any, output: Any) -> None:
        if not torch.is_grad_enabled() or self._frozen or not self._passes:
            return
        if self._passes[0].update.before is not None:
            said = prediction_of(output).detach().clone()
            for each in self._passes:
                each.update.prediction = (
                    said if each.update.prediction is None else _joined(each.update.prediction, said)
                )

    def _left(self, p: Tensor) -> None:
        """The backward pass has left a gradient, or added to one."""
        if p.grad is not None:  # else another hook has used it up
            name = self._held.names[id(p)]
            self._unclipped[name], self._as_left[name] = p.grad.detach().clone(), (p.grad, p.grad._version)

    # What the listener is told: see ``torch_calls.Listener``.

    def backward_begins(self, tensors: Sequence[Any], gradients: Sequence[Any]) -> None:
        marks = self._marks()
        if self._losses and all(gradient is None for gradient, _ in marks):
            self._cleared()
        if self._frozen or not self._passes:
            self._pending = marks, None, False
            return
        losses, by_vector = [], False
        for k, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                continue
            value, scale = unscaled(tensor) if self._scaling else (tensor.detach(), None)
            self._scale = scale if scale is not None else self._scale
            gradient = gradients[k] if k < len(gradients) else None
            by_vector |= tensor.numel() != 1
            losses.append((value if gradient is None else value * gradient).sum())
        self._pending = marks, sum(losses[1:], losses[0]).clone() if losses else None, by_vector

    def backward_ended(self) -> None:
        if self._pending is None:
            return
        (marks, loss, by_vector), self._pending = self._pending, None
        reached = any(
            gradient is not now or version != changed
            for (gradient, version), (now, changed) in zip(marks, self._marks(), strict=False)
        )
        self._went_back |= reached
        self._settle(reached)
        if reached and loss is not None:
            (self._by_vectors if by_vector else self._losses).append(loss)
            self._called = False

    def differentiated(
        self, outputs: Sequence[Any], inputs: Sequence[Any], gradients: Sequence[Any], create_graph: bool
    ) -> None:
        trained = {id(p) for p in self._held.trained()}
        reached = not create_graph and any(id(each) in trained for each in inputs)
        self._went_back |= reached
        self._settle(reached)
        if reached and self._passes and not self._frozen:
            for tensor, gradient in zip(outputs, [*gradients, *[None] * len(outputs)], strict=False):
                if isinstance(tensor, Tensor):
                    value = tensor.detach()
                    self._by_grad.append((value if gradient is None else value * gradient).sum())
            self._called = False

    def clears(self, params: Sequence[Tensor]) -> None:
        if self._passes and not self._frozen:
            cleared = {id(p) for p in params}
            if all(id(p) in cleared or p.grad is None for p in self._held.trained()):
                self._cleared()

    def scales(self, scaler: Any) -> None:
        self._scaling = True
        if all(each is not scaler for each in self._scalers):
            self._scalers.append(scaler)
            if self._call is not None and self._calling:
                self._call.scalers.append((scaler, state_of_scaler(scaler)))

    def scaler_steps(self, optimizer: Any) -> None:
        self._asked |= optimizer is self.optimizer

    def scheduled(self, scheduler: Any) -> None:
        if self._calling and self._asides:
            raise ValueError(
                f"the closure calls step() of a {type(scheduler).__name__}, and {AGAIN}: call it after step"
            )

    def _another_steps(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if optimizer is self.optimizer or not (self._calling and self._asides):
            return
        kind = type(optimizer).__name__
        if self._stepping is not None:
            raise ValueError(
                f"the watched optimizer lets another one step, {kind}, whose state nobody sees: watch that one, or "
                "watch with shadows=0"
            )
        raise ValueError(
            f"the closure steps another optimizer too, {kind}, and {AGAIN}: step it outside of the closure, before or "
            "after step, or watch with shadows=0"
        )

    # What becomes of the losses.

    def _marks(self) -> list[tuple[Tensor | None, int]]:
        """Every gradient, with what tells whether something was added to it."""
        grads = [p.grad for p in self._held.trained()]
        return [(grad, 0 if grad is None else grad._version) for grad in grads]

    def _settle(self, kept: bool) -> None:
        for each in self._passes:
            if each.layers is not None and not self._frozen:
                each.layers.settle(kept)

    def _sum(self) -> Tensor | None:
        """The loss of the update: of the backward passes that reached the parameters since gradients were cleared."""
        losses = self._losses or self._by_vectors or self._by_grad
        return sum(losses[1:], losses[0]) if losses else None

    def _cleared(self) -> None:
        """Gradients are cleared, so the losses before are none of the update that comes; nor are earlier calls."""
        if self._frozen:
            return
        if self._stepping is not None and len(self._losses) > self._stepping:
            self._freeze()
            return
        self._losses, self._by_vectors, self._by_grad, self._unclipped, self._as_left = [], [], [], {}, {}
        self._close(self._passes[:-1])
        self._passes = self._passes[-1:]
        for each in self._passes:
            each.update.gradients, each.update.unclipped = {}, {}
            if each.layers is not None:
                each.layers.gradients.clear()

    def _freeze(self) -> None:
        """The first evaluation of the optimizer's closure is over, and is the update's."""
        self._take_gradients(self._passes[0].update)
        self._close(self._passes)
        self._frozen = True

    def _before_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if in_backward():
            raise ValueError(
                "the optimizer steps within the backward pass, from a hook of a parameter, where no gradient stays to "
                "be recorded: watch a loop that calls optimizer.step() after the backward pass"
            )
        if self._calling:
            self._changed |= differing(self._settings, settings_of(self.optimizer))
        self._stepping = len(self._losses)
        if self._passes and self._sum() is not None and not self._frozen:  # else its closure is called later
            self._take_gradients(self._passes[0].update)

    def _after_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        self._stepped, self._stepping = True, None
        if self._calling:
            self._settings = settings_of(self.optimizer)
        found = getattr(optimizer, "found_inf", None)  # what a scaler says to an optimizer that skips by itself
        if found is not None and float(found):
            self.skipped = True
            self._forget()
            return
        loss = self._sum()
        if loss is None:
            raise ValueError(NO_BACKWARD if self._passes else NOT_CALLED)
        update, layers = self._passes[0].update, self._passes[0].layers
        if not update.gradients:
            self._take_gradients(update)
        update.loss = loss
        rates = [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        if rates and self._stirring is None:
            update.learning_rate = rates[0]
            self._rates |= set(rates)
        if layers is not None:
            update.activations, update.activation_gradients = layers.activations, layers.all_gradients(self._scale)
            self._layers = layers.found if self._stirring is None else self._layers
        elif self._aside is not None and self._stirring is None:
            update.activations, update.activation_gradients = self._aside.activations, self._aside.activation_gradients
            self._aside = None
        elif self.compiled and update.before is not None and COMPILED not in self.notes:
            self.notes.append(COMPILED)
        self._forget()
        self._told(update)

    def _take_gradients(self, update: Update) -> None:
        """Keep the gradients as the optimizer gets them, and as the backward pass left them; none of them scaled."""
        if update.before is None:
            return
        before = self._unclipped
        grads = {name: p.grad for name, p in self._held.params.items() if p.grad is not None}
        found = {name: self._copy_of(name, grad) for name, grad in grads.items()} or dict(before)
        scale = getattr(self.optimizer, "grad_scale", None)  # of an optimizer that divides by it itself
        if scale is not None:
            found = {name: divided(value, scale) for name, value in found.items()}
        if self._scale is not None:
            before = {name: divided(value, self._scale) for name, value in before.items()}
        update.gradients = found
        both = ((before[name], found[name]) for name in found if name in before)
        if any(one is not other and not torch.equal(one, other) for one, other in both):
            update.unclipped = {name: before.get(name, value) for name, value in found.items()}

    def _copy_of(self, name: str, gradient: Tensor) -> Tensor:
        """Copy a gradient, unless nobody has changed it since the backward pass left it, of which there is a copy."""
        grad, version = self._as_left.get(name, (None, 0))
        return self._unclipped[name] if grad is gradient and gradient._version == version else gradient.detach().clone()

    def _close(self, passes: Sequence[Pass]) -> None:
        for each in passes:
            if each.layers is not None:
                each.layers.close()

    def _forget(self) -> None:
        """Let go of an update that is over, or that was none."""
        self._close(self._passes)
        for hook in self._of_gradients:
            hook.remove()
        self._passes, self._of_gradients, self._unclipped, self._as_left = [], [], {}, {}
        self._losses, self._by_vectors, self._by_grad, self._pending = [], [], [], None
        self._called = self._frozen = self._scaling = False
        self._scale = None

    def _look_without_the_compiler(self, function: Callable[[], Any]) -> None:
        """Make the update that comes aside, without the compiler, which hides the layers, and keep what they gave."""
        found: list[Update] = []
        with self.aside(found.append), torch.compiler.set_stance("force_eager"):
            self.compiled, self._looks = False, True
            try:
                self.update(function)
            finally:
                self.compiled, self._looks = True, False
        self._aside = found[-1] if found else None  # a gradient scaler may have skipped it


def _joined(whole: Tensor, said: Tensor) -> Tensor:
    """Put predictions behind each other, of batches that are padded to other lengths too."""
    if whole.ndim and whole.ndim == said.ndim and whole.shape[1:] == said.shape[1:]:
        return torch.cat([whole, said])
    return torch.cat([whole.reshape(-1), said.reshape(-1)])
