"""A cubic in NumPy, derivatives by hand."""

from parity.spec import Array, Case, Params
from parity.trainers.numpy_trainer import NumpyTrainer


def forward(params: Params, x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
    a, b, c, d = (params[f"polynomial/{name}"] for name in "abcd")  # (1,) each
    square = x * x  # (n, 1)
    cube = square * x  # NumPy's x**3 calls pow, which takes ten times as long
    return a + b * x + c * square + d * cube, (x, square, cube)


def backward(params: Params, powers: tuple[Array, Array, Array], d_prediction: Array) -> Params:
    x, square, cube = powers
    return {
        "polynomial/a": d_prediction.sum(0),  # (n, 1) -> (1,)
        "polynomial/b": (d_prediction * x).sum(0),
        "polynomial/c": (d_prediction * square).sum(0),
        "polynomial/d": (d_prediction * cube).sum(0),
    }


def build(case: Case, dtype: str, device: str) -> NumpyTrainer:
    return NumpyTrainer(case, dtype, forward, backward)
