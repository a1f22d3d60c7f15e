"""See the layers of a Keras model on TensorFlow, and the gradients its optimizer gets, in an update made aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parity.watching.seen import Layer


class Layers:
    """What an update gives on its way, eager and not compiled, while ``watching`` lasts.

    ``tf.custom_gradient`` gives its function numbers on the way forward, and on the way back, whichever tape is the
    user's: an identity with such a gradient tells both.
    """

    def __init__(self, model: Any, name_of: Callable[[Any], str]) -> None:
        self.activations: dict[str, Any] = {}
        self.gradients: dict[str, Any] = {}
        self.found: list[Layer] = []
        self.prediction: Any = None
        self.inputs: list[Any] = []
        self.of_params: dict[str, Any] = {}
        self._model, self._name_of = model, name_of
        self._known = {id(layer): layer for layer in model._flatten_layers()}
        self._names: dict[int, str] = {}
        self._alive: list[Any] = []
        self._calls: dict[str, int] = {}

    @contextmanager
    def watching(self, optimizer: Any) -> Iterator[None]:
        """Watch every layer of the model that is called, and what the optimizer is given."""
        call, apply, eager = keras.layers.Layer.__call__, optimizer.apply, tf.config.functions_run_eagerly()

        def called(layer: Any, *arguments: Any, **named: Any) -> Any:
            if id(layer) not in self._known:
                return call(layer, *arguments, **named)
            return self._called(layer, lambda *a, **n: call(layer, *a, **n), arguments, named)

        def applied(gradients: Any, variables: Any = None) -> Any:
            trained = list(variables) if variables is not None else list(optimizer._trainable_variables)
            pairs = zip(gradients, trained, strict=True)
            self.of_params = {self._name_of(v): tf.convert_to_tensor(g) for g, v in pairs if g is not None}
            return apply(gradients, variables)

        keras.layers.Layer.__call__, optimizer.apply = called, applied
        tf.config.run_functions_eagerly(True)
        try:
            yield
        finally:
            tf.config.run_functions_eagerly(eager)
            keras.layers.Layer.__call__ = call
            del optimizer.apply

    def _tap(self, tensor: Any, name: str) -> Any:
        @tf.custom_gradient  # type: ignore[untyped-decorator,unused-ignore]
        def identity(x: Any) -> Any:
            self.activations[name] = x

            def back(gradient: Any) -> Any:
                self.gradients[name] = gradient
                return gradient

            return tf.identity(x), back

        found = identity(tensor)
        if hasattr(tensor, "_keras_mask"):
            found._keras_mask = tensor._keras_mask
        self._names[id(found)] = name
        self._alive.append(found)
        return found

    def _called(self, layer: Any, following: Callable[..., Any], arguments: Any, named: Any) -> Any:
        root = layer is self._model
        name = type(layer).__name__ if root else path_of(self._model, layer)
        self._calls[name] = self._calls.get(name, 0) + 1
        label = name if self._calls[name] == 1 else f"{name}-call{self._calls[name]}"
        if root:
            self.inputs += [leaf for leaf in tf.nest.flatten(arguments) if hasattr(leaf, "shape")]
        inside = any(True for _ in layer._flatten_layers(include_self=False))
        inputs: list[str] = []

        def taken(tensor: Any) -> Any:
            if not is_float(tensor):
                return tensor
            known = self._names.get(id(tensor), "")
            if not known and not inside:
                known = f"{label}-in{len(inputs)}"
                tensor = self._tap(tensor, known)
            inputs.append(known)
            return tensor

        arguments = keras.tree.map_structure(taken, arguments)
        output, outputs, before = following(*arguments, **named), list[str](), len(self.activations)

        def given(tensor: Any) -> Any:
            if not is_float(tensor):
                return tensor
            known = self._names.get(id(tensor))
            if known is None:
                known = label if not outputs else f"{label}-out{len(outputs)}"
                tensor = self._tap(tensor, known)
            outputs.append(known)
            return tensor

        output = keras.tree.map_structure(given, output)
        if root:
            self.prediction = next((self.activations[each] for each in outputs), None)
        if len(self.activations) > before:
            kind, said = type(layer).__name__, configuration(layer)
            self.found.append(
                Layer(name=label, kind=kind, configuration=said, inputs=tuple(inputs), outputs=tuple(outputs))
            )
        return output


def is_float(leaf: Any) -> bool:
    """Say whether a leaf is a tensor of floats."""
    return isinstance(leaf, tf.Tensor) and leaf.dtype.is_floating


def path_of(model: Any, layer: Any) -> str:
    """Name a layer by its path within the model."""
    path = layer.path or layer.name
    return str(path).removeprefix(f"{model.path or model.name}/")


def configuration(layer: Any) -> dict[str, Any]:
    """Say how a layer is set: every entry of its configuration that is a plain value."""
    try:
        said = layer.get_config()
    except NotImplementedError:
        return {}
    found = {name: as_plain(value) for name, value in said.items() if name not in ("name", "trainable")}
    return {name: value for name, value in found.items() if value is not None}


def as_plain(value: Any) -> Any:
    """Give a value as JSON can hold it; None if it is none of a setting's kinds."""
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(value)
    if isinstance(value, tuple | list) and all(as_plain(each) is not None for each in value):
        return [as_plain(each) for each in value]
    return None
