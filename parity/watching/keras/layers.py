"""See the layers of a Keras model on TensorFlow, and the gradients that its optimizer gets, in an eager update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, NamedTuple

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
        self.hidden = False
        """Whether a layer was called within a loop or a branch of a graph, out of which no tensor comes."""
        self.off = False
        """Whether the calls that are made now are seen by another."""
        self._graph: Any = None
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
        with self._calls(), self.applying(optimizer), eagerly(True):
            yield

    @contextmanager
    def tracing(self, optimizer: Any) -> Iterator[None]:
        """Watch likewise while an update is traced into the graph of a ``tf.function``, without the update itself."""
        self._graph = tf.compat.v1.get_default_graph()
        nothing = {"_backend_update_step": _do_nothing, "_apply_weight_decay": _do_nothing}
        with self._calls(), replaced(optimizer, **nothing), self.applying(optimizer):
            yield

    def take(self, traced: Layers, numbers: Numbers) -> None:
        """Take what was seen while an update was traced, and the numbers that its graph gave."""
        self.activations = dict(zip(traced.activations, numbers.activations, strict=True))
        self.gradients = dict(zip(traced.gradients, numbers.gradients, strict=True))
        self.of_params = dict(zip(traced.of_params, numbers.of_params, strict=True))
        self.inputs, self._flow.found = list(numbers.inputs), traced.found
        same = (name for name, each in traced.activations.items() if each is traced.prediction)
        self.prediction = self.activations.get(next(same, ""))

    @contextmanager
    def _calls(self) -> Iterator[None]:
        call = keras.layers.Layer.__call__

        @wraps(call)
        def called(layer: Any, *arguments: Any, **named: Any) -> Any:
            return call(layer, *arguments, **named) if self.off else self.called(call, layer, arguments, named)

        with replaced(keras.layers.Layer, __call__=called):
            yield

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
        if self._graph is not None and getattr(tensor, "graph", self._graph) is not self._graph:
            self.hidden = True
            return tensor
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


class Numbers(NamedTuple):
    """The tensors of an update."""

    activations: list[Any]
    gradients: list[Any]
    inputs: list[Any]
    of_params: list[Any]


@contextmanager
def eagerly(whether: bool) -> Iterator[None]:
    """Run what is a ``tf.function`` op by op, or as its graph."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(whether)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)


def _do_nothing(*arguments: Any) -> None:
    """Stand in the place of what changes variables."""


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
