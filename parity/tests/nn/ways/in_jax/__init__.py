"""How JAX is asked: functions of arrays, and their gradients by reverse mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.tests.nn.conformance import Arrays

jax.config.update("jax_enable_x64", True)


def evaluate(
    call: Callable[..., Mapping[str, Any]],
    arrays: Arrays,
    configuration: Mapping[str, Any],
    trained: list[str],
    d_results: Arrays,
) -> tuple[Arrays, Arrays]:
    tensors = {name: jnp.asarray(value) for name, value in arrays.items()}

    def function(wanted: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        results = call(**{**tensors, **wanted}, **configuration)
        return {name: results[name] for name in d_results}, results

    wanted = {name: tensors[name] for name in trained}
    if not (trained and d_results):
        return on_host(function(wanted)[1]), {}
    _, back, results = jax.vjp(function, wanted, has_aux=True)
    (gradients,) = back({name: jnp.asarray(value) for name, value in d_results.items()})
    return on_host(results), on_host(gradients)


def on_host(results: Mapping[str, Any]) -> Arrays:
    return {name: np.asarray(value) for name, value in results.items()}


def there(**parameters: Any) -> dict[str, Any]:
    """The parameters that a layer has."""
    return {name: value for name, value in parameters.items() if value is not None}


def with_parameters(module: Any, **parameters: Any) -> Any:
    """A module of nnx's with these values; gradients reach them."""
    for name, value in there(**parameters).items():
        variable = getattr(module, name)
        variable[...] = value.astype(variable.dtype)
    return module
