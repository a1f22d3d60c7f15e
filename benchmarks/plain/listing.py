"""What a listing is, and the pieces of torch that several of them share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from parity.spec import Case, Sgd
from parity.typing import Array

Loop = Callable[[int], float]
"""Trains so many epochs and returns the last loss."""


@dataclass(frozen=True)
class Listing:
    """A document's script: the framework that it is written in, and in a few words what it trains with.

    ``prepare`` puts a case's data and initial parameters in place and returns the loop.
    """

    framework: str
    way: str
    prepare: Callable[[Case], Loop]


def sgd(case: Case) -> Sgd:
    """The case's optimizer, which must be gradient descent."""
    assert isinstance(case.optimizer, Sgd)
    return case.optimizer


def linear(case: Case, layer: str = "dense") -> Any:
    """A torch linear layer with the case's initial parameters."""
    import torch

    kernel, bias = (case.initial()[f"{layer}/{role}"] for role in ("kernel", "bias"))
    module = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(kernel.T))
        module.bias.copy_(torch.tensor(bias))
    return module


def tensors(*arrays: Array) -> Iterator[Any]:
    """Each array as a float32 tensor."""
    import torch

    return (torch.tensor(array, dtype=torch.float32) for array in arrays)


def logistic(case: Case) -> Any:
    """Logistic regression as an ``nn.Module``, with the case's initial parameters."""
    import torch

    class Logistic(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = linear(case)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.linear(x))

    return Logistic()


def images(batch_size: int, normalize: bool) -> Any:
    """A loader that converts image by image, as ``ToTensor`` and ``Normalize`` do, and shuffles.

    Torchvision would make a PIL image of each on the way. That is left out, so that these loops are faster than the
    listings and not slower.
    """
    import torch

    from fixtures import mnist

    data = mnist.scaled()
    pixels = np.round(data.x * 255).astype(np.uint8).reshape(-1, 28, 28)
    labels = torch.tensor(data.y)
    mean, deviation = torch.tensor([mnist.MEAN]).view(-1, 1, 1), torch.tensor([mnist.DEVIATION]).view(-1, 1, 1)

    class Images(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(pixels)

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            image = torch.from_numpy(pixels[place]).view(1, 28, 28).to(torch.float32).div(255)
            if normalize:
                image = image.clone().sub_(mean).div_(deviation)
            return image, int(labels[place])

    return torch.utils.data.DataLoader(Images(), batch_size=batch_size, shuffle=True)
