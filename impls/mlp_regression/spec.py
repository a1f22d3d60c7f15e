"""A perceptron with one hidden layer on random targets: the first run of the tutorial on MLPs and PyTorch's building
blocks, written in NumPy with gradients by hand.

    ŷ = [1 relu([1 x] W₁)] W₂           x: 10, hidden: 100, ŷ: 1
    loss = mean (ŷ - y)²
    Wᵢ ← Wᵢ - learning_rate · (∂loss/∂Wᵢ + λ Wᵢ)

The source folds the biases into the weights, as the first row of each matrix, and feeds a one in front of every
row. So its penalty λ = .5 shrinks the biases too; the loss that it records leaves the penalty out. The canonical
layout has kernels and biases apart; implementations that go by hand fold them as the source does.
"""

from fixtures import synthetic, weights
from parity.spec import Case, FullBatch, Loss, Policy, Publication, Sgd

CASES = (
    Case(
        name="mlp-regression",
        data=synthetic.mlp_regression,
        initial=weights.mlp_regression,
        loss=Loss("squared_error", "mean"),
        optimizer=Sgd(learning_rate=1e-3, weight_decay=0.5),
        schedule=FullBatch(),
        epochs=250,
        publication=Publication("Tutorial on MLPs and PyTorch's building blocks, two-layer perceptron for regression"),
        policy=Policy(
            float32_parameters="lockstep",
            reason="a ReLU whose input is near zero may be on in one run and off in another: the gradient then jumps",
        ),
    ),
)
