"""flax's normalization layers, linen's and nnx's. Momentum is the share of the old statistics."""

from __future__ import annotations

from typing import Any

import jax
from flax import linen, nnx

from parity.tests.nn.conformance import Departure, Way
from parity.tests.nn.ways.in_jax import there, with_parameters


def of_linen(name: str) -> Any:
    def normalize(x: Any, scale: Any = None, bias: Any = None, **configuration: Any) -> dict[str, Any]:
        has = scale is not None
        use = {"use_scale": has} if name == "RMSNorm" else {"use_scale": has, "use_bias": has}
        layer = getattr(linen, name)(**use, **spoken(x, configuration))
        return {"output": layer.apply({"params": there(scale=scale, bias=bias)}, x)}

    return normalize


def of_nnx(name: str) -> Any:
    def normalize(x: Any, scale: Any = None, bias: Any = None, **configuration: Any) -> dict[str, Any]:
        has = scale is not None
        use = {"use_scale": has} if name == "RMSNorm" else {"use_scale": has, "use_bias": has}
        said = {"rngs": nnx.Rngs(0), "param_dtype": x.dtype, **use, **spoken(x, configuration)}
        layer = getattr(nnx, name)(x.shape[-1], **said)
        return {"output": with_parameters(layer, scale=scale, bias=bias)(x)}

    return normalize


def spoken(x: Any, configuration: dict[str, Any]) -> dict[str, Any]:
    """A configuration in flax's words."""
    words = {"epsilon": configuration["epsilon"], "dtype": x.dtype}
    if "groups" in configuration:
        words["num_groups"] = configuration["groups"]
    if "axes" in configuration:
        words["reduction_axes"] = words["feature_axes"] = tuple(range(-configuration["axes"], 0))
    return words


def batch_norm_of_linen(
    x: Any,
    running_mean: Any,
    running_variance: Any,
    scale: Any = None,
    bias: Any = None,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
) -> dict[str, Any]:
    has = scale is not None
    layer = linen.BatchNorm(not training, epsilon=epsilon, momentum=momentum, use_scale=has, use_bias=has)
    state = {"mean": running_mean, "var": running_variance}
    variables = {"params": there(scale=scale, bias=bias), "batch_stats": state}
    output, after = layer.apply(variables, x, mutable=["batch_stats"])
    state = after["batch_stats"]
    return {"output": output, "running_mean": state["mean"], "running_variance": state["var"]}


def batch_norm_of_nnx(
    x: Any,
    running_mean: Any,
    running_variance: Any,
    scale: Any = None,
    bias: Any = None,
    *,
    epsilon: float,
    momentum: float,
    training: bool,
) -> dict[str, Any]:
    use = {"use_scale": scale is not None, "use_bias": scale is not None}
    said = {"epsilon": epsilon, "momentum": momentum, "param_dtype": x.dtype, "rngs": nnx.Rngs(0)}
    layer = nnx.BatchNorm(x.shape[-1], use_running_average=not training, **said, **use)
    layer = with_parameters(layer, scale=scale, bias=bias, mean=running_mean, var=running_variance)
    output = layer(x)
    return {"output": output, "running_mean": layer.mean[...], "running_variance": layer.var[...]}


def standardized(x: Any, *, epsilon: float, axes: int) -> dict[str, Any]:
    return {"output": jax.nn.standardize(x, tuple(range(-axes, 0)), epsilon=epsilon)}


FAST = Departure(
    "fast variance",
    "By default, use_fast_variance, the variance is the mean of squares less the square of the mean, which loses "
    "digits where the mean is large.",
    like={"fast_variance": True},
    size=2**-28,  # four roundings of the square of a mean of 3000 deviations, in variances
)
# Mean and variance are rounded when they are given and when they are kept.
KEPT = Departure(
    "running statistics kept in float32",
    "The running mean and variance are made in float32, whatever param_dtype says.",
    size=2**-22,
    results=("running_mean", "running_variance"),
)
APPLIED = Departure(
    "running statistics applied in float32",
    "In evaluation, the output is normalized by a mean and a variance in float32.",
    size=2**-22,
    results=("output", "gradient of x", "gradient of scale"),
    when=lambda asked: not asked.configuration["training"],
)
MANY_AXES = {
    "a scale over more than one axis": lambda asked: asked.configuration["axes"] > 1 and "scale" in asked.arrays
}
WAYS = (
    Way("batch_norm", ("flax.linen.BatchNorm",), batch_norm_of_linen, departures=(FAST,)),
    Way("batch_norm", ("flax.nnx.BatchNorm",), batch_norm_of_nnx, departures=(FAST, KEPT, APPLIED)),
    Way("layer_norm", ("flax.linen.LayerNorm",), of_linen("LayerNorm"), departures=(FAST,)),
    Way("layer_norm", ("flax.nnx.LayerNorm",), of_nnx("LayerNorm"), MANY_AXES, (FAST,)),
    Way(
        "layer_norm",
        ("jax.nn.standardize",),
        standardized,
        cannot={"a scale": lambda asked: "scale" in asked.arrays},
        departures=(FAST,),
    ),
    Way("group_norm", ("flax.linen.GroupNorm",), of_linen("GroupNorm"), departures=(FAST,)),
    Way("group_norm", ("flax.nnx.GroupNorm",), of_nnx("GroupNorm"), departures=(FAST,)),
    Way("instance_norm", ("flax.linen.InstanceNorm",), of_linen("InstanceNorm"), departures=(FAST,)),
    Way("instance_norm", ("flax.nnx.InstanceNorm",), of_nnx("InstanceNorm"), departures=(FAST,)),
    Way("rms_norm", ("flax.linen.RMSNorm",), of_linen("RMSNorm")),
    Way("rms_norm", ("flax.nnx.RMSNorm",), of_nnx("RMSNorm"), MANY_AXES),
)
