"""See the layers of a JAX model that has no modules: the functions that it calls, its own and the libraries'."""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.source_info_util import current_name_stack

from parity.recording.layers import Layer
from parity.watching.flow import Flow, as_plain
from parity.watching.jax.layers import LATER, inside, name_of, numbers_of, tapped
from parity.watching.jax.loss import DIFFERENTIATED
from parity.watching.jax.stir import LOOPS, ROUNDS, is_float

MOST = 500
"""Of an update so many layers are recorded, and no more."""
MAKES_A_LAYER = ROUNDS | LOOPS | {"reduce_max", "reduce_window_max", "custom_jvp_call", "custom_vjp_call", "gather"}
"""A function needs one of these operations to be a layer. What only moves, adds or multiplies numbers is none."""
JAX = str(Path(jax.__file__).parent)
JAX_FUNCTIONS = tuple(f"{JAX}/_src/{room}/" for room in ("nn", "numpy", "lax", "scipy", "image"))
"""Where JAX keeps the functions that models call."""
INSTALLED = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")} | {str(Path(JAX).parent)})
STANDARD = sysconfig.get_path("stdlib")
HERE = str(Path(__file__).parent)
CUSTOM = ("custom_jvp.__call__", "custom_vjp.__call__")
"""How a function with its own derivative is called, as ``jax.nn.relu`` is."""


@dataclass
class _Open:
    """A call that has begun."""

    frame: FrameType
    own: bool
    """Whether it is the user's code, and no library's."""
    work: int
    """How many operations that make a layer came before it."""
    scopes: list[str] = field(default_factory=list)
    path: tuple[str, ...] = ()
    """The functions and scopes that lead here, its own name last."""
    given: list[Any] | None = None
    """The tensors that it takes and that are no weights; None if it is no layer."""
    weighs: bool = False
    """Whether it was given what the loss is differentiated by."""
    configuration: dict[str, Any] = field(default_factory=dict)


