"""Optimizers: the rule of an update, its learning rate over time, its weight decay and its clipping, as plain data.

``parity.spec`` hands them out with the rest of a case; ``parity.nn.updates`` says what they compute.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal

UNSAID = "unsaid"
"""Marks a field, in its metadata, that a record's words leave out while it has its default: None, which asks for
nothing. What was written before there was such a field reads the same."""


def _said(record: Any) -> str:
    """A record as ``repr`` gives it, without the fields that are left out."""
    parts = [f"{name}={value!r}" for name, value in said_fields(record).items()]
    return f"{type(record).__qualname__}({', '.join(parts)})"


def said_fields(record: Any) -> dict[str, Any]:
    """Give a record's fields by name, without those that its words leave out.

    Args:
        record: Any dataclass's object.

    Returns:
        Name to value, in the order of the class; those that may be left out come last.

    Examples:
        >>> said_fields(Sgd(0.1))
        {'learning_rate': 0.1, 'momentum': 0.0, 'weight_decay': 0.0}
    """
    values = [(one, getattr(record, one.name)) for one in fields(record)]
    plain = {one.name: value for one, value in values if not one.metadata.get(UNSAID)}
    return plain | {one.name: value for one, value in values if one.metadata.get(UNSAID) and value is not one.default}


def in_python(record: Any) -> Any:
    """Give the same record with Python's numbers in the place of NumPy's, whose words nobody reads back.

    Args:
        record: An optimizer, or a part of one.

    Returns:
        A record of the same class: its numbers are floats where they may be, and integers where they count.

    Raises:
        TypeError: If a field that is a number holds none.
        ValueError: The same.

    Examples:
        >>> import numpy as np
        >>> in_python(Sgd(np.float32(0.5)))
        Sgd(learning_rate=0.5, momentum=0.0, weight_decay=0.0)
    """
    makers = {"float": float, "int": int}

    def made(kind: str, value: Any) -> Any:
        return in_python(value) if is_dataclass(value) else makers.get(kind, lambda same: same)(value)

    return type(record)(**{one.name: made(str(one.type), getattr(record, one.name)) for one in fields(record)})


@dataclass(frozen=True)
class StepDecay:
    """A learning rate that is multiplied by a factor again and again.

    Attributes:
        every: How many updates have one rate.
        factor: The ratio of a rate to the one before.

    Examples:
        >>> Sgd(0.1, rates=StepDecay(every=100, factor=0.1)).rates.every
        100
    """

    every: int
    factor: float


@dataclass(frozen=True)
class LinearWarmup:
    """A learning rate that rises along a straight line, then stays.

    Attributes:
        start: The first update's rate.
        steps: The number of the first update that has the optimizer's whole rate, counted from 0.

    Examples:
        >>> Sgd(0.1, rates=LinearWarmup(start=0.01, steps=10)).rates.start
        0.01
    """

    start: float
    steps: int


@dataclass(frozen=True)
class CosineDecay:
    """A learning rate that falls along half a wave of the cosine.

    Attributes:
        end: The last rate, which stays.
        steps: How many updates the fall takes.

    Examples:
        >>> Sgd(0.1, rates=CosineDecay(end=0.01, steps=10)).rates.end
        0.01
    """

    end: float
    steps: int


@dataclass(frozen=True)
class WarmupCosine:
    """A learning rate that rises on a straight line, then falls along half a wave of the cosine.

    Attributes:
        start: The first update's rate.
        end: The last rate, which stays.
        warmup_steps: The number of the update that has the optimizer's whole rate, counted from 0.
        steps: How many updates the fall takes after that.

    Examples:
        >>> Sgd(0.1, rates=WarmupCosine(start=0.01, end=0.001, warmup_steps=5, steps=20)).rates.steps
        20
    """

    start: float
    end: float
    warmup_steps: int
    steps: int


@dataclass(frozen=True)
class Listed:
    """The learning rates that a run recorded, update by update: what no formula says can be made again all the same.

    No recording is written with it: ``Recorder.step`` takes the learning rate of each update.

    Attributes:
        values: The rate of each update, from the first on. The last one stays.

    Examples:
        >>> Sgd(0.1, rates=Listed((0.0, 0.05, 0.1))).rates.values
        (0.0, 0.05, 0.1)
    """

    values: tuple[float, ...]


Rates = StepDecay | LinearWarmup | CosineDecay | WarmupCosine | Listed
"""Learning rates over time. The names are those of functions in ``parity.nn.learning_rates``, the fields theirs."""


@dataclass(frozen=True)
class Clipping:
    """Gradients are shortened before the optimizer sees them; a decay that goes through the gradient comes after.

    Attributes:
        kind: ``global_norm`` multiplies all gradients by one factor if they are too long together, ``norm`` each
            tensor's by its own, ``value`` cuts every element.
        limit: The largest norm, or the largest size of an element.
        epsilon: Added to a norm before it divides. torch's ``clip_grad_norm_`` adds 1e-6; here the norm is taken as it
            is, as NumPy, TensorFlow and optax have it, unless a case says otherwise.

    Examples:
        >>> Clipping("global_norm", 1.0)
        Clipping(kind='global_norm', limit=1.0, epsilon=0.0)
    """

    kind: Literal["global_norm", "norm", "value"]
    limit: float
    epsilon: float = 0.0


@dataclass(frozen=True, repr=False)
class Sgd:
    """Stochastic gradient descent in torch's form: d = g + weight_decay·p; b = momentum·b + d; p -= learning_rate·b.

    The first b is the first d, undampened. Without momentum there is no buffer b. A learning rate that changes is that
    of its own update, not of the time when a gradient entered b.

    Attributes:
        learning_rate: The step size.
        momentum: What is kept of b.
        weight_decay: The factor of the L2 penalty's gradient.
        rates: The learning rate of each update; None if all have ``learning_rate``, which is otherwise the highest or
            the first. Updates are counted from 0, by ``parity.trainer.State.step``: a resumed run goes on.
        decayed: The parameters that weight decay touches, each by its canonical name or by the last word of that, its
            role: ``("kernel", "table")``. None if it touches every one that has a gradient, biases too.
        clipping: How gradients are clipped; None if they are not.

    Examples:
        >>> Sgd(0.1, momentum=0.9)
        Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)
        >>> Sgd(0.1, weight_decay=0.01, decayed=("kernel",), clipping=Clipping("value", 1.0)).decayed
        ('kernel',)
    """

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    rates: Rates | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    decayed: tuple[str, ...] | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    clipping: Clipping | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    __repr__ = _said


@dataclass(frozen=True, repr=False)
class Adam:
    """Adam in torch's form: p -= learning_rate·m̂ / (√v̂ + epsilon), both moments bias-corrected (Kingma & Ba 2015).

    Attributes:
        learning_rate: The step size.
        beta1: What is kept of the first moment.
        beta2: What is kept of the second moment.
        epsilon: Added after the correction. TF1 and Keras add theirs before it (the paper's "epsilon hat").
        rates: The learning rate of each update; None if all have ``learning_rate``, which is otherwise the highest or
            the first. Updates are counted from 0, by ``parity.trainer.State.step``: a resumed run goes on.
        decayed: The parameters that the decay of ``AdamW`` touches, each by its canonical name or by the last word of
            that, its role: ``("kernel", "table")``. None if it touches every one that has a gradient, biases too.
        clipping: How gradients are clipped; None if they are not.

    Examples:
        >>> Adam(0.001).epsilon
        1e-08
    """

    learning_rate: float
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    rates: Rates | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    decayed: tuple[str, ...] | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    clipping: Clipping | None = field(default=None, kw_only=True, metadata={UNSAID: True})
    __repr__ = _said


@dataclass(frozen=True, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay, in torch's form (Loshchilov & Hutter 2019): first p -= learning_rate·decay·p.

    Attributes:
        weight_decay: The decay, which is in no moment. The other hyper-parameters are Adam's.

    Examples:
        >>> AdamW(0.001, weight_decay=0.1, decayed=("kernel",)).weight_decay
        0.1
    """

    weight_decay: float = 0.01


Optimizer = Sgd | Adam
"""What a case or a recording may name as its optimizer."""


def is_plain(rule: Optimizer) -> bool:
    """Tell whether an optimizer has one learning rate, touches all parameters alike and takes gradients as they are.

    Args:
        rule: The optimizer.

    Returns:
        Whether it says neither ``rates``, nor ``decayed``, nor ``clipping``.

    Examples:
        >>> is_plain(Sgd(0.1)), is_plain(Sgd(0.1, clipping=Clipping("value", 1.0)))
        (True, False)
    """
    return rule.rates is None and rule.decayed is None and rule.clipping is None


def decay_of(rule: Optimizer, name: str) -> float:
    """Say which weight decay a parameter has.

    Args:
        rule: The optimizer.
        name: The parameter's canonical name.

    Returns:
        The optimizer's decay; 0 if it has none, or if it leaves this parameter out.

    Examples:
        >>> rule = AdamW(0.001, weight_decay=0.1, decayed=("kernel", "embedding/table"))
        >>> [decay_of(rule, name) for name in ("dense/kernel", "dense/bias", "embedding/table")]
        [0.1, 0.0, 0.1]
    """
    touched = rule.decayed is None or name in rule.decayed or name.rpartition("/")[2] in rule.decayed
    return getattr(rule, "weight_decay", 0.0) if touched else 0.0


_RULES: Mapping[str, type[Sgd] | type[Adam]] = {kind.__name__: kind for kind in (Sgd, Adam, AdamW)}
_PARTS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (StepDecay, LinearWarmup, CosineDecay, WarmupCosine, Clipping)
}
_LONGEST = 4096
"""No optimizer takes so many characters, and no reader of strange recordings parses more."""


