"""The update that goes on: what is seen of a torch module's calls, of its losses and of its gradients until a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.watching.seen import Update
from parity.watching.torch.calls import unscaled
from parity.watching.torch.held import Held
from parity.watching.torch.layers import Layers, divided, prediction_of, tensors

NOT_CALLED = (
    "an update was made, and the watched module was not called before it: watch the module that your loop calls, as "
    "model(x), with gradients on and within the closure if step is handed one. What is compiled hides the "
    "call: compile the module itself, and watch what torch.compile gave"
)
NO_BACKWARD = (
    "an update was made, and no backward pass reached the parameters of the watched module since it was called: call "
    "loss.backward(), torch.autograd.backward or torch.autograd.grad before optimizer.step()"
)


@dataclass
class Pass:
    """What is seen of the module's calls since gradients were cleared, or since the last backward pass."""

    update: Update
    layers: Layers | None


class Ongoing:
    """Follows a loop from the call of its module over its backward passes to the optimizer's step.

    Args:
        held: What the module and the optimizer hold.
        optimizer: The watched optimizer.
        new_pass: Begins to see what follows.
    """

    def __init__(self, held: Held, optimizer: torch.optim.Optimizer, new_pass: Callable[[], Pass]) -> None:
        self._held, self._optimizer, self._new_pass = held, optimizer, new_pass
        self.scale: Tensor | None = None
        """By what a gradient scaler has scaled the losses."""
        self.scaled = False
        """Whether one has scaled any."""
        self.frozen = False
        """Whether the optimizer evaluates its closure again, which is no part of the recording."""
        self.stepping: int | None = None
        """Within the optimizer's step: how many losses there were when it began."""
        # All calls since gradients were cleared, and those since the last backward pass.
        self._passes: list[Pass] = []
        self._called = False  # since the last backward pass
        self._losses: list[Tensor] = []
        self._by_vectors: list[Tensor] = []
        self._by_grad: list[Tensor] = []
        self._pending: tuple[list[tuple[Tensor | None, int]], Tensor | None, bool] | None = None
        self._unclipped: dict[str, Tensor] = {}
        self._as_left: dict[str, tuple[Tensor, int]] = {}  # the gradients that those are copies of
        self._of_gradients: list[Any] = []

    @property
    def seen(self) -> Pass | None:
        """What was seen of the update so far; None if the module was not called."""
        return self._passes[0] if self._passes else None

    @property
    def loss(self) -> Tensor | None:
        """The loss of the update: of the backward passes that reached the parameters since gradients were cleared."""
        losses = self._losses or self._by_vectors or self._by_grad
        return sum(losses[1:], losses[0]) if losses else None

    def called_with(self, arguments: Any) -> None:
        """The module is called. If no loss came since gradients were cleared, earlier calls were for something else."""
        if not self._losses and not self._by_vectors and not self._by_grad:
            self.forget()
            self._passes = [self._new_pass()]
            if self._passes[0].update.before is not None:
                trained = [p for p in self._held.params.values() if p.requires_grad]
                self._of_gradients = [p.register_post_accumulate_grad_hook(self._left) for p in trained]
        elif not self._called:
            self._close(self._passes[1:])
            self._passes[1:] = [self._new_pass()]
        self._called = True
        if self._passes[0].update.before is not None:
            given = list(tensors(arguments))
            copies = [each.detach().clone() for each in given]
            for each in self._passes:
                each.update.inputs += copies
                if each.layers is not None:
                    each.layers.given(given)

    def predicted(self, output: Any) -> None:
        """The module has returned."""
        if self.frozen or not self._passes or self._passes[0].update.before is None:
            return
        said = prediction_of(output).detach().clone()
        for each in self._passes:
            before = each.update.prediction
            each.update.prediction = said if before is None else _joined(before, said)

    def _left(self, p: Tensor) -> None:
        """The backward pass has left a gradient, or added to one."""
        if p.grad is not None:  # else another hook has used it up
            name = self._held.names[id(p)]
            self._unclipped[name], self._as_left[name] = p.grad.detach().clone(), (p.grad, p.grad._version)

    def backward_begins(self, tensors: Sequence[Any], gradients: Sequence[Any]) -> None:
        """A backward pass begins, from these tensors with these gradients."""
        marks = self._marks()
        if self._losses and all(gradient is None for gradient, _ in marks):
            self._cleared()
        if self.frozen or not self._passes:
            self._pending = marks, None, False
            return
        losses, by_vector = [], False
        for k, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                continue
            value, scale = unscaled(tensor) if self.scaled else (tensor.detach(), None)
            self.scale = scale if scale is not None else self.scale
            gradient = gradients[k] if k < len(gradients) else None
            by_vector |= tensor.numel() != 1
            losses.append((value if gradient is None else value * gradient).sum())
        self._pending = marks, sum(losses[1:], losses[0]).clone() if losses else None, by_vector

    def backward_ended(self) -> bool:
        """The backward pass has left its gradients. Says whether it reached the parameters."""
        if self._pending is None:
            return False
        (marks, loss, by_vector), self._pending = self._pending, None
        reached = any(
            gradient is not now or version != changed
            for (gradient, version), (now, changed) in zip(marks, self._marks(), strict=False)
        )
        self._settle(reached)
        if reached and loss is not None:
            (self._by_vectors if by_vector else self._losses).append(loss)
            self._called = False
        return reached

    def differentiated(
        self, outputs: Sequence[Any], inputs: Sequence[Any], gradients: Sequence[Any], create_graph: bool
    ) -> bool:
        """``torch.autograd.grad`` has given gradients. Says whether they are the parameters'."""
        trained = {id(p) for p in self._held.trained()}
        reached = not create_graph and any(id(each) in trained for each in inputs)
        self._settle(reached)
        if reached and self._passes and not self.frozen:
            for tensor, gradient in zip(outputs, [*gradients, *[None] * len(outputs)], strict=False):
                if isinstance(tensor, Tensor):
                    value = tensor.detach()
                    self._by_grad.append((value if gradient is None else value * gradient).sum())
            self._called = False
        return reached

    def clears(self, params: Sequence[Tensor]) -> None:
        """The gradients of these parameters are about to be cleared."""
        if self._passes and not self.frozen:
            cleared = {id(p) for p in params}
            if all(id(p) in cleared or p.grad is None for p in self._held.trained()):
                self._cleared()

    def step_begins(self) -> None:
        """The optimizer begins its step."""
        self.stepping = len(self._losses)
        if self._passes and self.loss is not None and not self.frozen:  # else its closure is called later
            self.take_gradients(self._passes[0].update)

    def step_ended(self) -> None:
        """The optimizer's step is over, or has failed."""
        self.stepping = None

    def freeze(self) -> None:
        """The first evaluation of the optimizer's closure is over, and is the update's."""
        self.take_gradients(self._passes[0].update)
        self._close(self._passes)
        self.frozen = True

    def take_gradients(self, update: Update) -> None:
        """Keep the gradients as the optimizer gets them, and as the backward pass left them; none of them scaled."""
        if update.before is None:
            return
        before = self._unclipped
        grads = {name: p.grad for name, p in self._held.params.items() if p.grad is not None}
        found = {name: self._copy_of(name, grad) for name, grad in grads.items()} or dict(before)
        scale = getattr(self._optimizer, "grad_scale", None)  # of an optimizer that divides by it itself
        if scale is not None:
            found = {name: divided(value, scale) for name, value in found.items()}
        if self.scale is not None:
            before = {name: divided(value, self.scale) for name, value in before.items()}
        update.gradients = found
        both = ((before[name], found[name]) for name in found if name in before)
        if any(one is not other and not torch.equal(one, other) for one, other in both):
            update.unclipped = {name: before.get(name, value) for name, value in found.items()}

    def finished(self) -> tuple[Update, Layers | None]:
        """Give what was seen of the update that the optimizer has made, with its loss.

        Raises:
            ValueError: If the module was not called before it, or no backward pass reached the parameters.
        """
        if (loss := self.loss) is None or not self._passes:
            raise ValueError(NO_BACKWARD if self._passes else NOT_CALLED)
        update, layers = self._passes[0].update, self._passes[0].layers
        if not update.gradients:
            self.take_gradients(update)
        update.loss = loss
        return update, layers

    def forget(self) -> None:
        """Let go of an update that is over, or that was none."""
        self._close(self._passes)
        for hook in self._of_gradients:
            hook.remove()
        self._passes, self._of_gradients, self._unclipped, self._as_left = [], [], {}, {}
        self._losses, self._by_vectors, self._by_grad, self._pending = [], [], [], None
        self._called = self.frozen = self.scaled = False
        self.scale = None

    def _marks(self) -> list[tuple[Tensor | None, int]]:
        """Every gradient, with what tells whether something was added to it."""
        grads = [p.grad for p in self._held.trained()]
        return [(grad, 0 if grad is None else grad._version) for grad in grads]

    def _settle(self, kept: bool) -> None:
        for each in self._passes:
            if each.layers is not None and not self.frozen:
                each.layers.settle(kept)

    def _cleared(self) -> None:
        """Gradients are cleared, so the losses before are none of the update that comes; nor are earlier calls."""
        if self.frozen:
            return
        if self.stepping is not None and len(self._losses) > self.stepping:
            self.freeze()
            return
        self._losses, self._by_vectors, self._by_grad, self._unclipped, self._as_left = [], [], [], {}, {}
        self._close(self._passes[:-1])
        self._passes = self._passes[-1:]
        for each in self._passes:
            each.update.gradients, each.update.unclipped = {}, {}
            if each.layers is not None:
                each.layers.gradients.clear()

    def _copy_of(self, name: str, gradient: Tensor) -> Tensor:
        """Copy a gradient, unless nobody has changed it since the backward pass left it, of which there is a copy."""
        grad, version = self._as_left.get(name, (None, 0))
        return self._unclipped[name] if grad is gradient and gradient._version == version else gradient.detach().clone()

    def _close(self, passes: Sequence[Pass]) -> None:
        for each in passes:
            if each.layers is not None:
                each.layers.close()


def _joined(whole: Tensor, said: Tensor) -> Tensor:
    """Put predictions behind each other, of batches that are padded to other lengths too."""
    if whole.ndim and whole.ndim == said.ndim and whole.shape[1:] == said.shape[1:]:
        return torch.cat([whole, said])
    return torch.cat([whole.reshape(-1), said.reshape(-1)])
