"""Softmax regression on handwritten digits: the run of the tutorial post of 2024-09-18, "Deep learning models
implemented in pytorch and TF", section 2.

    logits = x W + b        x: 784 pixels / 255, logits: 10 digits
    loss = mean over the batch of  log Σⱼ exp(logitsⱼ) - logits_y

W and b start at zero, so that the first batch costs log 10 = 2.3026 whatever is in it. The post prints no figures.
A public run of the very listing that the post took over does, on all 60,000 images: the variant ``full``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fixtures import mnist, weights
from parity.spec import Array, Batches, Case, Loss, Metric, Publication, Published, Sgd, Shuffled, cut, draws, randperm
from parity.trajectory import Trajectory

LISTING = "Deep learning models implemented in pytorch and TF (2024-09-18), section 2"
NOTEBOOK = (
    "not the document: a public run of its listing, softmax-regression.ipynb of the repository "
    "rasbt/deeplearning-models (torch 1.0.0, seed 123, all of MNIST)"
)


@dataclass(frozen=True)
class ShuffledByTorch1:
    """The batches of a shuffling ``DataLoader`` of torch 1.0 after ``torch.manual_seed(seed)``.

    A pass over the loader takes two raw 32-bit draws for a seed of its workers, then permutes the rows. The source
    makes two passes an epoch, one to train and one to count what is right; of the second only the number of draws
    matters. Later versions of torch draw otherwise: ``parity.ShuffledByLoader``.
    """

    batch_size: int
    seed: int
    ordered = False

    def epochs(self, rows: int) -> Iterator[Batches]:
        generator = np.random.RandomState(self.seed)
        while True:
            draws(generator, 2)
            yield cut(randperm(generator, rows), self.batch_size, keep_last=True)
            draws(generator, 2 + rows - 1)


def accuracy(logits: Array, y: Array) -> Array:
    """Share of images whose digit has the largest logit."""
    return np.mean(logits.argmax(-1) == y, -1)  # (snapshots, n, classes), (n,) -> (snapshots,)


def per_cent(metric: str) -> Callable[[Trajectory], Array]:
    return lambda run: 100 * run.metrics[metric]


def column(text: str) -> dict[int, str]:
    return dict(enumerate(text.split(), 1))


SHIPPED = Case(
    name="mnist-softmax",
    data=mnist.scaled,
    initial=partial(weights.zeros, mnist.PIXELS, 10),
    loss=Loss("crossentropy", "mean"),
    optimizer=Sgd(learning_rate=0.1),
    schedule=Shuffled(batch_size=256, seed=123),
    epochs=10,
    metrics=(
        Metric("train_accuracy", "train", accuracy),
        Metric("test_accuracy", "test", accuracy),
    ),
    publication=Publication(LISTING),
)

# Each epoch's cost at the batches that the notebook logs.
COSTS = {
    0: "2.3026 0.4105 0.4112 0.3988 0.3265 0.4518 0.3450 0.4900 0.3762 0.2790",
    50: "0.7941 0.4415 0.3579 0.3690 0.3673 0.3863 0.2289 0.3479 0.2976 0.3070",
    100: "0.5651 0.4367 0.3013 0.3459 0.3085 0.3620 0.3073 0.2343 0.2690 0.3300",
    150: "0.4603 0.4289 0.3258 0.4030 0.3183 0.3733 0.2750 0.3059 0.2610 0.2520",
    200: "0.4822 0.3926 0.4254 0.3240 0.3316 0.3289 0.3456 0.3684 0.3140 0.3301",
}

FULL = replace(
    SHIPPED,
    data=mnist.scaled_full,
    schedule=ShuffledByTorch1(batch_size=256, seed=123),
    publication=Publication(
        LISTING,
        figures=(
            *(
                Published(f"cost of batch {batch}", column(text), "%.4f", "loss", NOTEBOOK, index=(batch,))
                for batch, text in COSTS.items()
            ),
            Published(
                "training accuracy",
                column("88.04 89.37 89.98 90.35 90.64 90.86 91.00 91.22 91.34 91.40"),
                "%.2f",
                per_cent("train_accuracy"),
                NOTEBOOK,
            ),
            Published("test accuracy", {10: "91.77"}, "%.2f", per_cent("test_accuracy"), NOTEBOOK),
        ),
        log="Epoch: {epoch:03d}/010 | Cost of batches "
        + " ".join(f"{batch:03d}: {{cost of batch {batch}}}" for batch in COSTS)
        + " | training accuracy: {training accuracy}%",
    ),
)

CASES = (replace(SHIPPED, variants={"full": FULL}),)