def optimizer_from(text: str) -> Optimizer | None:
    """Read an optimizer from its ``repr``.

    Args:
        text: What ``repr`` gave.

    Returns:
        The optimizer; None if the text is none's.

    Examples:
        >>> optimizer_from("Sgd(learning_rate=0.1, momentum=0.9, weight_decay=0.0)").momentum
        0.9
        >>> rule = Sgd(0.1, rates=CosineDecay(0.0, 10), decayed=("kernel",), clipping=Clipping("value", 1.0))
        >>> optimizer_from(repr(rule)) == rule
        True
    """
    if len(text) > _LONGEST:
        return None
    try:
        made: Optimizer = _made(ast.parse(text, mode="eval").body, _RULES)
    # What is no Python, has names or values that there are not, or is nested too deeply.
    except (SyntaxError, TypeError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    return made


def _made(node: ast.expr, kinds: Mapping[str, type[Any]]) -> Any:
    """Make a record of a call that names one; TypeError or ValueError if it is none, or lacks something."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.args:
        raise ValueError("no record")
    kind = kinds.get(node.func.id)
    if kind is None:
        raise ValueError(f"no record is called {node.func.id}")
    found = {str(one.arg): _value(kind, str(one.arg), one.value) for one in node.keywords}
    if len(found) < len(node.keywords):
        raise ValueError("a field twice")
    return kind(**found)


def _value(kind: type[Any], name: str, node: ast.expr) -> Any:
    if name in ("rates", "clipping"):
        made = _made(node, _PARTS)
        if isinstance(made, Clipping) != (name == "clipping"):
            raise ValueError(f"{name} is {made}")
        return made
    value = ast.literal_eval(node)
    wanted = next((str(one.type) for one in fields(kind) if one.name == name), "")
    if wanted == "float" and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    known = {
        "int": type(value) is int,
        "float": False,
        "tuple[str, ...] | None": type(value) is tuple and all(type(one) is str for one in value),
    }
    if not known.get(wanted, value in ("global_norm", "norm", "value")):
        raise ValueError(f"{name} is {value!r}")
    return value
