"""Every framework's relu, sigmoid and tanh, and their derivatives, against closed forms in longdouble.

The tolerance is the part of the policy that needs no measurement, 16 times 4 roundings, here of each single point:
of the value, and for a derivative of the largest term in the formula that frameworks compute it by. That is
1 - tanh² for tanh and s (1 - s) for the sigmoid s: where the value has a rounding error of u, so has the first term.
"""

from base64 import b64decode

import numpy as np
import pytest
from safetensors.numpy import load

from parity.suite import load_suite
from parity.tests.pointwise import POINTS, evaluated_at_all
from parity.tolerance import FACTOR

LABELS = tuple(load_suite("impls").entry("activations").implementations)
FUNCTIONS = ("relu", "sigmoid", "tanh")
# TensorFlow and JAX compute with denormal numbers as if they were zeros.
KEEPS_DENORMALS = {"numpy", "torch"}

asks = pytest.mark.asks(question=evaluated_at_all)
cells = pytest.mark.parametrize("label", LABELS)
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
functions = pytest.mark.parametrize("function", FUNCTIONS)


@pytest.fixture
def found(answer):
    """What an implementation says at all points, in the process of its framework."""
    return load(b64decode(answer))


def closed_form(function, points, dtype):
    """Value, derivative, and the largest term that a derivative's formula adds up, longdouble, at points of a dtype."""
    x = points.astype(dtype).astype(np.longdouble)
    if function == "relu":
        derivative = (x > 0).astype(np.longdouble)
        return np.maximum(x, 0), derivative, derivative
    e = np.exp(-np.abs(x))
    if function == "sigmoid":
        value = np.where(x >= 0, 1, e) / (1 + e)
        return value, e / (1 + e) ** 2, value
    derivative = (2 * e / (1 + e * e)) ** 2
    return np.tanh(x), np.where(np.isnan(x), np.nan, derivative), np.ones_like(x)


def assert_close(got, exact, size, dtype):
    """Equal, both NaN, both denormal or nothing, or apart by rounding errors of numbers of that size."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(got - exact)
    allowed = FACTOR * 4 * (np.finfo(dtype).eps / 2) * np.abs(size)
    smallest = np.finfo(dtype).tiny
    same = (got == exact) | (np.isnan(got) & np.isnan(exact)) | ((np.abs(exact) < smallest) & (apart < smallest))
    wrong = ~(same | (apart <= allowed))
    assert not wrong.any(), f"places {np.flatnonzero(wrong)}: {got[wrong]}, exactly {exact[wrong]}"


@asks
@cells
@dtypes
@functions
@pytest.mark.parametrize("points", ["grid", "special"])
def test_values_and_derivatives_are_the_closed_forms(found, label, dtype, function, points):
    value, derivative, size = closed_form(function, POINTS[dtype][points], dtype)
    if function == "relu":
        # Nobody is right: torch asks whether x <= 0, the others whether x > 0, and NaN is neither.
        derivative[np.isnan(value)] = 1 if label == "torch" else 0
    place = f"{dtype}/{points}/{function}"
    assert found[f"{place}/prediction"].dtype == dtype
    assert_close(found[f"{place}/prediction"], value, value, dtype)
    assert_close(found[f"{place}/scale"], value, value, dtype)
    assert_close(found[f"{place}/shift"], derivative, size, dtype)


@asks
@cells
@dtypes
def test_limits_are_exact(found, label, dtype):
    """At both zeros, both infinities and NaN nothing is rounded: what must come out is written down."""
    expected = {
        # x:       0    -0    inf    -inf    nan
        "relu": ((0, 0, np.inf, 0, np.nan), (0, 0, 1, 0, 1 if label == "torch" else 0)),
        "sigmoid": ((0.5, 0.5, 1, 0, np.nan), (0.25, 0.25, 0, 0, np.nan)),
        "tanh": ((0, 0, 1, -1, np.nan), (1, 1, 0, 0, np.nan)),
    }
    x = POINTS[dtype]["special"]
    places = [0, 1, *(int(np.flatnonzero(hit)[0]) for hit in (x == np.inf, x == -np.inf, np.isnan(x)))]
    for function, (values, derivatives) in expected.items():
        place = f"{dtype}/special/{function}"
        np.testing.assert_array_equal(found[f"{place}/prediction"][places], values)
        np.testing.assert_array_equal(found[f"{place}/shift"][places], derivatives)


@asks
@cells
@dtypes
def test_denormals_are_kept_or_flushed_as_documented(found, label, dtype):
    x = POINTS[dtype]["denormal"].astype(dtype)
    tiny = x[:2] if label in KEEPS_DENORMALS else np.zeros(2)
    np.testing.assert_array_equal(found[f"{dtype}/denormal/relu/prediction"][:2], np.maximum(tiny, 0))
    np.testing.assert_array_equal(found[f"{dtype}/denormal/relu/shift"][:2], tiny > 0)
    np.testing.assert_allclose(found[f"{dtype}/denormal/tanh/prediction"][:2], tiny, rtol=0, atol=np.spacing(x[0]))
    np.testing.assert_array_equal(found[f"{dtype}/denormal/tanh/shift"][:2], 1)
    np.testing.assert_array_equal(found[f"{dtype}/denormal/sigmoid/prediction"][:2], 0.5)
    np.testing.assert_array_equal(found[f"{dtype}/denormal/sigmoid/shift"][:2], 0.25)
    # Only NumPy's stable form can say a denormal sigmoid: in 1 / (1 + exp(-x)), as torch has it, exp overflows.
    exact = closed_form("sigmoid", x, dtype)[0][2] if label == "numpy" else 0
    for role in ("prediction", "shift"):
        got = found[f"{dtype}/denormal/sigmoid/{role}"][2]
        assert abs(got - exact) <= 2 * np.finfo(dtype).smallest_subnormal


def test_what_is_wrong_is_found():
    """The check can fail: by a value that passed through float32, by a derivative that is 1e-14 off."""
    x = POINTS["float64"]["grid"]
    value, derivative, size = closed_form("tanh", x, "float64")
    with pytest.raises(AssertionError, match="places"):
        assert_close(np.tanh(x.astype(np.float32)).astype(np.float64), value, value, "float64")
    with pytest.raises(AssertionError, match="places"):
        assert_close(1 - np.tanh(x) ** 2 + 1e-14, derivative, size, "float64")
