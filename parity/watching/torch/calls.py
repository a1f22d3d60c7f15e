"""Hear of torch's own functions when a training loop calls them: backward passes, cleared gradients, scaled losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn

SCALED = "parity: scaled from"
"""Under this name the graph of a scaled loss keeps the loss and its scale."""
NEAR = 64
"""A scaled loss is looked for among so many operations before the one that made a tensor."""


class Listener(Protocol):
    """Who is told of the calls. A method that raises keeps the call from being made."""

    def backward_begins(self, tensors: Sequence[Any], gradients: Sequence[Any]) -> None:
        """A backward pass begins, from these tensors with these gradients, of which each may be None."""
        ...

    def backward_ended(self) -> None:
        """The backward pass has left its gradients."""
        ...

    def differentiated(
        self, outputs: Sequence[Any], inputs: Sequence[Any], gradients: Sequence[Any], create_graph: bool
    ) -> None:
        """``torch.autograd.grad`` has given gradients of outputs for inputs."""
        ...

    def clears(self, params: Sequence[Tensor]) -> None:
        """The gradients of these parameters are about to be cleared."""
        ...

    def scales(self, scaler: Any) -> None:
        """A gradient scaler is about to scale a loss."""
        ...

    def scaler_steps(self, optimizer: Any) -> None:
        """A gradient scaler is about to step an optimizer, or to skip its update."""
        ...

    def scheduled(self, scheduler: Any) -> None:
        """A scheduler of learning rates is about to make a step."""
        ...


_listeners: list[Listener] = []
_originals: list[tuple[Any, str, Any]] = []
_passes: list[None] = []  # one for each backward pass that goes on: a checkpoint makes one within another


def listen(listener: Listener) -> None:
    """Tell a listener of every call from now on."""
    if not _listeners:
        _replace(torch.autograd, "backward", _backward)
        _replace(torch.autograd, "grad", _grad)
        _replace(torch.optim.Optimizer, "zero_grad", _clear)
        _replace(nn.Module, "zero_grad", _clear)
        _replace(torch.amp.GradScaler, "scale", _scale)
        _replace(torch.amp.GradScaler, "step", _scaler_step)
        for kind in {torch.optim.lr_scheduler.LRScheduler, *_below(torch.optim.lr_scheduler.LRScheduler)}:
            if "step" in vars(kind):
                _replace(kind, "step", _schedule)
    _listeners.append(listener)


def leave(listener: Listener) -> None:
    """Tell it no more; after the last listener torch is as it was."""
    _listeners.remove(listener)
    while _originals and not _listeners:
        setattr(*_originals.pop())


def in_backward() -> bool:
    """Say whether a backward pass goes on."""
    return bool(_passes)


def unscaled(tensor: Tensor) -> tuple[Tensor, Tensor | None]:
    """Give a loss as it was before a gradient scaler scaled it, and by what it was scaled; None if it was not."""
    waiting, seen = [tensor.grad_fn], set[Any]()
    while waiting and len(seen) < NEAR:
        node = waiting.pop(0)
        if node is None or node in seen:
            continue
        seen.add(node)
        if SCALED in node.metadata:
            loss, scale = node.metadata[SCALED]
            value = tensor.detach()
            return (loss if node is tensor.grad_fn else value.to(loss.dtype) / scale.to(value.device)), scale
        waiting += [each for each, _ in node.next_functions]
    return tensor.detach(), None


def as_tuple(found: Any) -> tuple[Any, ...]:
    """Give one tensor, several or none as torch's functions take them, as a tuple."""
    if found is None or isinstance(found, Tensor):
        return (found,)
    return tuple(found.values() if isinstance(found, Mapping) else found)


def _replace(owner: Any, name: str, around: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        return around(original, *arguments, **named)

    _originals.append((owner, name, original))
    setattr(owner, name, called)


def _below(kind: Any) -> Iterator[Any]:
    for each in kind.__subclasses__():
        yield each
        yield from _below(each)


def _backward(original: Callable[..., Any], tensors: Any, grad_tensors: Any = None, *rest: Any, **named: Any) -> None:
    outermost = not _passes
    if outermost:
        given = as_tuple(grad_tensors if grad_tensors is not None else named.get("grad_variables"))
        for listener in _listeners:
            listener.backward_begins(as_tuple(tensors), given)
    _passes.append(None)
    try:
        original(tensors, grad_tensors, *rest, **named)
    finally:
        _passes.pop()
    if outermost:
        for listener in _listeners:
            listener.backward_ended()


def _grad(
    original: Callable[..., Any],
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: Any = None,
    create_graph: bool = False,
    *rest: Any,
    **named: Any,
) -> Any:
    inputs = inputs if isinstance(inputs, Tensor | Mapping) else tuple(inputs)  # a generator is read once
    found = original(outputs, inputs, grad_outputs, retain_graph, create_graph, *rest, **named)
    if not _passes:
        for listener in _listeners:
            listener.differentiated(as_tuple(outputs), as_tuple(inputs), as_tuple(grad_outputs), create_graph)
    return found


def _clear(original: Callable[..., Any], owner: Any, *arguments: Any, **named: Any) -> None:
    if isinstance(owner, nn.Module):
        params = list(owner.parameters())
    else:
        params = [p for group in owner.param_groups for p in group["params"]]
    for listener in _listeners:
        listener.clears(params)
    original(owner, *arguments, **named)


def _scale(original: Callable[..., Any], scaler: Any, outputs: Any) -> Any:
    for listener in _listeners:
        listener.scales(scaler)
    outputs = outputs if isinstance(outputs, Tensor | list | tuple) else list(outputs)
    found = original(scaler, outputs)
    scale = getattr(scaler, "_scale", None)
    if scaler.is_enabled() and scale is not None:
        _mark(outputs, found, scale.detach().clone())
    return found


def _mark(outputs: Any, scaled: Any, scale: Tensor) -> None:
    if not isinstance(outputs, Tensor):
        for output, each in zip(outputs, scaled, strict=True):
            _mark(output, each, scale)
    elif scaled.grad_fn is not None:
        scaled.grad_fn.metadata[SCALED] = outputs.detach().clone(), scale


def _scaler_step(original: Callable[..., Any], scaler: Any, optimizer: Any, *arguments: Any, **named: Any) -> Any:
    for listener in _listeners:
        listener.scaler_steps(optimizer)
    return original(scaler, optimizer, *arguments, **named)


def _schedule(original: Callable[..., Any], scheduler: Any, *arguments: Any, **named: Any) -> Any:
    for listener in _listeners:
        listener.scheduled(scheduler)
    return original(scheduler, *arguments, **named)
