"""Make a port's run where its framework is, watched or not, and hold two against each other."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np

from parity.explaining.folders import explain_folders
from parity.judging.diff import compare
from parity.judging.floors.known import Known
from parity.judging.tensors.correspondence import Correspondence, read_map
from parity.judging.tensors.matching import match
from parity.judging.verdict import Verdict
from parity.recording.reader import read
from parity.running.executor import Environment
from parity.tests.ports.data import batches
from parity.tests.ports.mistakes import Mistake
from parity.tests.ports.weights import carried, wrong
from parity.tests.warm import Warm
from parity.trajectory import TrajectoryError

MODELS = ("resnet", "gpt", "llama", "lstm", "unet")
PROCESS = {"torch": "torch", "linen": "jax", "nnx": "jax", "keras": "keras"}
"""The process in which a port is at home."""
STEPS = 50
DEEP = 4
"""Of how many updates everything is recorded: a deep one is made op by op in JAX and Keras, in each shadow too."""


class Unwatched:
    """Stands in the place of a watched run, where nobody watches."""

    def step(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


@contextmanager
def unwatched(*objects: Any) -> Any:
    yield Unwatched()


def begun(model: str, seed: int, folder: str) -> str:
    """Called where torch is: the torch model's first weights, as its author drew them. Gives their file."""
    import torch

    torch.manual_seed(seed)
    weights = import_module(f"parity.tests.ports.{model}_torch").build().state_dict()
    path = Path(folder, "begun.npz")
    np.savez(path, **{name: value.numpy() for name, value in weights.items()})
    return str(path)


def trained(
    model: str,
    framework: str,
    dtype: str,
    seed: int,
    weights: str,
    folder: str,
    steps: int = STEPS,
    mistake: str = "",
    watched: bool = True,
    shadows: int = 3,
    deep: int = DEEP,
    constant: str = "",
    factor: float = 1.0,
    matching: str = "",
    side: int = 0,
    follow: str = "",
) -> dict[str, Any]:
    """Called where the framework is: train a port, watched or not. Gives the folder of its run, and what came of it."""
    from parity import watch

    port = import_module(f"parity.tests.ports.{model}_{framework}")
    with np.load(weights) as file:
        begin = {name: value.astype(dtype) if value.dtype.kind == "f" else value for name, value in file.items()}
    own = carried(model, framework, begin, mistake)
    run = Path(folder, "run")
    pairings = read_map(Path(matching)) if matching else ()
    slots = [slot for pairing in pairings for slot in (pairing.theirs if side else pairing.ours)]

    def watching(*objects: Any) -> Any:
        return watch(run, *objects, shadows=shadows, deep=deep, layout=slots or None, follow=follow or None)

    start = time.perf_counter()
    with settled(framework, dtype), changed(port, constant, factor):
        losses, state = port.train(
            watching if watched else unwatched, own, batches(model, seed, steps, dtype), dtype, mistake
        )
    seconds = time.perf_counter() - start
    np.savez(Path(folder, "state.npz"), **{name.replace("/", "|"): value for name, value in state.items()})
    return {
        "run": str(run),
        "losses": losses,
        "seconds": seconds,
        "folder": folder,
        "framework": framework,
        "model": model,
        "mistake": mistake,
        "matching": matching,
    }


@contextmanager
def changed(port: Any, constant: str, factor: float) -> Any:
    """Multiply a constant of a port's file, if one is named, as long as it trains."""
    if constant:
        before = getattr(port, constant)
        setattr(port, constant, before * factor)
    try:
        yield
    finally:
        if constant:
            setattr(port, constant, before)


@contextmanager
def settled(framework: str, dtype: str) -> Any:
    """Say in which dtype a framework computes, as a user does at the head of a script; and at the end as before."""
    if PROCESS[framework] == "jax":
        import jax

        wanted = {
            "jax_enable_x64": dtype == "float64",
            "jax_compilation_cache_dir": str(Path(gettempdir(), "parity-ports-jax")),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
        }
        before = {name: getattr(jax.config, name) for name in wanted}
        for name, value in wanted.items():
            jax.config.update(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
    elif framework == "keras":
        import keras

        floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)  # which keeps what floatx was when it was first asked for
        try:
            yield
        finally:
            keras.config.set_floatx(floatx)
            keras.config.set_dtype_policy(policy)
    else:
        yield


