"""Look into a run of a TensorFlow 1 graph, beside what the user's own ``session.run`` fetches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from parity.recording.layers import Layer
from parity.spec import Sgd
from parity.tolerance import stir
from parity.watching.seen import Condition, Told, Update
from parity.watching.tf1.graph import RATES, ancestors, forward_of, number, rules_of, unclipped

SLOTS = {"m": "first_moment", "v": "second_moment"}
"""What TensorFlow's Adam calls its slots, in the words of ``parity.spec``. Others keep their own."""
RANDOM = (
    "the graph draws random numbers by operations whose state cannot be set back, so that no shadow can follow: hand "
    "shadows=0 over, or draw them by tf.random.stateless_uniform"
)
FEW = 4
"""So many names stand in a message."""
UNINITIALIZED = (
    "variables of the graph have no values yet, {names}: run their initializer, as session.run(tf.compat.v1."
    "global_variables_initializer()), before parity.watch, not within the watched block"
)
FINAL = "the graph is final: no gradients of layers could be added to it"


class Tf1Watch:
    """Sees every ``session.run`` that runs the training operation. See ``parity.watching.seen.Adapter``.

    What is recorded is fetched in the user's own run. The gradients of layers are added to the graph, and stay there.
    Roundings are stirred in the state and in what is fed.
    """

    framework = "tf1"
    usage = "watch the training operation and the session that the loop runs, by session.run within the watched block"

    def __init__(self, *watched: Any) -> None:
        sessions = [found for each in watched if (found := _session(each)) is not None]
        losses = [each for each in watched if isinstance(each, tf.Tensor) and not each.shape.rank]
        trains = [each for each in watched if isinstance(each, tf.Operation)]
        if (len(sessions), len(losses), len(trains)) != (1, 1, 1) or len(watched) != 3:
            raise ValueError("of a graph, watch the session, the loss and the training operation")
        (self.session,), (self.loss,), (self.train,) = sessions, losses, trains
        self.graph = self.session.graph
        with self.graph.as_default():
            every = tf.compat.v1.global_variables()
        self._every = {v.op.name: v for v in every}
        self._rules = rules_of(self.train)
        used = ancestors([self.loss.op])
        trainable = [v.op.name for v in every if v.trainable and v.op in used]
        self._trained = [name for name in self._every if name in {*trainable, *(rule.variable for rule in self._rules)}]
        if not self._trained:
            raise ValueError("the loss depends on no variable that is trained: watch the loss that your loop minimizes")
        kinds = {self._every[name].dtype.base_dtype.name for name in self._trained}
        if len(kinds) > 1:
            raise ValueError(f"the variables are of several dtypes, {', '.join(sorted(kinds))}: give them one")
        self.dtype = kinds.pop()
        self._slots = {(k, rule.variable): name for rule in self._rules for k, name in rule.slots.items()}
        numbers = [tensor.op for rule in self._rules for tensor in rule.settings.values()]
        kept = {*self._slots.values(), *(op.name for op in ancestors(numbers, data_alone=True))}
        self._buffers = [k for k, v in self._every.items() if v.dtype.is_floating and k not in {*self._trained, *kept}]
        self._forward = forward_of(self.loss, set(self._trained))
        self.notes = list(self._forward.notes)
        everything = ancestors([self.loss.op, self.train])
        self._draws = any(op.op_def.is_stateful and "Random" in op.type for op in everything)
        self._generator: np.random.Generator | None = None

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        self._told, self._deep, self._run = told, deep, self.session.run
        self._refuse_uninitialized()
        rules = {rule.variable: rule for rule in self._rules}
        self._gradients = {name: rules[name].gradient for name in self._trained if name in rules}
        self._before_clipping = {name: unclipped(tensor) for name, tensor in self._gradients.items()}
        self._of_layers: dict[str, Any] = {}
        others = [name for name in self._trained if name not in self._gradients]
        tensors = self._forward.tensors
        if self.graph.finalized:
            self.notes.append(FINAL)
        else:
            with self.graph.as_default():
                wanted = [*tensors.values(), *(self._every[name] for name in others)]
                found = tf.gradients(self.loss, wanted, name="parity")
                dense = [None if each is None else tf.convert_to_tensor(each) for each in found]
            by_name = dict(zip([*tensors, *others], dense, strict=True))
            self._of_layers = {name: by_name[name] for name in tensors if by_name[name] is not None}
            self._gradients |= {name: by_name[name] for name in others if by_name[name] is not None}
        rates = {rule.settings[k].name: rule.settings[k] for rule in self._rules for k in RATES if k in rule.settings}
        self._rate = next(iter(rates.values())) if len(rates) == 1 else None
        self.session.run = self._seen

    def detach(self) -> None:
        del self.session.run

    def condition(self) -> Condition:
        params = {name: self._every[name] for name in (*self._trained, *self._buffers)}
        slots: dict[str, dict[str, Any]] = {}
        for (slot, name), variable in self._slots.items():
            slots.setdefault(self._slot(slot), {})[name] = self._every[variable]
        params, slots = self._run([params, slots])
        return Condition(params=params, slots=slots)

    def buffers(self) -> list[str]:
        return self._buffers

    def layers(self) -> list[Layer]:
        return self._forward.layers

    def describe(self) -> dict[str, Any]:
        kinds = sorted({rule.kind for rule in self._rules})
        settings = {
            k: number(value)
            for k, tensor in (self._rules[0].settings.items() if self._rules else ())
            if (value := tf.get_static_value(tensor)) is not None
        }
        said: dict[str, Any] = {"optimizer": {"class": ", ".join(kinds) or "by hand", "groups": [settings]}}
        rate = next((settings[k] for k in RATES if k in settings), None)
        plain = kinds in (["ResourceApplyGradientDescent"], ["ResourceApplyMomentum"])
        nesterov = any(
            op.get_attr("use_nesterov") for op in ancestors([self.train]) if op.type == "ResourceApplyMomentum"
        )
        if plain and rate is not None and self._rate is not None and not nesterov:
            said["hyper_parameters"] = {"optimizer": repr(Sgd(rate, settings.get("momentum", 0.0)))}
        return said | ({"notes": self.notes} if self.notes else {})

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    def saved(self) -> Any:
        return self._run(self._every)

    def go_to(self, saved: Any) -> None:
        every = [self._every[name].initializer for name in saved]
        self._run(every, {op.inputs[1]: value for op, value in zip(every, saved.values(), strict=True)})

    def random(self) -> Any:
        if self._draws:
            raise ValueError(RANDOM)

    def drawing(self) -> bytes | None:
        """The graph keeps the state of what it draws."""
        return None

    def draw_from(self, state: Any) -> None:
        """No operation of the graph draws random numbers whose state it keeps: see ``random``."""

    @contextmanager
    def aside(self, told: Told, seed: int | None = None) -> Iterator[None]:
        saved, before = self.saved(), self._told
        self._told = told
        if seed is not None:
            self._generator = np.random.default_rng(seed)
        try:
            yield
        finally:
            self._told, self._generator = before, None
            self.go_to(saved)

    def stir(self) -> None:
        assert self._generator is not None
        names = [*self._trained, *self._slots.values()]
        values = self._run({name: self._every[name] for name in names})
        self.go_to({name: stir(value, self._generator, self.dtype) for name, value in values.items()})

    def _seen(self, fetches: Any, feed_dict: Any = None, **named: Any) -> Any:
        """Stand in the place of ``session.run``."""
        asked = [self._operation(each) for each in _leaves(fetches)]
        if self.train not in asked:
            return self._run(fetches, feed_dict, **named)
        if self._generator is not None:
            feed_dict = {key: self._moved(value) for key, value in (feed_dict or {}).items()}
        update = Update()
        extra: dict[str, Any] = {"loss": self.loss}
        if self._rate is not None:
            extra["rate"] = self._rate
        if self._deep():
            update.before = self.condition()
            forward = self._forward
            extra |= {
                "inputs": forward.inputs,
                "layers": forward.tensors,
                "of_layers": self._of_layers,
                "gradients": self._gradients,
                "unclipped": self._before_clipping,
            } | ({} if forward.prediction is None else {"prediction": forward.prediction})
        result, seen = self._run([fetches, extra], feed_dict, **named)
        update.loss = seen["loss"]
        update.learning_rate = number(seen["rate"]) if self._rate is not None else None
        if update.before is not None:
            update.inputs, update.prediction = seen["inputs"], seen.get("prediction")
            update.activations, update.activation_gradients = seen["layers"], seen["of_layers"]
            update.gradients = seen["gradients"]
            if any(not np.array_equal(value, update.gradients[k]) for k, value in seen["unclipped"].items()):
                update.unclipped = update.gradients | seen["unclipped"]
        self._told(update)
        return result

    def _refuse_uninitialized(self) -> None:
        try:
            self._run(self._every)
        except tf.errors.FailedPreconditionError as error:
            names = [name for name, variable in self._every.items() if not self._has_value(variable)]
            few = names if len(names) <= FEW else [*names[:FEW], f"and {len(names) - FEW} more"]
            raise ValueError(UNINITIALIZED.format(names=", ".join(few))) from error

    def _has_value(self, variable: Any) -> bool:
        try:
            self._run(variable)
        except tf.errors.FailedPreconditionError:
            return False
        return True

    def _operation(self, fetch: Any) -> Any:
        return (
            self.graph.as_graph_element(fetch, allow_tensor=False)
            if isinstance(fetch, str) and ":" not in fetch
            else getattr(fetch, "op", fetch)
        )

    def _slot(self, slot: str) -> str:
        momentum = {rule.kind for rule in self._rules} == {"ResourceApplyMomentum"}
        return "momentum" if momentum and slot == "accum" else SLOTS.get(slot, slot)

    def _moved(self, value: Any) -> Any:
        assert self._generator is not None
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            return stir(value, self._generator, value.dtype.name)
        return value


def _session(watched: Any) -> Any:
    """Find the session that runs the graph: itself, or what a monitored session runs; None if there is none."""
    monitored = tf.compat.v1.train.MonitoredSession, tf.compat.v1.train.SingularMonitoredSession
    if isinstance(watched, monitored):
        return watched._tf_sess()
    return watched if isinstance(watched, tf.compat.v1.Session | tf.compat.v1.InteractiveSession) else None


def _leaves(fetches: Any) -> Iterator[Any]:
    """List what a structure fetches. A monitored session keys what its hooks fetch by the hooks: no order sorts those.

    >>> list(_leaves({"train": 1, 2: [3, (4,)]}))
    [1, 3, 4]
    """
    if isinstance(fetches, Mapping):
        fetches = list(fetches.values())
    if isinstance(fetches, list | tuple):
        for each in fetches:
            yield from _leaves(each)
    else:
        yield fetches
