"""A model of any framework as ``transfer`` sees it: its tensors by name, how one is set, and how it is called."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from parity.recording.layers import layers_of
from parity.recording.reader import read
from parity.recording.tensors import as_array, dtype_name, flat
from parity.typing import Array
from parity.watching.flow import COLLECTIONS, PREDICTIONS

Call = Callable[[Sequence[Any], Mapping[str, Any]], Any]


@dataclass
class Model:
    """A model's tensors by name, and how one is set."""

    tensors: dict[str, Array]
    put: Callable[[str, Array], None]
    dtype: str = "float32"
    kinds: Mapping[str, str] = field(default_factory=dict)
    """The kind of each layer, as far as the framework says it."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The settings of each layer that its weights alone do not say: its heads, whether its kernel is transposed."""
    turned: bool = False
    """Whether the framework has kernels (out, in)."""
    defined: bool = False
    """Whether tensors come in the order in which the model's code defines its layers."""
    call: Call | None = None
    """The model's output for positional and named inputs, without dropout and with running statistics."""

    def predict(self, inputs: Any) -> Array:
        """Call the model and take its prediction, in NumPy.

        Args:
            inputs: An array, several in a tuple or list, or a mapping of the names of arguments to arrays.

        Returns:
            The prediction.

        Raises:
            ValueError: If it cannot be called, or gives no floats.
        """
        if self.call is None:
            raise ValueError(
                "a forward pass takes models that can be called: hand over a torch module, a Keras model, an nnx "
                "module, or (module, variables) of flax's linen, not its weights alone"
            )
        positional = () if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple | list) else (inputs,)
        output = self.call(tuple(positional), inputs if isinstance(inputs, Mapping) else {})
        found = next(_floats(output), None)
        if found is None:
            raise ValueError("the model gives no tensor of floats, so that no forward pass can be compared")
        return found


def model_of(model: Any) -> Model:
    """See what a user hands over as a model.

    Args:
        model: A recording's folder, a torch module, a Keras model, an nnx module, a tree of flax's parameters, or a
            pair of a flax module, or a function of variables and inputs, and its variables.

    Returns:
        The model.

    Raises:
        ValueError: If it is none of these.
        TrajectoryError: If a recording cannot be read.
    """
    nnx = sys.modules.get("flax.nnx")
    if isinstance(model, str | os.PathLike):
        return _recorded(model)
    if hasattr(model, "named_parameters"):
        return _torch(model)
    if isinstance(model, Mapping):
        return _tree(model)
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[1], Mapping):
        module, variables = model
        apply = getattr(module, "apply", module)
        if callable(apply):
            found = _tree(variables)
            whole = variables if set(COLLECTIONS) & variables.keys() or not hasattr(module, "apply") else None
            found.call = lambda inputs, named: apply(
                whole if whole is not None else {"params": variables}, *inputs, **named
            )
            return found
    if nnx is not None and isinstance(model, nnx.Module):
        return _nnx(model, nnx)
    if hasattr(model, "variables") and not callable(model.variables):
        return _keras(model)
    raise ValueError(
        f"weights are carried from and to a torch module, a Keras model, an nnx module, a tree of flax's parameters or "
        f"a flax module with its variables, not a {type(model).__name__}"
    )


def _recorded(folder: Any) -> Model:
    run = read(folder)
    layers = list(layers_of(run))
    return Model(
        {name: np.asarray(stack[0]) for name, stack in run.params.items()},
        _refuse,
        str(run.meta.get("dtype", "float32")),
        {layer.name: layer.kind for layer in layers},
        {layer.name: layer.configuration for layer in layers},
        turned=str(run.meta.get("implementation", "")).startswith("torch"),
    )


def _refuse(name: str, value: Array) -> None:
    raise ValueError("a recording stays as it is: weights go into a model")


def unsaved(model: Any) -> set[str]:
    """The buffers of a torch module that torch does not save: they are constants of the code, as a mask is."""
    kept: dict[str, Any] = model.state_dict(keep_vars=True)
    return {name for name, _ in model.named_buffers() if name not in kept}


