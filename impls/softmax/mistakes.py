"""Mistakes that people make with the tutorial's images."""

from dataclasses import replace

from fixtures import mnist
from parity.mistakes import Mistake, Phase, on_rows
from parity.spec import Case, Dataset


def normalized(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=(data.x - mnist.MEAN) / mnist.DEVIATION)


def scaled_twice(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=data.x / 255)


MISTAKES = (
    Mistake(
        name="mnist-normalized",
        phase=Phase.BATCH,
        sentence="The pixels are normalized by mean and deviation instead of only divided by 255.",
        reference="Alibaba-MIIL/ImageNet21K#29",
        how=on_rows(normalized),
    ),
    Mistake(
        name="mnist-scaled-twice",
        phase=Phase.BATCH,
        sentence="The pixels are divided by 255 twice.",
        reference="magenta/magenta#925; pkmital/pycadl#5",
        how=on_rows(scaled_twice),
    ),
)
