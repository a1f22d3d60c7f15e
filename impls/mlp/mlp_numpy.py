"""The perceptron with several layers in NumPy, derivatives by hand."""

from parity import nn
from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, list[Array]]:
    activations = [x]
    for n in range(1, len(params) // 2 + 1):
        z = activations[-1] @ params[f"dense{n}/kernel"] + params[f"dense{n}/bias"]  # (n, in) -> (n, out)
        activations.append(nn.relu(z))
    log_p = nn.log_softmax(activations[-1])
    return log_p, [*activations, log_p]


def backward(params: Params, cache: list[Array], d_log_p: Array) -> Params:
    *activations, log_p = cache
    d_a = nn.log_softmax_backward(d_log_p, log_p)
    gradients = {}
    for n in reversed(range(1, len(activations))):
        d_z = nn.relu_backward(d_a, activations[n])
        gradients[f"dense{n}/kernel"] = activations[n - 1].T @ d_z
        gradients[f"dense{n}/bias"] = d_z.sum(0)
        d_a = d_z @ params[f"dense{n}/kernel"].T  # (n, out) -> (n, in)
    return gradients


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
