"""How JAX is asked: functions of arrays, and their gradients by reverse mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.tests.nn.conformance import Arrays

jax.config.update("jax_enable_x64", True)
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""Each question is another program: compiling it is all that takes time."""
_COMPILED: dict[Any, Callable[..., Any]] = {}
"""The programs by what they compute; JAX keeps them by shapes. Private, so that a worker may note them: see
``parity.running.workers.patched``."""


def evaluate(
    call: Callable[..., Mapping[str, Any]],
    arrays: Arrays,
    configuration: Mapping[str, Any],
    trained: list[str],
    d_results: Arrays,
) -> tuple[Arrays, Arrays]:
    known = (call, repr(configuration), *trained)
    if known not in _COMPILED:
        program = partial(differentiated, call, dict(configuration), trained)
        _COMPILED[known] = jax.jit(program, compiler_options=QUICKLY)
    results, gradients = _COMPILED[known](on_device(arrays), on_device(d_results))
    return on_host(results), on_host(gradients)


def differentiated(
    call: Callable[..., Mapping[str, Any]],
    configuration: Mapping[str, Any],
    trained: list[str],
    tensors: dict[str, Any],
    d_results: dict[str, Any],
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    def function(wanted: dict[str, Any]) -> tuple[dict[str, Any], Mapping[str, Any]]:
        results = call(**{**tensors, **wanted}, **configuration)
        return {name: results[name] for name in d_results}, results

    wanted = {name: tensors[name] for name in trained}
    if not (trained and d_results):
        return function(wanted)[1], {}
    _, back, results = jax.vjp(function, wanted, has_aux=True)
    return results, back(d_results)[0]


def on_device(arrays: Arrays) -> dict[str, Any]:
    return {name: jnp.asarray(value) for name, value in arrays.items()}


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
