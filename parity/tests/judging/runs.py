"""Made-up runs, their floors, and a difference put into one place of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from parity.judging.floors.floor import Floor
from parity.tolerance import FACTOR
from parity.trajectory import Trajectory

exhaustive = settings(derandomize=True, deadline=None, max_examples=100, database=None)
EPOCHS, BATCHES = 4, 3
SHAPES = {"dense/kernel": (3, 2), "dense/bias": (2,), "scale": ()}
UNIT = 1e-9
"""The floor at the first epoch; it grows by as much at every epoch, as floors do."""


def make(dtype: str = "float64", every: int = 1) -> Trajectory:
    generator = np.random.default_rng(1)
    epochs = np.arange(0, EPOCHS * every + 1, every)
    params = {name: generator.normal(size=(len(epochs), *shape)).astype(dtype) for name, shape in SHAPES.items()}
    loss = generator.normal(size=(EPOCHS * every, BATCHES)).astype(dtype)
    return Trajectory({"dtype": dtype}, epochs, loss, params, {})


def floor_of(run: Trajectory) -> Floor:
    loss = UNIT * (1 + np.arange(run.loss.size, dtype=np.float64)).reshape(run.loss.shape)
    return Floor(loss, {name: UNIT * (1 + np.arange(len(run.epochs), dtype=np.float64)) for name in run.params})


def copy(run: Trajectory) -> Trajectory:
    params = {name: np.array(values) for name, values in run.params.items()}
    return replace(run, meta=dict(run.meta), epochs=run.epochs.copy(), loss=run.loss.copy(), params=params)


places = st.one_of(
    st.tuples(st.just("loss"), st.integers(0, EPOCHS - 1), st.integers(0, BATCHES - 1)),
    *(
        st.tuples(st.just(name), st.integers(0, EPOCHS), *(st.integers(0, side - 1) for side in shape))
        for name, shape in SHAPES.items()
    ),
)


def put(run: Trajectory, place: tuple[Any, ...], value: Any) -> None:
    (run.loss if place[0] == "loss" else run.params[place[0]])[place[1:]] = value


def at(run: Trajectory, place: tuple[Any, ...]) -> Any:
    return (run.loss if place[0] == "loss" else run.params[place[0]])[place[1:]]


def tolerance_at(floor: Floor, place: tuple[Any, ...]) -> float:
    return FACTOR * float(floor.loss[place[1:]] if place[0] == "loss" else floor.params[place[0]][place[1]])


def epoch_at(place: tuple[Any, ...]) -> int:
    return place[1] + 1 if place[0] == "loss" else place[1]
