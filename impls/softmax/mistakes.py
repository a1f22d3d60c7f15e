"""Mistakes that people make with the tutorial's images."""

from dataclasses import replace

from fixtures import mnist
from parity.mistakes import Mistake, on_rows
from parity.spec import Case, Dataset


def normalized(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=(data.x - mnist.MEAN) / mnist.DEVIATION)


def scaled_twice(data: Dataset, case: Case) -> Dataset:
    return replace(data, x=data.x / 255)


MISTAKES = (
    Mistake(
        "mnist-normalized",
        "batch",
        "The pixels are normalized by mean and deviation instead of only divided by 255.",
        "Alibaba-MIIL/ImageNet21K#29",
        on_rows(normalized),
    ),
    Mistake(
        "mnist-scaled-twice",
        "batch",
        "The pixels are divided by 255 twice.",
        "magenta/magenta#925; pkmital/pycadl#5",
        on_rows(scaled_twice),
    ),
)
