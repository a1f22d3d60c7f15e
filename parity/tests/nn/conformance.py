"""Hold the functions of ``parity.nn`` against what frameworks offer for them, over random configurations.

Three kinds of files meet here:

- ``families/<family>.py``, without any framework, has ``FUNCTIONS``: a ``Function`` for each of ``parity.nn``, with a
  strategy that draws configurations and arrays.
- ``ways/in_<framework>/__init__.py`` has ``evaluate``, which runs something in a framework with its own derivatives.
- ``ways/in_<framework>/<family>.py`` has ``WAYS``: a ``Way`` for each function of the framework's that does the same.
  It may import its framework at the top, for only that framework's process imports it. A file that is missing says
  that the framework has none of the family.

To add a family, write these files and nothing else: ``test_conformance.py`` and the table find them. ``held`` is the
question that the tests put to a framework's process; its answer is what the table says of the function there.

What is compared. Results, and by random cotangents the gradients of the arrays in ``Function.trained``: against the
function's ``backward`` where it has one, else against the numerical derivative of the NumPy function along a random
direction, in NumPy's longest floats. The tolerance is the project's: ``FACTOR`` times how far the NumPy function strays
if its arrays are stirred by one unit in the last place, and at least ``ROUNDINGS`` of the largest value.

A framework that departs says so in its ``Way``. A departure that shows in none of the configurations fails the test, as
does one that is not declared, and a configuration that is said to be out of a framework's reach and is never drawn.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial, reduce
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, assume, find, given, settings
from hypothesis.errors import NoSuchExample
from hypothesis.strategies import SearchStrategy

from parity.dtypes import rounded
from parity.nn.configuration import KINDS, WORDS, in_common_words, is_known
from parity.tolerance import FACTOR, least_floor, stir
from parity.typing import Array

Arrays = dict[str, Array]
FRAMEWORKS = {"torch": "in_torch", "tensorflow": "in_tf1", "keras": "in_keras", "jax": "in_jax"}
"""The framework whose process is asked, and the folder of its ways."""
EXAMPLES = 25
"""The number of random configurations that the table is made from."""
STIRS = 4
"""How often arrays are stirred to see how far rounding carries a function: each tensor has many values besides."""


@dataclass(frozen=True)
class Asked:
    """One configuration, in common words, and the arrays that go with it, in canonical layout."""

    configuration: Mapping[str, Any]
    arrays: Arrays

    def __repr__(self) -> str:
        shapes = {name: value.shape for name, value in self.arrays.items()}
        return f"{dict(self.configuration)} on arrays of shapes {shapes}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # hypothesis would print the arrays whole
        printer.text(repr(self))


def always(asked: Asked) -> bool:
    return True


@dataclass(frozen=True)
class Function:
    """A function of ``parity.nn``, and what it is asked."""

    compute: Callable[..., Any]
    """Called with the arrays and the configuration by name; gives an array, or a tuple of them."""
    asked: SearchStrategy[Asked]
    results: tuple[str, ...] = ("output",)
    """What ``compute`` gives, by name."""
    outputs: tuple[str, ...] = ("output",)
    """The results that have gradients."""
    trained: tuple[str, ...] = ("x",)
    """The arrays that get gradients, as far as they are there."""
    backward: Callable[..., Arrays] | None = None
    """``(d_results, arrays, results, configuration)`` to the gradients of the trained arrays."""
    derivable: Callable[[Asked], bool] = always
    """Where that is the derivative, and no gradient is left out on purpose."""
    kinks: Asked | None = None
    """A question whose ``x`` holds kinks alone: the slopes that a framework takes there are written down."""

    @property
    def name(self) -> str:
        return self.compute.__name__

    def __call__(self, arrays: Arrays, configuration: Mapping[str, Any]) -> Arrays:
        found = self.compute(**arrays, **configuration)
        found = found if isinstance(found, tuple) else (found,)
        return dict(zip(self.results, found, strict=True))


@dataclass(frozen=True)
class Departure:
    """Something that a framework computes otherwise: NumPy is told to do ``like`` it, or it is off by ``size``."""

    name: str
    sentence: str
    like: Mapping[str, Any] = field(default_factory=dict)
    """Words for NumPy's configuration with which it computes the same."""
    size: float = 0.0
    """How far a tensor may be off, relative to its largest value; at most, not about."""
    results: tuple[str, ...] = ()
    """The results and gradients that are off by ``size``; all if none is named."""
    when: Callable[[Asked], bool] = always


