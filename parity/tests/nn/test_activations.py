"""Activation functions as NumPy says them, held against every framework that has them."""

from __future__ import annotations

import numpy as np
import pytest

from parity.nn.activations import ELEMENTWISE, erf

X = np.concatenate([np.linspace(-8, 8, 101), [-1e-6, 0.0, 1e-6, -30.0, 30.0]])


def in_torch() -> dict[str, list[float]]:
    import torch
    from torch.nn import functional

    functions = {
        "relu": functional.relu,
        "relu6": functional.relu6,
        "leaky_relu of slope 0.01": functional.leaky_relu,
        "leaky_relu of slope 0.2": lambda x: functional.leaky_relu(x, 0.2),
        "elu": functional.elu,
        "selu": functional.selu,
        "gelu": functional.gelu,
        "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
        "silu": functional.silu,
        "mish": functional.mish,
        "softplus": lambda x: functional.softplus(x, threshold=1e9),  # its own beyond 20 is x
        "sigmoid": torch.sigmoid,
        "hard sigmoid": functional.hardsigmoid,
        "hard silu": functional.hardswish,
        "tanh": torch.tanh,
    }
    x = torch.from_numpy(X)
    return {name: function(x).tolist() for name, function in functions.items()}


def in_keras() -> dict[str, list[float]]:
    import keras
    import tensorflow as tf

    of = keras.activations
    functions = {
        "relu": of.relu,
        "relu6": of.relu6,
        "elu": of.elu,
        "selu": of.selu,
        "silu": of.silu,
        "mish": of.mish,
        "softplus": of.softplus,
        "sigmoid": of.sigmoid,
        "hard sigmoid": of.hard_sigmoid,
        "hard silu": of.hard_silu,
        "tanh": of.tanh,
    }
    x = tf.constant(X)
    return {name: np.asarray(function(x)).tolist() for name, function in functions.items()}


def in_jax() -> dict[str, list[float]]:
    import jax

    jax.config.update("jax_enable_x64", True)
    of = jax.nn
    functions = {
        "relu": of.relu,
        "relu6": of.relu6,
        "leaky_relu of slope 0.01": of.leaky_relu,
        "elu": of.elu,
        "selu": of.selu,
        "gelu": lambda x: of.gelu(x, approximate=False),
        "gelu by tanh": of.gelu,
        "silu": of.silu,
        "mish": of.mish,
        "softplus": of.softplus,
        "sigmoid": of.sigmoid,
        "hard sigmoid": of.hard_sigmoid,
        "hard silu": of.hard_silu,
        "tanh": jax.numpy.tanh,
    }
    return {name: np.asarray(function(jax.numpy.asarray(X))).tolist() for name, function in functions.items()}


def held(found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        # A handful of roundings of the largest term that is added on the way.
        np.testing.assert_allclose(ELEMENTWISE[name](X), values, rtol=1e-13, atol=1e-14, err_msg=name)


@pytest.mark.asks(question=in_torch, framework="torch")
def test_torch_computes_the_same(answer: dict[str, list[float]]) -> None:
    held(answer)


@pytest.mark.asks(question=in_keras, framework="tensorflow")
def test_keras_computes_the_same(answer: dict[str, list[float]]) -> None:
    """But for gelu, up to 4e-9 off in float64, and the slope of leaky_relu: their constants go through float32."""
    held(answer)


@pytest.mark.asks(question=in_jax, framework="jax")
def test_jax_computes_the_same(answer: dict[str, list[float]]) -> None:
    held(answer)


def test_erf_is_odd_and_ends_at_one() -> None:
    assert erf(np.array([0.0, 6.0])).tolist() == [0.0, 1.0]
    np.testing.assert_array_equal(erf(-X), -erf(X))


def test_no_two_functions_are_alike() -> None:
    values = {name: function(X) for name, function in ELEMENTWISE.items()}
    for name, one in values.items():
        for other, two in values.items():
            assert name == other or np.max(np.abs(one - two)) > 1e-4, (name, other)
