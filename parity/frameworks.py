"""What must be known of a framework before it is imported, and what it then says of itself: no import."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Framework:
    """A framework as the harness sees it.

    Attributes:
        name: What ``--framework`` calls it.
        packages: The first word of the labels that belong to it (``torch-manual`` is torch's) to the distributions that
            such an implementation needs. Their versions are part of every recorded run.
        extra: The extra of this project that installs them, if it takes one.
        environment: Variables that must be set before the import.
        on_cuda: Variables beside those, for a run on a GPU.
        on_cpu: Variables beside those, for a run on the CPU.
        never: A dtype or device that the framework cannot have, to the reason.

    Examples:
        >>> torch = framework_of("torch-manual")
        >>> torch.packages["torch"], torch.trainer
        (('torch',), 'parity.trainers.torch_trainer')
    """

    name: str
    packages: Mapping[str, tuple[str, ...]]
    extra: str | None
    environment: Mapping[str, str] = field(default_factory=dict)
    on_cuda: Mapping[str, str] = field(default_factory=dict)
    on_cpu: Mapping[str, str] = field(default_factory=dict)
    never: Mapping[str, str] = field(default_factory=dict)

    @property
    def trainer(self) -> str:
        """The module that trains in this framework. Its ``find_cuda`` says whether the framework sees a GPU."""
        return f"parity.trainers.{next(iter(self.packages))}_trainer"

    def environment_on(self, device: str) -> dict[str, str]:
        """Say which variables must be set before the import.

        Args:
            device: Where the run will be, one of ``DEVICES``.

        Returns:
            Variable to value.
        """
        return {**self.environment, **(self.on_cpu if device == "cpu" else self.on_cuda)}


CORE_PACKAGES = ("numpy", "safetensors")
"""The distributions that every run needs."""
TF32 = "cuda_tf32"
"""The device of a run whose float32 products are to be TF32's."""
DEVICES = ("cpu", "cuda", TF32)
"""Where a run may be. The last is ``cuda`` with float32 products in TF32, ten bits of mantissa: a run that should
fail, to see that it does."""


COMMON = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""What is set for every framework: one thread. In NumPy and TensorFlow the number of threads changes the order of sums,
hence bits."""

# TensorFlow imports JAX where it finds it, so JAX's switch is set for its processes too.
_X64 = {"JAX_ENABLE_X64": "1"}
_TENSORFLOW = {
    **_X64,
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_DETERMINISTIC_OPS": "1",
}
# TensorFlow prepares every GPU that it sees, and takes all of its memory unless told otherwise.
_TENSORFLOW_ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1"}
_TENSORFLOW_ON_CUDA = {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
_NO_CUDA = "NumPy runs on the CPU alone"

_XLA_CPU = "--xla_cpu_multi_thread_eigen=false"

FRAMEWORKS = (
    Framework(
        "numpy",
        {"numpy": ("numpy",)},
        None,
        never={"bfloat16": "NumPy has no bfloat16", "cuda": _NO_CUDA, TF32: _NO_CUDA},
    ),
    # cuBLAS chooses among algorithms by the memory that it has, and repeats its choice only in so much.
    Framework("torch", {"torch": ("torch",)}, "torch", on_cuda={"CUBLAS_WORKSPACE_CONFIG": ":16:8"}),
    Framework(
        "tensorflow",
        {"tf1": ("tensorflow",)},
        "tensorflow",
        _TENSORFLOW,
        on_cuda=_TENSORFLOW_ON_CUDA,
        on_cpu=_TENSORFLOW_ON_CPU,
    ),
    Framework(
        "keras",
        {"keras": ("keras", "tensorflow")},
        "tensorflow",
        {**_TENSORFLOW, "KERAS_BACKEND": "tensorflow"},
        on_cuda=_TENSORFLOW_ON_CUDA,
        on_cpu=_TENSORFLOW_ON_CPU,
    ),
    Framework(
        "jax",
        {"jax": ("jax", "jaxlib", "optax"), "flax": ("jax", "jaxlib", "optax", "flax")},
        "jax",
        {**_X64, "XLA_FLAGS": _XLA_CPU},
        # The scatter that adds up an embedding's gradient is atomic, in no order, unless the flag forbids it.
        on_cuda={
            "XLA_FLAGS": f"{_XLA_CPU} --xla_gpu_deterministic_ops=true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        },
        # Where JAX finds a GPU, its client takes hold of it at the first array, wherever that lies.
        on_cpu={"JAX_PLATFORMS": "cpu"},
    ),
)

"""Every framework that the harness knows."""

ASKED: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "torch": {
        "threads": ("torch.get_num_threads",),
        "deterministic": ("torch.are_deterministic_algorithms_enabled",),
        # The second for torch before 2.9; later it is an error to read it where only the first was set.
        "fp32_precision": ("torch.backends.cuda.matmul.fp32_precision", "torch.get_float32_matmul_precision"),
    },
    "tensorflow": {
        "threads": ("tensorflow.config.threading.get_intra_op_parallelism_threads",),
        "tf32": ("tensorflow.config.experimental.tensor_float_32_execution_enabled",),
    },
    "keras": {
        "threads": ("tensorflow.config.threading.get_intra_op_parallelism_threads",),
        "tf32": ("tensorflow.config.experimental.tensor_float_32_execution_enabled",),
        "floatx": ("keras.config.floatx",),
    },
    "jax": {
        "x64": ("jax.config.jax_enable_x64",),
        "matmul_precision": ("jax.config.jax_default_matmul_precision",),
    },
}
"""By framework, what a run is recorded with, and where the imported framework says it: a value, or a function. Of
several places the first that the framework's version has."""

_IN_TF32: Mapping[str, tuple[Any, ...]] = {
    "tf32": (True,),
    "fp32_precision": ("tf32", "high", "medium"),
    # None is nobody's choice, hence JAX's default.
    "matmul_precision": (None, "default", "high", "bfloat16", "tensorfloat32", "TF32_TF32_F32"),
}
_MISSING = object()


def known_framework(implementation: str) -> Framework | None:
    """Find the framework that an implementation label belongs to, if any.

    Args:
        implementation: A label, such as ``torch-manual``.

    Returns:
        The framework; None if the label's first word names none.

    Examples:
        >>> known_framework("flax").name, known_framework("mxnet")
        ('jax', None)
    """
    prefix = implementation.split("-", 1)[0]
    return next((framework for framework in FRAMEWORKS if prefix in framework.packages), None)


def framework_of(implementation: str) -> Framework:
    """Find the framework that an implementation label belongs to.

    Args:
        implementation: A label, such as ``torch-manual``.

    Returns:
        The framework.

    Raises:
        ValueError: If the label's first word names no framework. The message lists those that do.

    Examples:
        >>> framework_of("tf1-autodiff").name
        'tensorflow'
    """
    framework = known_framework(implementation)
    if framework is not None:
        return framework
    known = ", ".join(prefix for framework in FRAMEWORKS for prefix in framework.packages)
    raise ValueError(f"implementation {implementation!r} belongs to no known framework: its label starts with {known}")


def packages_of(implementation: str) -> tuple[str, ...]:
    """Name the distributions that an implementation needs beside the harness's own.

    Args:
        implementation: A label, such as ``flax``.

    Returns:
        Names of distributions.

    Raises:
        ValueError: If the label's first word names no framework.

    Examples:
        >>> packages_of("flax")
        ('jax', 'jaxlib', 'optax', 'flax')
    """
    return framework_of(implementation).packages[implementation.split("-", 1)[0]]


def settings_of(implementation: str, device: str) -> dict[str, Any]:
    """Ask an imported framework for its settings, as far as its version can tell them.

    Args:
        implementation: A label of that framework.
        device: Where the run is, one of ``DEVICES``.

    Returns:
        Settings by the names in ``ASKED``, and the variables that were set for the framework.

    Raises:
        ValueError: If the label's first word names no framework.

    Examples:
        >>> settings_of("numpy", "cpu")
        {}
    """
    framework, found = framework_of(implementation), {}
    for name, places in ASKED.get(framework.name, {}).items():
        for place in places:
            module, *path = place.split(".")
            value: Any = sys.modules.get(module, _MISSING)
            for part in path:
                value = getattr(value, part, _MISSING)
            if value is not _MISSING:
                found[name] = value() if callable(value) else value
                break
    return found | {name: os.environ.get(name, "") for name in framework.environment_on(device)}


def in_tf32(settings: Mapping[str, Any]) -> bool:
    """Say whether float32 products are TF32's, ten bits of mantissa, on a GPU that has them.

    Args:
        settings: What ``settings_of`` gave.

    Returns:
        True if a setting allows TF32.

    Examples:
        >>> in_tf32({"fp32_precision": "tf32"}), in_tf32({"fp32_precision": "ieee"})
        (True, False)
    """
    return any(name in settings and settings[name] in values for name, values in _IN_TF32.items())
