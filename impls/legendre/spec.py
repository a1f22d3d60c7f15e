"""A Legendre polynomial fitted to the sine: ŷ = a + b P₃(c + d x), P₃(z) = (5 z³ - 3 z) / 2, on 2000 points of [-π, π].

Gradient descent on Σ(ŷ - y)². The README of Xaleed/Pytorch writes P₃ with a derivative of its own,
P₃'(z) = 3 (5 z² - 1) / 2, in the place where torch lets one define such a function; here every framework does so, and
beside each stands the same model under the framework's own differentiation (``…-autodiff``).

The sine is odd and so is P₃: from a = c = 0 their gradients are zero in exact arithmetic, and what a and c hold is
rounding alone.
"""

from collections.abc import Mapping
from typing import Literal

from fixtures import synthetic, weights
from parity.spec import Case, FullBatch, Loss, Policy, Publication, Published, Sgd

README = "README of Xaleed/Pytorch, PyTorch: Defining new autograd functions"
PRINTED = "runs of the README's listing; three agree to about seven digits"
BY: Literal["public run"] = "public run"

PRINTED_LOSSES = (
    "209.958344 144.660187 100.702484 71.035194 50.978508 37.403137 28.206867 21.973188 17.745729 14.877890 "
    "12.931766 11.610918 10.714259 10.105482 9.692104 9.411375 9.220746 9.091287 9.003362 8.943641"
)
LOSSES = {100 * mark: text for mark, text in enumerate(PRINTED_LOSSES.split(), 1)}
"""The loss before the update of steps 99, 199, …, 1999, which is that of epoch 100, 200, …, 2000."""


def published(
    quantity: str, values: Mapping[int, str], decimals: int, sure: int, of: str = "loss", index: tuple[int, ...] = ()
) -> tuple[Published, ...]:
    """One printed quantity, with ``decimals`` printed, for each dtype.

    The runs were float32, and their last digits are their own rounding: a float32 run may differ from them by the
    noise floor. A float64 run lacks that rounding, up to 2e-4 in a loss, and is compared in the decimals that it did
    not reach (``sure``).
    """
    rounded = {epoch: f"{float(text):.{sure}f}" for epoch, text in values.items()}
    return (
        Published(quantity, values, f"%.{decimals}f", of, PRINTED, index, "floor", dtypes=("float32",), by=BY),
        Published(quantity, rounded, f"%.{sure}f", of, PRINTED, index, dtypes=("float64",), by=BY),
    )


def vanishing(quantity: str) -> Published:
    """A parameter whose printed value was noise: its size, below 1e-8, is what is known of it."""
    zero = f"{0:.16f}"
    of = f"params/legendre/{quantity}"
    return Published(quantity, {2000: zero}, "%.16f", of, PRINTED, (0,), "envelope", margin=1e-8, by=BY)


CASES = (
    Case(
        name="sine-legendre",
        data=synthetic.sine,
        initial=weights.sine_legendre,
        loss=Loss("squared_error", "sum"),
        optimizer=Sgd(learning_rate=5e-6),
        schedule=FullBatch(),
        epochs=2000,
        publication=Publication(
            README,
            figures=(
                *published("loss", LOSSES, decimals=6, sure=2),
                vanishing("a"),
                *published("b", {2000: "-2.208526849746704"}, decimals=15, sure=5, of="params/legendre/b", index=(0,)),
                vanishing("c"),
                *published("d", {2000: "0.2554861009120941"}, decimals=16, sure=7, of="params/legendre/d", index=(0,)),
            ),
            log="{step} {loss}",
        ),
        policy=Policy(
            reason="a and c are zero in exact arithmetic: their noise floors, about 3e-8 in float32 and 1e-16 in "
            "float64, are absolute, and no bound relative to their size can be asked for",
        ),
        absent={"flax": "flax adds layers to JAX, and this model has none: it is a formula with four numbers"},
    ),
)
