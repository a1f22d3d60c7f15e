"""Differences between two runs' settings, found before any result is compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from parity.dtypes import coarsest, rounded, unit
from parity.frameworks import in_tf32, known_framework
from parity.judging.compare import distance
from parity.judging.drawing import drawing, other_draws
from parity.judging.moments import moment, unit_of
from parity.judging.tensors.correspondence import first_few
from parity.judging.tensors.sides import is_within
from parity.nn.configuration import RANDOM
from parity.recording.layers import CALL, Layer, layers_of
from parity.recording.steps import epochs_and_batches, rows_in_words
from parity.trajectory import Trajectory

COUNTED = ("dropout", "batch_norm")
"""The kinds that are a layer in each framework and are taken apart in none. A dropout that is no layer but a function
draws a mask of its own all the same."""
SHOWN = 8
"""So many differences between layers are listed."""
BY_DESIGN = ("threads",)
"""A framework's setting that differs from another's by design: 0 in TensorFlow is a number of torch's."""


def preflight(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield each difference between settings that both runs record, and each setting that contradicts a run's dtype."""
    for name in ("case", "dtype", "device", "threads", "lockstep"):
        ours, theirs = a.meta.get(name), b.meta.get(name)
        if ours is not None and theirs is not None and ours != theirs:
            yield f"{name} differs: {ours} and {theirs}"
    yield from _other_order(a, b)
    yield from _other_inputs(a, b)
    yield from other_settings(a, b)
    for group in ("settings", "versions", "platform"):
        ours, theirs = (run.meta.get(group) for run in (a, b))
        if isinstance(ours, dict) and isinstance(theirs, dict):
            yield from _other_values({name: ours[name] for name in ours if name not in BY_DESIGN}, theirs)
    yield from _other_layers(a, b)
    yield from _other_counts(a, b)
    yield from other_draws(a, b)
    yield from _other_beginning(a, b)
    for run in (a, b):
        settings = run.meta.get("settings") or {}
        who = run.meta.get("implementation", "a run")
        if run.meta.get("dtype") == "float64" and settings.get("x64") is False:
            yield f"{who} is said to be float64, but x64 is off: JAX computes in float32"
        on_gpu = run.meta.get("device") not in (None, "cpu")
        if on_gpu and run.meta.get("dtype") == "float32" and in_tf32(settings):
            yield f"TF32 is on in {who}: float32 products keep ten bits"


def other_settings(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield each hyper-parameter in which two runs differ, by name, as far as both say it in the same words."""
    ours, theirs = (run.meta.get("hyper_parameters") for run in (a, b))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        yield from _other_values(ours, theirs)
    mine, other = (run.meta.get("optimizer") for run in (a, b))
    if not isinstance(mine, dict) or not isinstance(other, dict):
        return
    # A chain of transformations has no name beside which another framework's class would be another optimizer.
    if _kind(mine) != _kind(other) and "" not in (_kind(mine), _kind(other)):
        yield f"the optimizer differs: {mine.get('class')} and {other.get('class')}"
        return
    # Two frameworks have two vocabularies; what the same word says differently may be meant alike there.
    if mine.get("class") != other.get("class"):
        return
    groups, others = mine.get("groups"), other.get("groups")
    if isinstance(groups, list) and isinstance(others, list):
        if len(groups) != len(others):
            yield f"the optimizer has other groups of parameters: {len(groups)} and {len(others)}"
        for number, (one, two) in enumerate(zip(groups, others, strict=False)):
            if isinstance(one, dict) and isinstance(two, dict):
                for said in _other_values(one, two):
                    yield f"of the optimizer's group {number}, {said}" if len(groups) > 1 else f"optimizer: {said}"


def _kind(said: Mapping[str, Any]) -> str:
    """The name of an optimizer's class, without its module; "" of a chain, as optax has them."""
    name = str(said.get("class", ""))
    return "" if name.startswith("optax.") else name.rpartition(".")[2].lower()


def _other_values(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(set(ours) & set(theirs)):
        if ours[name] != theirs[name]:
            yield f"{name} differs: {ours[name]} and {theirs[name]}"


def _other_layers(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield the layers of two runs of one framework that differ in kind or configuration, and those without a partner.

    Frameworks cut models into different layers and call them differently, so that theirs are not held together here.
    """
    frameworks = [known_framework(str(run.meta.get("implementation", ""))) for run in (a, b)]
    if frameworks[0] != frameworks[1]:
        return
    ours, theirs = ({layer.name: layer for layer in layers_of(run)} for run in (a, b))
    if not ours or not theirs:
        return
    shared = [name for name in ours if name in theirs]
    # Whoever names other layers otherwise has named them all so, and values tell which is which.
    if 2 * len(shared) >= min(len(ours), len(theirs)):
        for which, one, other in (("second", ours, theirs), ("first", theirs, ours)):
            lonely = [name for name in one if name not in other]
            if len(lonely) > SHOWN:
                yield f"{len(lonely)} layers have no partner of their name in the {which} run: {first_few(lonely)}"
            else:
                yield from (f"layer {name}, a {one[name].kind}, has no partner in the {which} run" for name in lonely)
    differ: list[str] = []
    for name in shared:
        kinds = [layers[name].kind for layers in (ours, theirs)]
        if kinds[0] != kinds[1]:
            differ.append(f"layer {name} differs: a {kinds[0]} and a {kinds[1]}")
            continue
        values = _other_values(ours[name].configuration, theirs[name].configuration)
        differ += [f"layer {name}, a {kinds[0]}: {said}" for said in values]
    yield from differ[:SHOWN]
    if len(differ) > SHOWN:
        yield f"layers differ in {len(differ) - SHOWN} more settings"


def _other_counts(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield how many layers of a kind two runs of other frameworks call, if that tells them apart.

    Most layers of one framework may be a function, or several layers, of another: attention is, say. So those of
    COUNTED alone are counted, and only where the run that calls fewer has no layer of a kind that nobody knows.
    """
    frameworks = [known_framework(str(run.meta.get("implementation", ""))) for run in (a, b)]
    if frameworks[0] == frameworks[1]:
        return
    called = [{CALL.sub("", layer.name): layer for layer in layers_of(run)} for run in (a, b)]
    if not all(called):
        return
    draws = [{CALL.sub("", layer.name) for layer in drawing(run)} for run in (a, b)]
    for kind in COUNTED:
        counts = [
            sum(layer.common.kind == kind for name, layer in layers.items() if kind not in RANDOM or name in drawn)
            for layers, drawn in zip(called, draws, strict=True)
        ]
        fewer = called[0] if counts[0] < counts[1] else called[1]
        unknown = any(not layer.common.kind and not _holds(name, fewer) for name, layer in fewer.items())
        if counts[0] == counts[1] or unknown:
            continue
        said = [str(count) if count else "none" for count in counts]
        which = ("first", "second") if counts[0] else ("second", "first")
        ours, theirs = said if counts[0] else said[::-1]
        what = f"{kind} layer" + ("" if ours == "1" else "s")
        yield f"the {which[0]} run calls {ours} {what}, the {which[1]} {theirs}"


def _holds(name: str, layers: Mapping[str, Layer]) -> bool:
    """Tell whether a layer is made of others that are listed too."""
    return any(is_within(other, name) for other in layers)


def _other_order(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield a difference in the order of the batches; it names the first such batch if both runs recorded its rows."""
    ours, theirs = a.meta.get("batch_order"), b.meta.get("batch_order")
    if ours is None or theirs is None or ours == theirs:
        return
    for number, (epoch, batch) in enumerate(epochs_and_batches(a)):
        mine, other = (run.steps.get(f"{number}/rows") for run in (a, b))
        if mine is None or other is None:
            yield f"the order of the batches differs: SHA-256 {ours[:8]}… and {theirs[:8]}…"
            return
        if not np.array_equal(mine, other):
            rows = f"{rows_in_words(mine)} and {rows_in_words(other)}"
            alike = ", the same in another order" if np.array_equal(np.sort(mine), np.sort(other)) else ""
            when = moment(unit_of(a, b), epoch, batch)
            yield f"the order of the batches differs: {when} has the rows {rows}{alike}"
            return


def _other_inputs(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield the first update whose inputs have other values, as far as both runs kept sketches of them."""
    narrow = coarsest(*(str(run.meta.get("dtype", "float64")) for run in (a, b)))
    for number, (epoch, batch) in zip(itertools.count(), epochs_and_batches(a), strict=False):
        mine, other = (run.steps.get(f"{number}/batch") for run in (a, b))
        if mine is None or other is None:
            return
        if mine.shape != other.shape:
            yield f"the inputs differ: {moment(unit_of(a, b), epoch, batch)} has {len(mine)} and {len(other)} tensors"
            return
        ours, theirs = (np.asarray(each, np.float64) for each in (mine, other))
        largest = np.maximum(np.abs(ours), np.abs(theirs)).max(initial=0.0)
        # A sketch holds means, which add up roundings.
        if not np.allclose(ours, theirs, rtol=0, atol=64 * unit(narrow) * largest, equal_nan=True):
            yield f"the inputs differ: those of {moment(unit_of(a, b), epoch, batch)} have other values"
            return


def _other_beginning(a: Trajectory, b: Trajectory) -> Iterator[str]:
    """Yield the initial parameters that differ after rounding to the narrower of the two dtypes."""
    for name in a.params:
        if name in b.params and a.params[name].shape[1:] == b.params[name].shape[1:]:
            narrow = coarsest(*(run.meta.get("dtype", run.params[name].dtype.name) for run in (a, b)))
            ours, theirs = (rounded(np.asarray(run.params[name][0]), narrow) for run in (a, b))
            if not np.array_equal(ours, theirs, equal_nan=True):
                apart = float(distance(ours[None], theirs[None])[0])
                yield f"initial {name} differs" + (f", by up to {apart:.3g}" if np.isfinite(apart) else "")
