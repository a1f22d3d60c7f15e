"""See the layers of a torch module while it runs, and move their rounding errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.recording.layers import Layer
from parity.watching.flow import PREDICTIONS, Call, Flow, as_plain, base_of


class Layers:
    """The layers that one update runs, by hooks on every module below ``root``, or on it if there is none below.

    ``activations`` fill as the update goes on, and ``gradients`` when a backward pass ends, to which the next adds.
    """

    def __init__(self, root: nn.Module) -> None:
        self.activations: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self._coming: dict[str, Tensor] = {}
        # What is written in place becomes another tensor.
        self._flow = Flow(self._keep, lambda tensor: (id(tensor), tensor._version))
        self._open: list[Call] = []
        inner = [(name, module) for name, module in root.named_modules() if name]
        self._hooks = []
        self._alone = "" if inner else type(root).__name__
        if self._alone:  # its call has begun already: see ``given``
            self._hooks.append(root.register_forward_hook(self._after, with_kwargs=True))
        for name, module in inner:
            self._hooks.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._after, with_kwargs=True))

    def close(self) -> None:
        """Take the hooks away and let go of the tensors."""
        for hook in self._hooks:
            hook.remove()
        self._flow.close()
        # What points here is freed by the garbage collector alone, when it comes: these are not to wait for it.
        self.activations, self.gradients = {}, {}

    @property
    def found(self) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return self._flow.found

    def given(self, tensors: Sequence[Tensor]) -> None:
        """Name what the model was given. The model's own hooks ran before."""
        names = [f"input-{number}" for number in range(len(tensors))]
        for tensor, name in zip(tensors, names, strict=True):
            self._flow.name(tensor, name)
        if self._alone:
            self._open.append(self._flow.call(self._alone, leaf=True))
            self._open[-1].inputs += names

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, named: Any) -> None:
            call = self._flow.call(name, leaf=not any(True for _ in module.children()))
            for tensor in floats((arguments, named)):
                call.taken(tensor)
            self._open.append(call)

        return hook

    def _after(self, module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
        call = self._open.pop()
        for tensor in floats(output):
            call.given(tensor)
        call.end(type(module).__name__, configuration(module) | base_of(type(module)))

    def _keep(self, tensor: Tensor, name: str) -> Tensor:
        self.activations[name] = tensor.detach().clone()
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._gradient(name, gradient))
        return tensor

    def _gradient(self, name: str, gradient: Tensor) -> None:
        self._coming[name] = gradient.detach().clone()

    def settle(self, kept: bool) -> None:
        """End a backward pass; it is ``kept`` if it is one of the update's."""
        coming, self._coming = self._coming, {}
        if kept:
            self.gradients |= {name: self._with_earlier(name, value) for name, value in coming.items()}

    def all_gradients(self, scale: Tensor | None = None) -> dict[str, Tensor]:
        """The gradients, without the scale of a gradient scaler."""
        if scale is None:
            return self.gradients
        return {name: divided(value, scale) for name, value in self.gradients.items()}

    def _with_earlier(self, name: str, gradient: Tensor) -> Tensor:
        return self.gradients[name] + gradient if name in self.gradients else gradient


def divided(value: Tensor, scale: Tensor) -> Tensor:
    """Take a gradient scaler's scale out, as that does; in float32 at least, where nothing is lost below its range."""
    inverse = scale.double().reciprocal().float().to(value.device)
    return value.to(torch.promote_types(value.dtype, torch.float32)) * inverse


def configuration(module: nn.Module) -> dict[str, Any]:
    """Say how a module is set: every public attribute that is a plain value."""
    found = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and name != "training" and (said := plain(value)) is not None:
            found[name] = said
    return found | {"training": module.training}


def plain(value: Any) -> Any:
    """Give a setting of torch's as JSON can hold it: see ``as_plain``."""
    return as_plain(value, _of_torch)


def _of_torch(value: Any) -> Any:
    if isinstance(value, Tensor) and value.numel() == 1:
        return as_plain(value.item())
    return str(value) if isinstance(value, torch.dtype | torch.Size) else None


def floats(found: Any) -> Iterator[Tensor]:
    """Every tensor of floats in what a module takes or gives, in order."""
    return (tensor for tensor in tensors(found) if tensor.is_floating_point())