def _torch(model: Any) -> Model:
    constant = unsaved(model)
    held = dict(model.named_parameters()) | {
        name: value for name, value in model.named_buffers() if value.is_floating_point() and name not in constant
    }
    modules = dict(model.named_modules())

    def call(inputs: Sequence[Any], named: Mapping[str, Any]) -> Any:
        torch, first = sys.modules["torch"], next(iter(held.values()))

        def put(value: Any) -> Any:
            tensor = torch.as_tensor(value if hasattr(value, "detach") else np.asarray(value), device=first.device)
            return tensor.to(first.dtype) if tensor.is_floating_point() else tensor

        training = {module: module.training for module in modules.values()}
        model.eval()
        try:
            with torch.no_grad():
                return model(*map(put, inputs), **{name: put(value) for name, value in named.items()})
        finally:
            for module, was in training.items():
                module.training = was

    return Model(
        {name: as_array(value) for name, value in held.items()},
        lambda name, value: held[name].data.copy_(held[name].new_tensor(value)),
        _dtype_of(held.values()),
        {name: type(module).__name__ for name, module in modules.items()},
        {name: {"num_heads": m.num_heads} for name, m in modules.items() if isinstance(_own(m, "num_heads"), int)},
        turned=True,
        defined=True,
        call=call,
    )


def _own(module: Any, name: str) -> Any:
    return vars(module).get(name)


def _tree(tree: Any) -> Model:
    parts = {key: inner for key, inner in tree.items() if key in COLLECTIONS and isinstance(inner, Mapping)}
    leaves: dict[str, tuple[Any, str, Any]] = {}
    for part in parts.values() or [tree]:
        leaves |= {name: (part, name, value) for name, value in flat(part, "weights")}
    return Model(
        {name: as_array(value) for name, (_, _, value) in leaves.items()},
        lambda name, value: _set(leaves[name][0], name, value),
        _dtype_of(value for _, _, value in leaves.values()),
    )


def _set(tree: Any, name: str, value: Array) -> None:
    """Set a leaf of nested dictionaries, by its name as ``flat`` gives it, to a value of its own dtype."""
    for key, inner in tree.items():
        if str(key) == name:
            if not isinstance(tree, MutableMapping):
                raise ValueError(f"{name} is in a tree that cannot be changed: hand over one of dictionaries")
            tree[key] = inner.at[...].set(value) if hasattr(inner, "at") else np.asarray(value, inner.dtype)
            return
        if isinstance(inner, Mapping) and name.startswith(f"{key}/"):
            _set(inner, name.removeprefix(f"{key}/"), value)
            return


def _nnx(model: Any, nnx: Any) -> Model:
    state = {
        "/".join(map(str, path)): variable
        for path, variable in nnx.iter_graph(model)
        if isinstance(variable, nnx.Variable) and "float" in str(getattr(variable, "dtype", ""))
    }
    modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}

    def put(name: str, value: Array) -> None:
        held = state[name].get_value()
        state[name].set_value(held.at[...].set(value))

    def call(inputs: Sequence[Any], named: Mapping[str, Any]) -> Any:
        copy = nnx.clone(model)
        copy.eval()
        return copy(*inputs, **named)

    return Model(
        {name: as_array(variable.get_value()) for name, variable in state.items()},
        put,
        _dtype_of(state.values()),
        {name: type(module).__name__ for name, module in modules.items()},
        {
            name: {"transpose_kernel": module.transpose_kernel}
            for name, module in modules.items()
            if isinstance(_own(module, "transpose_kernel"), bool)
        },
        call=call,
    )


def _keras(model: Any) -> Model:
    variables = {
        str(v.path).removeprefix(f"{model.path or model.name}/").removeprefix(f"{model.name}/"): v
        for v in model.variables
        if "float" in str(v.dtype)
    }
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    return Model(
        {name: as_array(v) for name, v in variables.items()},
        lambda name, value: variables[name].assign(value),
        _dtype_of(variables.values()),
        {str(layer.path or layer.name).removeprefix(f"{model.name}/"): type(layer).__name__ for layer in layers},
        # What Keras builds from a graph of layers comes in the graph's order.
        defined=type(model).call is not _base_call(model),
        call=lambda inputs, named: model(*inputs, **named, training=False),
    )


def _base_call(model: Any) -> Any:
    """The ``call`` of Keras's own class that a model is built by; None if its class brings its own."""
    owner = next((cls for cls in type(model).__mro__ if "call" in vars(cls)), None)
    return owner.__dict__["call"] if owner is not None and owner.__module__.startswith("keras.") else None


def _dtype_of(tensors: Any) -> str:
    """The dtype of the first tensor of floats."""
    for tensor in tensors:
        try:
            return dtype_name(tensor.dtype)
        except ValueError:
            continue
    return "float32"


def _floats(output: Any) -> Iterator[Array]:
    """Every tensor of floats in a model's output, the prediction first."""
    if isinstance(output, Mapping):
        named = [name for name in PREDICTIONS if name in output]
        for name in (*named, *(name for name in output if name not in named)):
            yield from _floats(output[name])
    elif isinstance(output, tuple | list):
        for each in output:
            yield from _floats(each)
    elif hasattr(output, "shape") and "float" in str(output.dtype):
        yield as_array(output)
