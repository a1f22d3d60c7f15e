"""Look into a run of a torch module and its optimizer, by hooks that are gone when the watching ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from parity.recording.layers import Layer
from parity.typing import Params
from parity.watching.seen import Condition, Told, Update
from parity.watching.torch.calls import in_backward, leave, listen
from parity.watching.torch.held import Held
from parity.watching.torch.layers import (
    Layers,
    Stirring,
    loss_of,
    returned_loss,
    tensors,
)
from parity.watching.torch.ongoing import NOT_CALLED, Ongoing, Pass
from parity.watching.torch.optimizer import described, needs_closure, optimizer_in_words
from parity.watching.torch.state import (
    Call,
    Saved,
    another_batch,
    differing,
    drawing_from,
    random_state,
    set_random_state,
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
ANOTHER_BATCH = (
    f"the closure took another batch when it was called again, and {AGAIN}: take the batch outside of the closure, as "
    "x, y = next(batches), and let the closure use x and y; the same goes for numbers of a torch.Generator of your own"
)


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
        self._ongoing = Ongoing(self._held, optimizer, self._new_pass)
        self._scalers: list[Any] = []
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
        self._ongoing.forget()
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
            self._ongoing.forget()
            if not self._asides:
                raise
            raise ValueError(ANOTHER_BATCH) from error
        except BaseException:
            self._ongoing.forget()
            self._ongoing.step_ended()
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
            self._ongoing.forget()
        return result

    def _backward(self, result: Any) -> None:
        """Go backward from what the function returned, unless it did."""
        if not self._went_back:
            loss = loss_of(result)
            if self._ongoing.seen is None:
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

        if self._ongoing.seen is None:
            raise ValueError(NOT_CALLED)
        self._ongoing.freeze()
        self.optimizer.step(evaluate)

    def saved(self) -> Saved:
        return self._held.saved(self._scalers)

    def go_to(self, saved: Saved) -> None:
        self._held.go_to(saved, adds=self._whole)

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        self._held.load(params, slots)

    def random(self) -> Any:
        return random_state()

    def drawing(self) -> bytes | None:
        return drawing_from(self._held.device)

    def draw_from(self, state: Any) -> None:
        set_random_state(state)

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
            self._ongoing.forget()
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
        if not torch.is_grad_enabled() or self._ongoing.frozen:
            return
        if self._calling and not self._compared and (self._repeated or self._asides or self.compiled):
            self._compare(list(tensors((arguments, named))))
        self._ongoing.called_with((arguments, named))

    def _predicted(self, model: nn.Module, arguments: Any, output: Any) -> None:
        if torch.is_grad_enabled():
            self._ongoing.predicted(output)

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

    # What the listener is told: see ``calls.Listener``.

    def backward_begins(self, tensors: Sequence[Any], gradients: Sequence[Any]) -> None:
        self._ongoing.backward_begins(tensors, gradients)

    def backward_ended(self) -> None:
        self._went_back |= self._ongoing.backward_ended()

    def differentiated(
        self, outputs: Sequence[Any], inputs: Sequence[Any], gradients: Sequence[Any], create_graph: bool
    ) -> None:
        self._went_back |= self._ongoing.differentiated(outputs, inputs, gradients, create_graph)

    def clears(self, params: Sequence[Tensor]) -> None:
        self._ongoing.clears(params)

    def scales(self, scaler: Any) -> None:
        self._ongoing.scaled = True
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
        if self._ongoing.stepping is not None:
            raise ValueError(
                f"the watched optimizer lets another one step, {kind}, whose state nobody sees: watch that one, or "
                "watch with shadows=0"
            )
        raise ValueError(
            f"the closure steps another optimizer too, {kind}, and {AGAIN}: step it outside of the closure, before or "
            "after step, or watch with shadows=0"
        )

    def _before_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        if in_backward():
            raise ValueError(
                "the optimizer steps within the backward pass, from a hook of a parameter, where no gradient stays to "
                "be recorded: watch a loop that calls optimizer.step() after the backward pass"
            )
        if self._calling:
            self._changed |= differing(self._settings, settings_of(self.optimizer))
        self._ongoing.step_begins()

    def _after_step(self, optimizer: Any, arguments: Any, named: Any) -> None:
        self._stepped = True
        self._ongoing.step_ended()
        if self._calling:
            self._settings = settings_of(self.optimizer)
        found = getattr(optimizer, "found_inf", None)  # what a scaler says to an optimizer that skips by itself
        if found is not None and float(found):
            self.skipped = True
            self._ongoing.forget()
            return
        update, layers = self._ongoing.finished()
        rates = [float(group["lr"]) for group in self.optimizer.param_groups if "lr" in group]
        if rates and self._stirring is None:
            update.learning_rate = rates[0]
            self._rates |= set(rates)
        if layers is not None:
            update.activations, update.activation_gradients = (
                layers.activations,
                layers.all_gradients(self._ongoing.scale),
            )
            self._layers = layers.found if self._stirring is None else self._layers
        elif self._aside is not None and self._stirring is None:
            update.activations, update.activation_gradients = self._aside.activations, self._aside.activation_gradients
            self._aside = None
        elif self.compiled and update.before is not None and COMPILED not in self.notes:
            self.notes.append(COMPILED)
        self._ongoing.forget()
        self._told(update)

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
