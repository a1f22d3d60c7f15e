"""Mistakes in how the inputs are prepared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from parity.mistakes.mistake import Mistake
from parity.mistakes.planting import on_rows
from parity.recording.steps import Phase
from parity.spec import Case, Dataset


def standardized(case: Case) -> bool:
    """Tell whether the training rows are standardized: each column has mean 0 and population deviation 1."""
    x = case.data().x
    if x.ndim != 2 or x.dtype.kind != "f" or len(x) < 2:
        return False
    return bool(np.allclose(x.mean(0), 0, atol=1e-9) and np.allclose(x.std(0), 1, atol=1e-9))


def standardized_with_others(case: Case) -> bool:
    """Tell whether the training rows are standardized, and other rows are held out."""
    return case.data().x_test is not None and standardized(case)


def by_sample_deviation(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=data.x / data.x.std(0, ddof=1))


def by_all_rows(data: Dataset, case: Case) -> Dataset:
    """Standardize anew, by all rows: scale and shift of the first time cancel."""
    assert data.x_test is not None
    everything = np.concatenate([data.x, data.x_test])
    return replace(data, x=(data.x - everything.mean(0)) / everything.std(0))


MISTAKES: tuple[Mistake, ...] = (
    Mistake(
        name="sample-standard-deviation",
        phase=Phase.BATCH,
        sentence="The inputs are divided by their sample standard deviation (n - 1) instead of the population's (n).",
        reference="pytorch/pytorch#1082; scikit-learn/scikit-learn#12901",
        applies=standardized,
        how=on_rows(by_sample_deviation),
    ),
    Mistake(
        name="statistics-of-train-and-test",
        phase=Phase.BATCH,
        sentence="Mean and deviation are those of training and test rows together instead of the training rows alone.",
        reference="scikit-learn/scikit-learn#24695; scikit-learn/scikit-learn#24399",
        applies=standardized_with_others,
        how=on_rows(by_all_rows),
    ),
)
