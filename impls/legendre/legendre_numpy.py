"""a + b P₃(c + d x) in NumPy, derivatives by hand."""

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def legendre3(z: Array) -> Array:
    return 0.5 * (5 * (z * z * z) - 3 * z)  # NumPy's z**3 calls pow, which takes ten times as long


def legendre3_derivative(z: Array) -> Array:
    return 1.5 * (5 * (z * z) - 1)


def forward(params: Params, x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    a, b, c, d = (params[f"legendre/{name}"] for name in "abcd")  # (1,) each
    z = c + d * x  # (n, 1)
    p3 = legendre3(z)
    return a + b * p3, (x, z, p3)


def backward(params: Params, cache: tuple[Array, Array, Array], d_prediction: Array) -> Params:
    x, z, p3 = cache
    d_z = d_prediction * params["legendre/b"] * legendre3_derivative(z)  # (n, 1)
    return {
        "legendre/a": d_prediction.sum(0),  # (n, 1) -> (1,)
        "legendre/b": (d_prediction * p3).sum(0),
        "legendre/c": d_z.sum(0),
        "legendre/d": (d_z * x).sum(0),
    }


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