class Calls:
    """What an update gives on its way, op by op and not compiled, while ``watching`` lasts.

    A layer is a call of a function of the user's own, or of one that the user calls in a library, which computes
    something and gives tensors. The operations are numbered, and the tensors by them. The gradient of one comes from an
    identity with its own derivative, behind the operation.

    Args:
        wanted: The numbers of those tensors that are layers', if an earlier update has told. The others go without that
            identity, which is what costs.
    """

    def __init__(self, wanted: frozenset[int] | None = None) -> None:
        self.activations: dict[str, Any] = {}
        self.gradients: dict[str, Any] = {}
        self.prediction: Any = None
        self.of_params: list[Any] = []
        """The tree of gradients that each differentiation gave."""
        self.notes: dict[str, None] = {}
        self.used: set[int] = set()
        """The numbers of the tensors that are layers'."""
        self._wanted, self._predicted = wanted, ""
        self._flow = Flow(self._keep, _key)
        self._numbers: dict[int, int] = {}
        self._values: dict[int, Any] = {}
        self._back: dict[int, Any] = {}
        self._named: dict[str, int] = {}
        self._weights: set[int] = set()
        self._alive: list[Any] = []
        self._open: list[_Open] = []
        self._roots: set[CodeType] = set()
        self._roots_given: list[Any] = []
        self._work, self._depth = 0, 0

    @property
    def missed(self) -> bool:
        """Whether a tensor of a layer was none of the wanted: the update is another than the earlier one."""
        return self._wanted is not None and not self.used <= self._wanted

    @property
    def found(self) -> list[Layer]:
        """The layers, in the order in which they ended."""
        return [layer for layer in self._flow.found if all(name in self.activations for name in layer.outputs)]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch every operation, and every function that is called."""
        bind, profile = Primitive.bind, sys.getprofile()

        def bound(primitive: Any, *arguments: Any, **named: Any) -> Any:
            return self._bound(lambda: bind(primitive, *arguments, **named), primitive.name, arguments)

        Primitive.bind = bound
        sys.setprofile(self._profile)
        try:
            with jax.disable_jit():
                yield
        finally:
            sys.setprofile(profile)
            Primitive.bind = bind
            for name, number in self._named.items():
                for kept, of in ((self.activations, self._values), (self.gradients, self._back)):
                    if number in of:
                        kept[name] = of[number]
            self.prediction = self.activations.get(self._predicted)
            self._flow.close()
            self._alive, self._open, self._roots_given = [], [], []

    def forget(self) -> None:
        """Let go of all numbers: what points here is freed by the garbage collector alone, when it comes."""
        for kept in (self.activations, self.gradients, self._values, self._back):
            kept.clear()
        self.of_params, self.prediction = [], None

    # Operations.

    def _bound(self, bind: Callable[[], Any], name: str, arguments: Sequence[Any]) -> Any:
        if self._depth:  # within another, as a rule of differentiation is
            return bind()
        self._depth += 1
        try:
            found = bind()
            behind = [inside(each) for each in arguments]
            if any(value is None for value, _ in behind):
                self.notes[LATER] = None
                return found
            if not any(differentiated for _, differentiated in behind):
                return found
            self._work += name in MAKES_A_LAYER
            weigh = all(self._is_weight(each) for each in arguments if np.ndim(each))
            if isinstance(found, list | tuple):
                return [self._numbered(each, weigh) for each in found]
            return self._numbered(found, weigh)
        finally:
            self._depth -= 1

    def _numbered(self, tensor: Any, weighs: bool) -> Any:
        """Give a tensor its number, and see its gradient."""
        if not is_float(tensor):
            return tensor
        number = len(self._alive)
        if self._wanted is None or number in self._wanted:
            tensor = tapped(tensor, number, self._values, self._back)
        self._alive.append(tensor)
        self._numbers[_key(tensor)] = number
        if weighs:
            self._weights.add(_key(tensor))
        return tensor

    def _is_weight(self, tensor: Any) -> bool:
        """Say whether the loss is differentiated by a tensor, or it was made of such alone."""
        return _key(tensor) in self._weights

    def _keep(self, tensor: Any, name: str) -> Any:
        number = self._numbers.get(_key(tensor))
        if number is None:
            self.activations[name] = numbers_of(tensor)
        else:
            self._named[name] = number
            self.used.add(number)
        return tensor

    # Functions.

    def _profile(self, frame: FrameType, event: str, result: Any) -> None:
        if self._depth:
            return
        if event == "call":
            if frame.f_code.co_qualname == DIFFERENTIATED:
                self._roots.add(getattr(inspect.unwrap(frame.f_locals["fun"]), "__code__", frame.f_code))
            else:
                self._called(frame)
        elif event == "return":
            if self._open and self._open[-1].frame is frame:
                self._returned(self._open.pop(), result)
            elif frame.f_code.co_qualname == DIFFERENTIATED and result is not None:
                self.of_params.append(result[1])

    def _called(self, frame: FrameType) -> None:
        given = {name: frame.f_locals.get(name) for name in _arguments(frame.f_code)}
        if frame.f_code in self._roots:
            weights = [leaf for leaf in jax.tree.leaves(given) if inside(leaf)[1] and _key(leaf) not in self._numbers]
            self._weights |= set(map(_key, weights))
            self._roots_given += weights
        own = _is_own(frame.f_code)
        # What a library calls itself is its own affair.
        if own is None or (not own and self._open and not self._open[-1].own):
            return
        above = self._open[-1] if self._open else None
        opened = _Open(frame, own, self._work)
        self._open.append(opened)
        if above is not None:
            opened.scopes, opened.path = above.scopes, above.path
        if frame.f_code in self._roots:
            return
        tensors = [leaf for leaf in jax.tree.leaves(given) if is_float(leaf) and inside(leaf)[0] is not None]
        around = [frame.f_locals.get(name) for name in frame.f_code.co_freevars]
        opened.weighs = any(self._is_weight(leaf) for leaf in jax.tree.leaves([given, around]))
        if not opened.weighs and not any(inside(tensor)[1] for tensor in tensors):
            return
        if len(self._flow.found) >= MOST:
            self.notes[f"the first {MOST} layers of an update are recorded, and there are more"] = None
            return
        name, opened.configuration = _described(frame, given)
        scopes = _scopes()
        opened.path = (*opened.path, *scopes[len(opened.scopes) :], name)
        opened.scopes = scopes
        opened.given = [tensor for tensor in tensors if tensor.ndim and not self._is_weight(tensor)]

    def _returned(self, opened: _Open, result: Any) -> None:
        if opened.given is None or self._work == opened.work:
            return
        call = self._flow.call("/".join(opened.path), leaf=not opened.own)
        for tensor in opened.given:
            call.taken(tensor)
        leaves = [leaf for leaf in jax.tree.leaves(result) if is_float(leaf) and leaf.ndim]
        for tensor in leaves:
            if _key(tensor) in self._numbers and not self._is_weight(tensor):
                call.given(tensor)
        if call.outputs and opened.weighs and (opened.own or opened.frame.f_code.co_name == "__call__"):
            self._predicted = call.outputs[0]
        call.end(opened.path[-1], opened.configuration)


def _key(tensor: Any) -> int:
    """What tells a tensor apart, within ``jax.vmap`` and behind it."""
    while getattr(tensor, "batch_dim", None) == 0:
        tensor = tensor.val
    return id(tensor)


def _scopes() -> list[str]:
    """The names that ``jax.named_scope`` has given to what is done now, without the transformations around them."""
    said = re.sub(r"\w+\(|\)", "", str(current_name_stack()))
    return [re.sub(r"[^A-Za-z0-9_.-]", "_", part) for part in said.split("/") if part]


def _is_own(code: CodeType) -> bool | None:
    """Say whether code is the user's own, or a library's function that a user calls. None: it is neither."""
    name, file = code.co_qualname, code.co_filename
    if code.co_name.startswith("<") or str(Path(file).parent) == HERE:
        return None
    if file.startswith(("<", STANDARD)) and not file.startswith(INSTALLED):
        return None
    if not file.startswith(INSTALLED):
        return True
    if name in CUSTOM:
        return False
    if file.startswith(JAX) and not file.startswith(JAX_FUNCTIONS):
        return None
    hidden = "<locals>" in name or (
        code.co_name.startswith("_") and (code.co_name != "__call__" or file.startswith(JAX))
    )
    return None if hidden else False


def _arguments(code: CodeType) -> tuple[str, ...]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return code.co_varnames[:count]


def _described(frame: FrameType, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """What a function is called, and its arguments that are plain values; of an object its attributes as well."""
    name: str = frame.f_code.co_name
    this: Any = given.get("self")
    if frame.f_code.co_qualname in CUSTOM:
        called = inspect.signature(this.fun).bind(*given["args"], **given["kwargs"])
        called.apply_defaults()
        name, given, this = this.__name__, called.arguments, None
    elif name == "__call__":
        name = type(this).__name__
    said = {**getattr(this, "__dict__", {}), **given}
    found = {key: as_plain(value, name_of) for key, value in said.items() if not key.startswith("_")}
    found = {key: value for key, value in found.items() if value != "<lambda>"}
    outside: FrameType | None = frame.f_back
    while outside is not None and not _is_own(outside.f_code):
        outside = outside.f_back
    if outside is not None:
        found["at"] = f"{Path(outside.f_code.co_filename).name}:{outside.f_lineno}"
    return name, {key: value for key, value in found.items() if value is not None}
