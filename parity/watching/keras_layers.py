"""See the layers of a Keras model on TensorFlow, and the gradients that its optimizer gets, in an eager update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from parity.recording.layers import Layer
from parity.watching.flow import Flow, as_plain, base_of


class Layers:
    """What an update gives on its way, eager and not compiled, while ``watching`` lasts.

    ``tf.custom_gradient`` gives its function numbers on the way forward, and on the way back, whichever tape is the
    user's: an identity with such a gradient tells both. What it hands on, either way, is what ``moved`` makes of it.

    Args:
        model: The model whose layers are seen.
        name_of: Names a variable.
        moved: Stirs a tensor.
        taps: Whether such identities are put in. Without them the tape computes what it would compute unwatched, to
            the bit, and whoever holds it asks it for the gradients of ``activations``.
    """

    def __init__(
        self,
        model: Any,
        name_of: Callable[[Any], str],
        moved: Callable[[Any], Any] = lambda tensor: tensor,
        taps: bool = True,
    ) -> None:
        self._moved, self._taps = moved, taps
        self.activations: dict[str, Any] = {}
        self.gradients: dict[str, Any] = {}
        self._flow = Flow(self._tap)
        self.prediction: Any = None
        self.inputs: list[Any] = []
        self.of_params: dict[str, Any] = {}
        self._model, self._name_of = model, name_of
        self._known = {id(layer): layer for layer in model._flatten_layers()}

    @property
    def found(self) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return self._flow.found

    def forget(self) -> None:
        """Let go of all numbers: what points here is freed by the garbage collector alone, when it comes."""
        self.activations, self.gradients, self.of_params = {}, {}, {}
        self.prediction, self.inputs = None, []
        self._flow.close()

    @contextmanager
    def watching(self, optimizer: Any) -> Iterator[None]:
        """Watch every layer of the model that is called, and the gradients of which the optimizer makes its update."""
        call, eager = keras.layers.Layer.__call__, tf.config.functions_run_eagerly()

        def called(layer: Any, *arguments: Any, **named: Any) -> Any:
            return self.called(call, layer, arguments, named)

        with replaced(keras.layers.Layer, __call__=called), self.applying(optimizer):
            tf.config.run_functions_eagerly(True)
            try:
                yield
            finally:
                tf.config.run_functions_eagerly(eager)

    @contextmanager
    def applying(self, optimizer: Any) -> Iterator[None]:
        """Keep the gradients of which the optimizer makes its update."""
        apply, clip = optimizer.apply, optimizer._clip_gradients

        def applied(gradients: Any, variables: Any = None) -> Any:
            trained = list(variables) if variables is not None else list(optimizer._trainable_variables)
            pairs = zip(gradients, trained, strict=True)
            self.of_params = {self._name_of(v): tf.convert_to_tensor(g) for g, v in pairs if g is not None}
            return apply(gradients, trained)

        def clipped(gradients: Any) -> Any:
            found = clip(gradients)
            if len(found) == len(self.of_params):
                self.of_params = dict(zip(self.of_params, map(tf.convert_to_tensor, found), strict=True))
            return found

        with replaced(optimizer, apply=applied, _clip_gradients=clipped):
            yield

    def called(self, call: Callable[..., Any], layer: Any, arguments: Any, named: Any) -> Any:
        """Call a layer by ``call``, and keep what it gives if it is one of the model's."""
        if id(layer) not in self._known:
            return call(layer, *arguments, **named)
        return self._called(layer, lambda *a, **n: call(layer, *a, **n), arguments, named)

    def _tap(self, tensor: Any, name: str) -> Any:
        if not self._taps:
            self.activations[name] = tensor
            return tensor

        @tf.custom_gradient  # type: ignore[untyped-decorator,unused-ignore]
        def identity(x: Any) -> Any:
            self.activations[name] = x

            def back(gradient: Any) -> Any:
                self.gradients[name] = gradient
                return self._moved(gradient)

            return tf.identity(self._moved(x)), back

        found = identity(tensor)
        if hasattr(tensor, "_keras_mask"):
            found._keras_mask = tensor._keras_mask
        return found

    def _called(self, layer: Any, following: Callable[..., Any], arguments: Any, named: Any) -> Any:
        root = layer is self._model
        name = type(layer).__name__ if root else path_of(self._model, layer)
        if root:
            self.inputs += [leaf for leaf in tf.nest.flatten(arguments) if hasattr(leaf, "shape")]
        inside = any(True for _ in layer._flatten_layers(include_self=False))
        call = self._flow.call(name, leaf=not inside)

        def taken(leaf: Any) -> Any:
            return call.taken(leaf) if is_float(leaf) else leaf

        def given(leaf: Any) -> Any:
            return call.given(leaf) if is_float(leaf) else leaf

        arguments = keras.tree.map_structure(taken, arguments)
        output = keras.tree.map_structure(given, following(*arguments, **named))
        if root:
            self.prediction = next((self.activations[each] for each in call.outputs), None)
        call.end(type(layer).__name__, configuration(layer) | base_of(type(layer)))
        return output


@contextmanager
def replaced(owner: Any, **by: Any) -> Iterator[None]:
    """Set attributes of an object or a class, and in the end put back what was there, or nothing."""
    own = {name: vars(owner)[name] for name in by if name in vars(owner)}
    with ExitStack() as stack:
        for name, value in by.items():
            if name in own:
                stack.callback(setattr, owner, name, own[name])
            else:
                stack.callback(delattr, owner, name)
            setattr(owner, name, value)
        yield


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
    except (NotImplementedError, TypeError):  # the second of what it holds and cannot be written
        return {}
    found = {name: as_plain(value) for name, value in said.items() if name not in ("name", "trainable")}
    return {name: value for name, value in found.items() if value is not None}
