"""The scripts that the documents list, one file a document: what our training is measured against.

Each function takes a case, puts its data and initial parameters in place, untimed, and returns the loop. The loop
takes a number of epochs and returns the last loss. It does what the listing's loop does, in the listing's framework,
precision and order. Where a listing prints now and then, the lines that serve the printing alone are left out; where
it takes an accuracy after every epoch, the loop takes it too.

A process has one framework: each function imports its own when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.plain import post, readme, tutorial
from benchmarks.plain.listing import Listing

LISTINGS: Mapping[str, Listing] = {
    "iris-logistic": Listing("torch", "nn.Module, BCELoss, optim.SGD", post.iris_logistic),
    "iris-logistic-minibatch": Listing("tensorflow", "TF1 graph, a session call a batch", post.iris_minibatch),
    "synthetic-logistic": Listing("torch", "nn.Module, BCELoss, optim.SGD", readme.synthetic_logistic),
    "linear-regression": Listing("torch", "nn.Module, MSELoss, optim.SGD", readme.linear_regression),
    "linear-gd": Listing("numpy", "NumPy by hand, float64", readme.linear_gd),
    "sine-cubic": Listing("torch", "tensors and autograd", readme.sine_cubic),
    "sine-legendre": Listing("torch", "tensors and an autograd.Function", readme.sine_legendre),
    "mlp-regression": Listing("numpy", "NumPy by hand, float64", tutorial.mlp_regression),
    "mnist-softmax": Listing("torch", "nn.Module, DataLoader, optim.SGD", post.mnist_softmax),
    "mnist-mlp": Listing("torch", "nn.Module, DataLoader, optim.SGD", tutorial.mnist_mlp),
    "char-gru": Listing("torch", "nn.GRU a character at a time, optim.Adam", post.char_gru),
}
"""Case name to the listing that trains it. The README states three stochastic rules of linear regression without a
script, and gives none for the bars either: these cases have no listing."""
