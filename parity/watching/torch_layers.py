"""See the layers of a torch module while it runs, and move their rounding errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from parity.watching.seen import Layer

FIRST = ("logits", "prediction", "last_hidden_state")
"""Of a model's named outputs, the first of these is its prediction; else its first tensor of floats."""


class Layers:
    """The layers that one update runs, by hooks on every module below ``root``, or on it if there is none below.

    ``activations`` and ``gradients`` fill as the update goes on. A layer that is called again is another, ``-call2``
    behind its name; of several outputs the second is ``-out1``. A tensor that came from no layer, as a function's
    result, is kept as the input of the layer that takes it: ``-in0``.
    """

    def __init__(self, root: nn.Module) -> None:
        self.activations: dict[str, Tensor] = {}
        self.gradients: dict[str, Tensor] = {}
        self.found: list[Layer] = []
        self._names: dict[tuple[int, int], str] = {}
        self._alive: list[Tensor] = []  # or another tensor could be taken for one that is gone
        self._calls: dict[str, int] = {}
        self._open: list[tuple[str, list[str]]] = []
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
        self._names, self._alive = {}, []

    def given(self, tensors: Sequence[Tensor]) -> None:
        """Name what the model was given. The model's own hooks ran before."""
        names = [f"input-{number}" for number in range(len(tensors))]
        for tensor, name in zip(tensors, names, strict=True):
            self._name(tensor, name)
        if self._alone:
            self._open.append((self._alone, names))

    def _before(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, arguments: Any, named: Any) -> None:
            self._calls[name] = self._calls.get(name, 0) + 1
            label = name if self._calls[name] == 1 else f"{name}-call{self._calls[name]}"
            inputs = []
            leaf = not any(True for _ in module.children())
            for number, tensor in enumerate(floats((arguments, named))):
                known = self._names.get(_key(tensor), "")
                if not known and leaf:
                    known = f"{label}-in{number}"
                    self._keep(tensor, known)
                inputs.append(known)
            self._open.append((label, inputs))

        return hook

    def _after(self, module: nn.Module, arguments: Any, named: Any, output: Any) -> None:
        label, inputs = self._open.pop()
        outputs, new = [], False
        for number, tensor in enumerate(floats(output)):
            known = self._names.get(_key(tensor))
            if known is None:
                known, new = label if number == 0 else f"{label}-out{number}", True
                self._keep(tensor, known)
            outputs.append(known)
        if new:  # else it hands on what a layer within it gave
            kind, said = type(module).__name__, configuration(module)
            self.found.append(
                Layer(name=label, kind=kind, configuration=said, inputs=tuple(inputs), outputs=tuple(outputs))
            )

    def _keep(self, tensor: Tensor, name: str) -> None:
        self._name(tensor, name)
        self.activations[name] = tensor.detach().clone()
        if tensor.requires_grad:
            tensor.register_hook(lambda gradient: self._gradient(name, gradient))

    def _gradient(self, name: str, gradient: Tensor) -> None:
        self.gradients[name] = gradient.detach().clone()

    def _name(self, tensor: Tensor, name: str) -> None:
        self._names[_key(tensor)] = name
        self._alive.append(tensor)


def _key(tensor: Tensor) -> tuple[int, int]:
    # What is written in place becomes another tensor.
    return id(tensor), tensor._version


def configuration(module: nn.Module) -> dict[str, Any]:
    """Say how a module is set: every public attribute that is a plain value."""
    found = {}
    for name, value in vars(module).items():
        if not name.startswith("_") and name != "training" and (plain := as_plain(value)) is not None:
            found[name] = plain
    return found | {"training": module.training}


def as_plain(value: Any) -> Any:
    """Give a value as JSON can hold it; None if it is none of a setting's kinds."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, Tensor) and value.numel() == 1:
        return as_plain(value.item())
    if isinstance(value, tuple | list) and all(as_plain(each) is not None for each in value):
        return [as_plain(each) for each in value]
    if isinstance(value, torch.dtype | torch.Size):
        return str(value)
    return None


def floats(found: Any) -> Iterator[Tensor]:
    """Every tensor of floats in what a module takes or gives, in order."""
    if isinstance(found, Tensor):
        if found.is_floating_point():
            yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from floats(value)
    elif isinstance(found, tuple | list):
        for value in found:
            yield from floats(value)


def tensors(found: Any) -> Iterator[Tensor]:
    """Every tensor in what a module takes, in order."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, Mapping):
        for value in found.values():
            yield from tensors(value)
    elif isinstance(found, tuple | list):
        for value in found:
            yield from tensors(value)


def prediction_of(output: Any) -> Tensor:
    """The tensor among a model's outputs that is its prediction; ValueError if it gives no floats."""
    if isinstance(output, Mapping):
        for name in FIRST:
            if isinstance(output.get(name), Tensor):
                found: Tensor = output[name]
                return found
    first = next(floats(output), None)
    if first is None:
        raise ValueError("the model gives no tensor of floats: watch the module that predicts")
    return first


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
