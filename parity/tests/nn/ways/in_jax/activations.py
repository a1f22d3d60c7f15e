"""JAX's activation functions, and flax's parametric one."""

from __future__ import annotations

from typing import Any

from flax import linen, nnx

from parity.tests.nn.conformance import Way, calling
from parity.tests.nn.ways.in_jax import with_parameters


def of_linen(x: Any, negative_slope: Any) -> dict[str, Any]:
    layer = linen.PReLU(param_dtype=x.dtype)
    return {"output": layer.apply({"params": {"negative_slope": negative_slope}}, x)}


def of_nnx(x: Any, negative_slope: Any) -> dict[str, Any]:
    return {"output": with_parameters(nnx.PReLU(param_dtype=x.dtype), negative_slope=negative_slope)(x)}


ONE = {"a slope for each channel": lambda asked: asked.arrays["negative_slope"].ndim > 0}
NN = "jax.nn"
SAME = ("relu", "sigmoid", "log_sigmoid", "tanh", "softmax", "log_softmax", "silu", "mish", "softplus", "selu", "elu")
ALIKE = ("celu", "squareplus", "leaky_relu", "relu6", "hard_sigmoid", "hard_silu", "hard_tanh", "sparse_plus", "glu")
WAYS = (
    *(calling(name, f"{NN}.{name}") for name in (*SAME, *ALIKE, "sparse_sigmoid")),
    calling("softsign", f"{NN}.soft_sign"),
    calling("gelu", f"{NN}.gelu", fixed={"approximate": False}),
    calling("gelu_tanh", f"{NN}.gelu"),
    Way("prelu", ("flax.linen.PReLU",), of_linen, ONE),
    Way("prelu", ("flax.nnx.PReLU",), of_nnx, ONE),
)
