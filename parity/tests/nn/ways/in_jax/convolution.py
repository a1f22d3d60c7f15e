"""flax's convolutions, linen's and nnx's. Explicit padding of a transposed one is that of the convolution it is."""

from __future__ import annotations

from typing import Any

from flax import linen, nnx

from parity.tests.nn.conformance import Asked, Departure, Way
from parity.tests.nn.ways.in_jax import there, with_parameters


def spoken(x: Any, bias: Any, stride: Any, padding: Any, dilation: Any) -> dict[str, Any]:
    said = {"strides": stride, "kernel_dilation": dilation, "use_bias": bias is not None, "param_dtype": x.dtype}
    return {**said, "padding": padding}


def conv_of_linen(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    said = spoken(x, bias, stride, padding, dilation)
    layer = linen.Conv(kernel.shape[-1], kernel.shape[:-2], feature_group_count=groups, **said)
    return {"output": layer.apply({"params": there(kernel=kernel, bias=bias)}, x)}


def conv_of_nnx(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    said = {**spoken(x, bias, stride, padding, dilation), "feature_group_count": groups, "rngs": nnx.Rngs(0)}
    layer = nnx.Conv(x.shape[-1], kernel.shape[-1], kernel.shape[:-2], **said)
    return {"output": with_parameters(layer, kernel=kernel, bias=bias)(x)}


def other_side(kernel: Any, padding: Any, dilation: Any) -> Any:
    """What a convolution over the spread input adds, for what is taken off of its output."""
    if isinstance(padding, str):
        return padding
    spans = [(size - 1) * apart + 1 for size, apart in zip(kernel.shape, dilation, strict=False)]
    return tuple((span - 1 - before, span - 1 - after) for span, (before, after) in zip(spans, padding, strict=True))


def transposed_of_linen(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    said = spoken(x, bias, stride, other_side(kernel, padding, dilation), dilation)
    layer = linen.ConvTranspose(kernel.shape[-1], kernel.shape[:-2], **said)
    return {"output": layer.apply({"params": there(kernel=kernel, bias=bias)}, x)}


def transposed_of_nnx(
    x: Any, kernel: Any, bias: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int
) -> dict[str, Any]:
    said = {**spoken(x, bias, stride, other_side(kernel, padding, dilation), dilation), "rngs": nnx.Rngs(0)}
    layer = nnx.ConvTranspose(x.shape[-1], kernel.shape[-1], kernel.shape[:-2], **said)
    return {"output": with_parameters(layer, kernel=kernel, bias=bias)(x)}


def grouped(asked: Asked) -> bool:
    return asked.configuration["groups"] > 1


TURNED = Departure(
    "kernel back to front",
    "By default, transpose_kernel=False, the kernel is laid back to front, and explicit padding is that of a "
    "convolution over the spread input.",
    like={"turned": False},
)
GROUPS = {"groups": grouped}
WAYS = (
    Way("conv", ("flax.linen.Conv",), conv_of_linen),
    Way("conv", ("flax.nnx.Conv",), conv_of_nnx),
    Way("conv_transpose", ("flax.linen.ConvTranspose",), transposed_of_linen, GROUPS, (TURNED,)),
    Way("conv_transpose", ("flax.nnx.ConvTranspose",), transposed_of_nnx, GROUPS, (TURNED,)),
)
