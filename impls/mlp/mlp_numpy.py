"""The perceptron with several layers in NumPy, derivatives by hand."""

import numpy as np

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, list[Array]]:
    activations = [x]
    for n in range(1, len(params) // 2 + 1):
        z = activations[-1] @ params[f"dense{n}/kernel"] + params[f"dense{n}/bias"]  # (n, in) -> (n, out)
        activations.append(np.maximum(z, 0))
    last = activations[-1]
    shifted = last - last.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return log_p, [*activations, log_p]


def backward(params: Params, cache: list[Array], d_log_p: Array) -> Params:
    *activations, log_p = cache
    d_a = d_log_p - np.exp(log_p) * d_log_p.sum(1, keepdims=True)
    gradients = {}
    for n in reversed(range(1, len(activations))):
        d_z = d_a * (activations[n] > 0)  # 0 where z is exactly 0, as every framework's relu has it
        gradients[f"dense{n}/kernel"] = activations[n - 1].T @ d_z
        gradients[f"dense{n}/bias"] = d_z.sum(0)
        d_a = d_z @ params[f"dense{n}/kernel"].T  # (n, out) -> (n, in)
    return gradients


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