def nothing(*asked: Asked) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Way:
    """How a framework computes a function of ``parity.nn``."""

    function: str
    """The name in ``parity.nn``."""
    names: tuple[str, ...]
    """The framework's own classes or functions, dotted; more than one where each has another number of axes."""
    call: Callable[..., Mapping[str, Any]]
    """Called with the framework's tensors and the configuration by name; gives tensors by the names of results."""
    cannot: Mapping[str, Callable[[Asked], bool]] = field(default_factory=dict)
    """What the framework cannot express, as a phrase, and the configurations that ask for it."""
    departures: tuple[Departure, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    """The framework's names of parameters that ``parity.nn.configuration`` does not know, and the words for them."""
    measured: Callable[[], Mapping[str, Any]] = nothing
    """Gives, by common words, the defaults that a signature does not say, such as what None stands for."""
    without: tuple[str, ...] = ()
    """The results that the framework does not give; ``gradients`` for all of them."""
    dtype: str = "float64"
    """The widest that the framework has for it."""
    draws: Callable[[Asked], Arrays] = nothing
    """The arrays that the framework draws by itself: NumPy is given them, and ``call`` draws the same again."""


def resolve(name: str) -> Any:
    """The object of a dotted name."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            return reduce(getattr, parts[length:], import_module(module))
        except ModuleNotFoundError as error:
            if not module.startswith(str(error.name)):
                raise
    raise ModuleNotFoundError(name)


def calling(
    function: str,
    name: str,
    words: Mapping[str, str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    **way: Any,
) -> Way:
    """A way that calls a framework's function with an input.

    ``words`` are the framework's for those of the configuration, where it has others; ``fixed`` is what is always said.
    """
    spoken = words or {}

    def call(x: Any, **configuration: Any) -> dict[str, Any]:
        said = {spoken.get(word, word): value for word, value in configuration.items()}
        return {"output": resolve(name)(x, **said, **(fixed or {}))}

    return Way(function, (name,), call, words={theirs: word for word, theirs in spoken.items()}, **way)


def families() -> dict[str, tuple[Function, ...]]:
    """The functions of every family, by the family's name."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("families/[a-z]*.py"))
    return {name: import_module(f"parity.tests.nn.families.{name}").FUNCTIONS for name in names}


def held(framework: str, function: str, examples: int) -> list[dict[str, Any]]:
    """Hold a function against every way of a framework's, in its process; what the table says of each."""
    family, asked = next((family, one) for family, some in families().items() for one in some if one.name == function)
    folder = f"parity.tests.nn.ways.{FRAMEWORKS[framework]}"
    if find_spec(f"{folder}.{family}") is None:
        return []
    ways = [way for way in import_module(f"{folder}.{family}").WAYS if way.function == function]
    return [hold(way, asked, import_module(folder).evaluate, examples) for way in ways]


def hold(way: Way, function: Function, evaluate: Callable[..., tuple[Arrays, Arrays]], examples: int) -> dict[str, Any]:
    """Hold a function against one way of a framework's over random configurations.

    ``evaluate(call, arrays, configuration, trained, d_results)`` gives the results of ``call`` and its gradients.
    """
    counted: Counter[str] = Counter()
    seen: set[Any] = set()  # hypothesis repeats itself, to find out what is due to what: only of use after a failure

    def beyond(asked: Asked) -> list[str]:
        return [phrase for phrase, asks in way.cannot.items() if asks(asked)]

    def answered(asked: Asked) -> tuple[Asked, Arrays, Arrays]:
        """The question as it was put, what the framework says to it, and the cotangents that it was given."""
        arrays = {**asked.arrays, **way.draws(asked)}
        put = Asked(asked.configuration, {name: rounded(value, way.dtype) for name, value in arrays.items()})
        results = function(put.arrays, told(put, there(asked)))
        d_results = {name: rounded(value, way.dtype) for name, value in cotangents(function, results).items()}
        trained = [name for name in function.trained if name in put.arrays and "gradients" not in way.without]
        found, gradients = evaluate(way.call, put.arrays, put.configuration, trained, d_results)
        missing = set(function.results) - set(found)
        assert missing == set(way.without) - {"gradients"}, f"{way.names[0]} gives no {', '.join(missing)}"
        return put, {**found, **{f"gradient of {name}": value for name, value in gradients.items()}}, d_results

    def there(asked: Asked, but: Departure | None = None) -> list[Departure]:
        return [one for one in way.departures if one is not but and one.when(asked)]

    def shows(one: Departure, asked: Asked) -> bool:
        applies = not beyond(asked) and one.when(asked)
        return applies and bool(mismatch(function, *answered(asked), there(asked, one), way.dtype))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(function.asked)
    def holds(asked: Asked) -> None:
        once = (repr(asked), *(value.tobytes() for value in asked.arrays.values()))
        assume("failed" in seen or once not in seen)
        assume(not beyond(asked))
        seen.add(once)
        counted["held"] += 1
        try:
            answer = answered(asked)
            off = mismatch(function, *answer, there(asked), way.dtype)
            assert not off, f"{way.names[0]} departs from parity.nn.{function.name}: {off}, with {asked}"
        except Exception:
            seen.add("failed")
            raise
        for one in there(asked):
            if not counted[one.name]:
                counted[one.name] += bool(mismatch(function, *answer, there(asked, one), way.dtype))

    holds()
    unseen = [phrase for phrase, asks in way.cannot.items() if not drawn(function, asks)]
    unseen += [one.name for one in way.departures if not counted[one.name] and not drawn(function, partial(shows, one))]
    assert not unseen, f"{way.names[0]}: declared, and seen in no configuration: {', '.join(unseen)}"
    return {
        "names": list(way.names),
        "version": version(way.names[0].partition(".")[0]).partition("+")[0],
        "defaults": defaults(way, function),
        "cannot": [*way.cannot, *way.without],
        "departures": {one.name: one.sentence for one in way.departures},
        "kinks": slopes(way, function.kinks, evaluate) if function.kinks else {},
        "dtype": way.dtype,
        "held": counted["held"],
    }


def slopes(way: Way, asked: Asked, evaluate: Callable[..., tuple[Arrays, Arrays]]) -> dict[str, Any]:
    """What a framework takes for the derivative of the outputs' sum where there is none."""
    if any(asks(asked) for asks in way.cannot.values()):
        return {}
    arrays = {name: rounded(value, way.dtype) for name, value in asked.arrays.items()}
    results, _ = evaluate(way.call, arrays, asked.configuration, [], {})
    ones = {name: np.ones_like(value) for name, value in results.items()}
    _, gradients = evaluate(way.call, arrays, asked.configuration, ["x"], ones)
    numbers = {word: value for word, value in asked.configuration.items() if isinstance(value, float)}
    at, taken = asked.arrays["x"], gradients["x"].round(6)
    return {"at": at.ravel().tolist(), "slopes": taken.ravel().tolist(), "with": numbers}


def told(asked: Asked, departures: list[Departure]) -> dict[str, Any]:
    """A configuration for NumPy that computes as a framework that departs."""
    return reduce(lambda words, one: {**words, **one.like}, departures, dict(asked.configuration))


def drawn(function: Function, wanted: Callable[[Asked], bool]) -> bool:
    """Whether a question of that kind is among those that are asked; what few ask is looked for longer."""
    look = settings(max_examples=5000, database=None, deadline=None, phases=(Phase.generate,), derandomize=True)
    try:
        find(function.asked, wanted, settings=look)
    except NoSuchExample:
        return False
    return True


def cotangents(function: Function, results: Arrays) -> Arrays:
    """Random gradients of the outputs; of a seed that no array is drawn from, or they might be parallel."""
    draw = np.random.default_rng(1_000_003)
    return {name: draw.normal(size=results[name].shape) for name in function.outputs}


def mismatch(
    function: Function,
    asked: Asked,
    found: Arrays,
    d_results: Arrays,
    departures: list[Departure],
    dtype: str,
) -> str:
    """Say which result departs from NumPy's by more than rounding and ``departures`` explain; empty if none does."""
    configuration = told(asked, departures)
    draw = np.random.default_rng(0)
    stirred = [{name: stir(value, draw, dtype) for name, value in asked.arrays.items()} for _ in range(STIRS)]
    runs = [function(arrays, configuration) for arrays in (asked.arrays, *stirred)]
    if function.backward:
        for arrays, results in zip((asked.arrays, *stirred), list(runs), strict=True):
            gradients = function.backward(d_results, arrays, results, configuration)
            results |= {f"gradient of {name}": value for name, value in gradients.items()}
    shakes = (
        largest_of(difference(run[name], runs[0][name])) / (largest_of(runs[0][name]) or 1)
        for name in function.outputs
        for run in runs
    )
    shaken = max(shakes, default=0.0)
    given = max(map(largest_of, d_results.values()), default=0.0)  # of 1 - t², the derivative of tanh, 1 is a term
    for name, value in found.items():
        size = sum(one.size for one in departures if name in (one.results or found))
        if name in runs[0]:
            right, *strays = [run[name] for run in runs]
            if value.shape != right.shape:
                return f"{name} has the shape {value.shape} for {right.shape}"
            largest = largest_of(right) if name in function.results else max(largest_of(right), given)
            floor = max(least_floor(largest, dtype), *(largest_of(difference(stray, right)) for stray in strays))
            off, allowed = largest_of(difference(value, right)), FACTOR * floor + (size and size * largest)
        else:
            trained = name.removeprefix("gradient of ")
            if value.shape != asked.arrays[trained].shape:
                return f"{name} has the shape {value.shape} for {asked.arrays[trained].shape}"
            direction = draw.normal(size=value.shape)
            derivatives = [
                derivative(function, arrays, configuration, trained, direction, d_results)
                for arrays in (asked.arrays, *stirred)
            ]
            right, error = derivatives[0]
            terms = float((np.maximum(np.abs(value), given) * np.abs(direction)).sum())
            floor = max(least_floor(terms, dtype), *(abs(stray - right) for stray, _ in derivatives[1:]))
            floor = max(floor, shaken * terms)  # what the shorter floats of the results lose, gradients lose as well
            off, allowed = (
                abs(float((value * direction).sum()) - right),
                FACTOR * floor + error + (size and size * terms),
            )
        if not off <= allowed:
            return f"{name} is off by {off:.2g} where rounding explains {allowed:.2g}"
    return ""


def difference(one: Array, other: Array) -> Array:
    """|one - other|; 0 where both are the same infinity or NaN."""
    with np.errstate(invalid="ignore"):
        same = (one == other) | ((one != one) & (other != other))
        return np.where(same, 0, np.abs(one.astype(np.float64) - other))


def largest_of(values: Array) -> float:
    """The largest magnitude, NaN if there is one; infinities have no roundings."""
    return float(np.max(np.abs(values[~np.isinf(values)]), initial=0.0))


def derivative(
    function: Function,
    arrays: Arrays,
    configuration: Mapping[str, Any],
    name: str,
    direction: Array,
    d_results: Arrays,
) -> tuple[float, float]:
    """The derivative of Σ d_results · results as an array moves along a direction, and how far it may be off.

    Central differences of fourth order, in the longest floats that NumPy has here. Half the step says the error.
    """
    long = {key: value.astype(np.longdouble) if value.dtype.kind == "f" else value for key, value in arrays.items()}

    def value(by: Any) -> Any:
        results = function({**long, name: long[name] + by * direction}, configuration)
        return sum((results[key] * d_result).sum() for key, d_result in d_results.items())

    def slope(step: Any) -> Any:
        near, far = value(step) - value(-step), value(2 * step) - value(-2 * step)
        return (8 * near - far) / (12 * step)

    step = np.finfo(np.longdouble).eps ** np.longdouble(0.2)
    once, twice = slope(step), slope(step / 2)
    return float(twice), float(abs(once - twice))


def defaults(way: Way, function: Function) -> dict[str, Any]:
    """What the framework takes where nothing is said, in common words, read from its signatures."""
    own = inspect.signature(function.compute).parameters
    asked = {name for name, one in own.items() if "Array" not in str(one.annotation)}
    words = {**WORDS, **way.words}
    asked |= set(way.words.values())
    fallback = KINDS.get(way.function, ("",))[0]  # the kind of a function whose name is no class's
    found = []
    for name in way.names:
        value = resolve(name)
        try:
            parameters = inspect.signature(value.__init__ if isinstance(value, type) else value).parameters.values()
        except ValueError:  # a function in C that does not say
            parameters = ()
        # A parameter without a default is said, too, without a value: by its parameters a layer's kind is known.
        bare = {one.name for one in parameters if one.default is inspect.Parameter.empty}
        said = {one.name: None if one.name in bare else listed(one.default) for one in parameters}
        said |= {"activation": "linear"} if said.get("activation", "") is None else {}
        kind = name.rpartition(".")[2] if isinstance(value, type) else ""
        plainly = dict(pair for theirs, value in said.items() for pair in named(words.get(theirs, theirs), value))
        known = bool(kind) and is_known(kind)
        common = in_common_words(kind if known else fallback, said).settings
        common = common if known else {word: value for word, value in common.items() if word in asked}
        wanted = {word: value for word, value in plainly.items() if word in asked} | dict(common)
        wanted = {word: value for word, value in wanted.items() if word not in {words.get(one, one) for one in bare}}
        if isinstance(wanted.get("padding"), str):
            wanted["padding"] = wanted["padding"].upper()
        found.append({word: plain(value) for word, value in wanted.items()})
    shared = set.intersection(*map(set, found))
    found = [{word: value for word, value in one.items() if word in shared} for one in found]
    assert all(one == found[0] for one in found), f"{way.names} have not the same defaults: {found}"
    return found[0] | dict(way.measured())


def listed(value: Any) -> Any:
    """Tuples as lists, which is what a recording has of them."""
    return [listed(one) for one in value] if isinstance(value, tuple) else value


def named(words: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A default and its word; of a pair, such as torch's ``betas``, both with theirs."""
    parts = words.split(", ")
    return zip(parts, value if len(parts) > 1 else [value], strict=True)


def plain(value: Any) -> Any:
    """A default as JSON has it: one number for equal ones of every axis, and objects by their names."""
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        found = [plain(one) for one in value]
        return found[0] if found and all(one == found[0] for one in found) else found
    return getattr(value, "__name__", type(value).__name__)
