"""A cubic fitted to the sine: ŷ = a + b x + c x² + d x³ on 2000 points of [-π, π], by gradient descent on Σ(ŷ - y)².

The README of Xaleed/Pytorch writes it three times: in NumPy and on torch's tensors with derivatives by hand, and on
tensors with autograd. The NumPy way runs 20,000 steps, the others 2000, which is the length here.
"""

from fixtures import synthetic, weights
from parity.spec import Case, FullBatch, Loss, Policy, Publication, Sgd

CASES = (
    Case(
        name="sine-cubic",
        data=synthetic.sine,
        initial=weights.sine_cubic,
        loss=Loss("squared_error", "sum"),
        optimizer=Sgd(learning_rate=1e-6),
        schedule=FullBatch(),
        epochs=2000,
        publication=Publication(
            "README of Xaleed/Pytorch, Learning PyTorch with Examples: Tensors; Tensors and autograd"
        ),
        policy=Policy(
            reason="the loss falls from 1.9e5 to 8.9 and its float32 tolerance follows it to .005, what is left there "
            "of the roundings of half way; the end is held by the parameters and by float64",
        ),
        absent={"flax": "flax adds layers to JAX, and this model has none: it is a formula with four numbers"},
    ),
)