@dataclass(frozen=True)
class Port:
    """One port's run, to be made.

    ``matching`` is the file of a correspondence, of which a run that is followed and the one that follows it have one
    ``side`` each as their layout. No other run has a layout.
    """

    model: str
    framework: str
    dtype: str = "float32"
    seed: int = 0
    mistake: str = ""
    steps: int = STEPS
    watched: bool = True
    shadows: int = 3
    deep: int = DEEP
    constant: str = ""
    factor: float = 1.0
    matching: str = ""
    side: int = 0
    follow: str = ""

    def made(self, warm: Warm, folder: Callable[[], Path], apart: str = "") -> Future[Any]:
        """The future of what ``trained`` gives, in the framework's process, or in one that is kept ``apart``."""
        arguments: dict[str, Any] = {"model": self.model, "seed": self.seed}
        weights = warm.ask(begun, Environment("torch"), arguments, apart, folder).result()
        arguments |= {"framework": self.framework, "dtype": self.dtype, "mistake": self.mistake, "steps": self.steps}
        arguments |= {"watched": self.watched, "weights": weights, "shadows": self.shadows, "deep": self.deep}
        arguments |= {"constant": self.constant, "factor": self.factor}
        arguments |= {"matching": self.matching, "side": self.side, "follow": self.follow}
        return warm.ask(trained, Environment(PROCESS[self.framework]), arguments, apart, folder)


@dataclass(frozen=True)
class Found:
    """What is said of two runs."""

    verdict: Verdict = Verdict.INCONCLUSIVE
    ratio: float | None = None
    by: str = ""
    words: str = ""
    seconds: float = 0.0
    source: str = ""
    """Whose noise floor the verdict rests on."""
    matched: str = ""
    """How many tensors were matched, of all trained ones and buffers, and how many of those were proven."""
    ambiguous: tuple[str, ...] = ()
    """What the correspondence says of itself beside that."""
    wrongly: tuple[str, ...] = ()
    """The pairings that were called proven, and are not the porters' own."""
    matching_seconds: float = 0.0
    phase_right: bool = False
    layer_right: bool = False
    cause_right: bool = False
    explained: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    runs: tuple[str, str] = ("", "")


def judged(one: dict[str, Any], other: dict[str, Any], mistake: Mistake | None = None) -> Found:
    """Judge two runs, and if they differ say where; held against what is right to say of a mistake."""
    folders = Path(one["run"]), Path(other["run"])
    # Where both have one layout, there is nothing to match.
    begun = Found() if one["matching"] else _matched(one, other)
    found = replace(begun, runs=(one["run"], other["run"]), seconds=one["seconds"] + other["seconds"])
    try:
        comparison, said = explain_folders(Known(), *folders, (), None, _never)
        unexplained = ""
    except TrajectoryError as error:
        comparison, said, unexplained = compare(*folders), None, f"; explain: {error}"
    judgement = comparison.judgement
    found = replace(
        found,
        verdict=judgement.verdict,
        ratio=judgement.ratio,
        by=judgement.parameter or "",
        words=judgement.reason + unexplained,
        notes=comparison.notes,
        source=str(judgement.source or ""),
    )
    if said is None:
        return found
    found = replace(found, words=said["sentence"], explained=said)
    if mistake is None:
        return found
    text = f"{said['sentence']}; {said['note']}"
    return replace(
        found,
        phase_right=said["phase"] == mistake.phase,
        layer_right=all(mistake.layers[run["framework"]] in text for run in (one, other)),
        cause_right=bool(mistake.cause and re.search(mistake.cause, text)),
    )


def matched(one: dict[str, Any], other: dict[str, Any]) -> tuple[Correspondence, float]:
    """Match the tensors of two runs by value, without a line from their porters; and say how long it took."""
    start = time.perf_counter()
    found = match(read(one["run"]), read(other["run"]))
    return found, time.perf_counter() - start


def followed(warm: Warm, folder: Callable[[], Path], lead: Port, port: Port, mistake: Mistake | None = None) -> Found:
    """Let a port follow another, each with the layout that ``parity match`` printed of right runs, and judge it."""
    plain = [replace(each, mistake="").made(warm, folder).result() for each in (lead, port)]
    path = folder() / "map.json"
    path.write_text(json.dumps(matched(*plain)[0].as_json()))
    first = replace(lead, matching=str(path)).made(warm, folder).result()
    second = replace(port, matching=str(path), side=1, follow=first["run"]).made(warm, folder).result()
    return judged(second, first, mistake)


def _matched(one: dict[str, Any], other: dict[str, Any]) -> Found:
    """Say what the match of two runs is worth."""
    found, seconds = matched(one, other)
    begun = {name: np.asarray(stack[0]) for name, stack in read(one["run"]).params.items()}
    frameworks = one["framework"], other["framework"]
    wrongly = wrong(one["model"], frameworks, begun, found, one["mistake"] or other["mistake"])
    here = {name for pairing in found.pairings for name in pairing.names[0]}
    proven = {name for pairing in found.pairings if pairing.proven for name in pairing.names[0]}
    return Found(
        matched=f"{len(here)} of {len(here) + len(found.alone[0])}, {len(proven)} proven",
        ambiguous=found.lines[1:] + tuple(" + ".join(pairing.names[0]) for pairing in found.unproven),
        wrongly=tuple(" + ".join(pairing.names[0]) for pairing in wrongly),
        matching_seconds=seconds,
    )


def _never(*arguments: Any) -> Any:
    raise AssertionError("these runs are of no case, so that none is replayed")
