"""Mistakes that people make with the iris data and with the figures that the tutorial prints."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.resources import files

import numpy as np

from fixtures import iris
from parity.mistakes import Mistake, Phase, batches, on_rows
from parity.spec import Array, Batches, Case, Dataset
from parity.trainer import Build, Trained, Trainer, verbs


def measured() -> tuple[Array, Array, Array]:
    """Read the first 100 rows of the file, (100, 2) in cm, and which of them train and test the case."""
    lines = (files("fixtures") / iris.FILE).read_text().splitlines()
    order = np.arange(100)
    np.random.RandomState(1).shuffle(order)
    return np.array([line.split(",")[:2] for line in lines[:100]], np.float64), order[25:], order[:25]


def scikit_learn() -> Array:
    """Take row 38 (1-based) as Fisher has it. Row 35 differs in a column that the case leaves out."""
    x, train, _ = measured()
    x[37, 1] = 3.6
    return (x[train] - x[train].mean(0)) / x[train].std(0)


def as_measured() -> Array:
    x, train, _ = measured()
    return x[train]


def standardized_twice() -> Array:
    x, train, _ = measured()
    mean, deviation = x[train].mean(0), x[train].std(0)
    return ((x[train] - mean) / deviation - mean) / deviation


def has_iris(case: Case) -> bool:
    return case.data is iris.standardized


def with_inputs(inputs: Callable[[], Array]) -> Callable[[Dataset, Case], Dataset]:
    """Give the same rows other inputs, (75, 2)."""
    return lambda data, case: Dataset(inputs(), data.y)


def has_average_cost(case: Case) -> bool:
    return any(published.quantity == "AvgCost" for published in case.publication.figures)


def mean_cost(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    """Report losses whose AvgCost, which divides by 1 + 7e in the tutorial, is the mean of the right losses."""
    trainer, each = build(case, dtype, device), batches(case)

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        step = trainer.export().step
        losses, params, predictions = trainer.train(segments, inputs)
        steps = step + np.arange(losses.size).reshape(losses.shape)
        epochs = steps // each + 1
        losses = (losses * ((1 + each * epochs) / each)).astype(losses.dtype)
        return Trained(losses, params, predictions)

    return replace(verbs(trainer), train=train)


def ties_broken(trainer: Trainer, towards: float) -> Trainer:
    """Move each predicted probability of exactly one half to its neighbour ``towards`` 0 or 1."""

    def broken(p: Array) -> Array:
        return np.where(p == 0.5, np.nextafter(p, p.dtype.type(towards)), p)

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        trained = trainer.train(segments, inputs)
        return trained._replace(predictions=tuple(map(broken, trained.predictions)))

    return replace(verbs(trainer), predict=lambda x: broken(trainer.predict(x)), train=train)


def untrained_scores(case: Case) -> list[Callable[[Array, Array], Array]]:
    """List the scores of which a figure is published before training."""
    untrained = {published.of for published in case.publication.figures if 0 in published.values}
    return [metric.score for metric in case.metrics if f"metrics/{metric.name}" in untrained]


def has_untrained_figures(case: Case) -> bool:
    """Tell whether a figure is published of zero weights, which make every probability one half."""
    return bool(untrained_scores(case)) and not any(p.any() for p in case.initial().values())


def ties(build: Build, case: Case, dtype: str, device: str) -> Trainer:
    half_is_one = untrained_scores(case)[0](np.array([[[0.5]]]), np.array([[1.0]]))[0] == 1
    return ties_broken(build(case, dtype, device), 0.0 if half_is_one else 1.0)


MISTAKES = (
    Mistake(
        name="iris-of-scikit-learn",
        phase=Phase.BATCH,
        sentence="The data are scikit-learn's, which differ from the UCI file in two rows.",
        reference="scikit-learn/scikit-learn#11082; scikit-learn/scikit-learn#27708",
        applies=has_iris,
        how=on_rows(with_inputs(scikit_learn)),
    ),
    Mistake(
        name="iris-not-standardized",
        phase=Phase.BATCH,
        sentence="The inputs are centimetres instead of deviations from the mean.",
        reference="scikit-learn documentation, Importance of Feature Scaling",
        applies=has_iris,
        how=on_rows(with_inputs(as_measured)),
    ),
    Mistake(
        name="iris-standardized-twice",
        phase=Phase.BATCH,
        sentence="Mean and deviation of the centimetres are applied twice.",
        reference="talshaharabany/AutoSAM#3; hao-ai-lab/FastVideo#1055",
        applies=has_iris,
        how=on_rows(with_inputs(standardized_twice)),
    ),
    Mistake(
        name="average-cost-a-mean",
        phase=Phase.BATCH,
        sentence=(
            "The column AvgCost is taken for the mean of an epoch's costs; it divides by a count that is never reset."
        ),
        reference="kekmodel/FixMatch-pytorch#40; ludwig-ai/ludwig#1659",
        applies=has_average_cost,
        how=mean_cost,
    ),
    Mistake(
        name="ties-rounded-the-other-way",
        phase=Phase.PREDICTION,
        sentence="A probability of exactly one half counts as the other class.",
        reference="tensorflow/tensorflow#3730; blei-lab/edward#262",
        applies=has_untrained_figures,
        how=ties,
        figures_only=True,
    ),
)