def tensors(found: Any) -> Iterator[Tensor]:
    """Every tensor in what a module takes or gives, in order."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping | tuple | list):
        for value in found.values() if isinstance(found, Mapping) else found:
            yield from tensors(value)


def prediction_of(output: Any) -> Tensor:
    """The tensor among a model's outputs that is its prediction; ValueError if it gives no floats."""
    if isinstance(output, Mapping):
        for name in PREDICTIONS:
            if isinstance(output.get(name), Tensor):
                found: Tensor = output[name]
                return found
    first = next(floats(output), None)
    if first is None:
        raise ValueError("the model gives no tensor of floats: watch the module that predicts")
    return first


def returned_loss(result: Any) -> Any:
    """Find in what a closure returned what stands where the loss does; None if there is nothing."""
    if isinstance(result, Mapping):
        return result.get("loss")
    if isinstance(result, tuple | list):
        return result[0] if result else None
    return result if isinstance(result, Tensor) else getattr(result, "loss", result)


def loss_of(result: Any) -> Tensor:
    """Find the loss in what a closure returned: it alone, the first of a tuple, or a mapping's ``loss``.

    Raises:
        ValueError: If there is no number that a backward pass can begin with, with what to return.

    Examples:
        >>> loss = torch.ones((), requires_grad=True) * 2
        >>> loss_of((loss, "logits")) is loss, loss_of({"loss": loss}) is loss
        (True, True)
    """
    found = returned_loss(result)
    if not isinstance(found, Tensor):
        what = f"a {type(result).__name__}" if result is not None else "nothing"
        inside = " with no tensor of the name loss" if isinstance(result, Mapping) else ""
        raise ValueError(
            f"the closure returned {what}{inside}, from which no backward pass can begin: let it return the loss as a "
            "tensor, not loss.item(), alone, first in a tuple or as a mapping's loss; or let it call loss.backward()"
        )
    if found.numel() != 1:
        raise ValueError(
            f"the closure returned a tensor of shape {tuple(found.shape)}, and a loss is one number: return its mean "
            "or sum, or let the closure call backward"
        )
    if not found.requires_grad:
        raise ValueError(
            "the closure returned a loss without a gradient, and made no backward pass that reached the watched "
            "module's parameters: compute the loss from model(x) with gradients on, and do not detach it"
        )
    return found


class Stirring:
    """Move the rounding errors of a torch module: inputs, every layer's outputs and their gradients, by one unit.

    Without ``layers``, because the module is compiled and does not call their hooks, the inputs alone.
    """

    def __init__(self, root: nn.Module, seed: int, device: torch.device, layers: bool = True) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._hooks = [root.register_forward_pre_hook(self._inputs, with_kwargs=True)]
        leaves = [module for module in root.modules() if layers and not any(True for _ in module.children())]
        self._hooks += [module.register_forward_hook(self._outputs) for module in leaves]

    def close(self) -> None:
        """Take the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def moved(self, values: Tensor) -> Tensor:
        """Move each value by one unit in its last place, up or down at random; zeros and what is not finite stay."""
        signs = torch.randint(0, 2, values.shape, generator=self._generator, device=values.device) * 2 - 1
        towards = signs.to(values.dtype) * float("inf")
        return torch.where((values == 0) | ~values.isfinite(), values, torch.nextafter(values, towards))

    def _inputs(self, module: nn.Module, arguments: Any, named: Any) -> Any:
        return _mapped(arguments, self._moved_where_float), _mapped(named, self._moved_where_float)

    def _outputs(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        return _mapped(output, self._through)

    def _moved_where_float(self, tensor: Tensor) -> Tensor:
        return self.moved(tensor.detach()) if tensor.is_floating_point() and not tensor.requires_grad else tensor

    def _through(self, tensor: Tensor) -> Tensor:
        """Move a tensor, and its gradient when that comes back."""
        if not tensor.is_floating_point():
            return tensor
        with torch.no_grad():
            by = self.moved(tensor) - tensor
        found = tensor + by
        if found.requires_grad:
            found.register_hook(self.moved)
        return found


def _mapped(found: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(found, Tensor):
        return change(found)
    if type(found) in (tuple, list):
        return type(found)(_mapped(value, change) for value in found)
    if type(found) is dict:
        return {key: _mapped(value, change) for key, value in found.items()}
    return found
