"""What must be known of a framework before it is imported: plain data, no import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Framework:
    """A framework as the harness sees it.

    ``packages`` maps the first word of the implementation labels that belong to it (``torch-manual`` is torch's)
    to the distributions that such an implementation needs; their versions are part of every recorded run.
    ``extra`` is the extra of this project that installs them. ``environment`` must be set before the import.
    """

    name: str
    packages: Mapping[str, tuple[str, ...]]
    extra: str | None
    environment: Mapping[str, str] = field(default_factory=dict)


# One thread everywhere: in NumPy and TensorFlow the number of threads changes the order of sums, hence bits.
COMMON = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

# TensorFlow imports JAX where it finds it, so JAX's switch is set for its processes too.
_X64 = {"JAX_ENABLE_X64": "1"}
_TENSORFLOW = {
    **_X64,
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}

FRAMEWORKS = (
    Framework("numpy", {"numpy": ("numpy",)}, None),
    Framework("torch", {"torch": ("torch",)}, "torch", {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}),
    Framework("tensorflow", {"tf1": ("tensorflow",)}, "tensorflow", _TENSORFLOW),
    Framework(
        "keras",
        {"keras": ("keras", "tensorflow")},
        "tensorflow",
        {**_TENSORFLOW, "KERAS_BACKEND": "tensorflow"},
    ),
    Framework(
        "jax",
        {"jax": ("jax", "jaxlib", "optax"), "flax": ("jax", "jaxlib", "optax", "flax")},
        "jax",
        {
            **_X64,
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        },
    ),
)

ASKED: Mapping[str, Mapping[str, str]] = {
    "torch": {
        "threads": "torch.get_num_threads",
        "deterministic": "torch.are_deterministic_algorithms_enabled",
        "tf32": "torch.backends.cuda.matmul.allow_tf32",
    },
    "tensorflow": {
        "threads": "tensorflow.config.threading.get_intra_op_parallelism_threads",
        "tf32": "tensorflow.config.experimental.tensor_float_32_execution_enabled",
    },
    "keras": {
        "threads": "tensorflow.config.threading.get_intra_op_parallelism_threads",
        "tf32": "tensorflow.config.experimental.tensor_float_32_execution_enabled",
        "floatx": "keras.config.floatx",
    },
    "jax": {"x64": "jax.config.jax_enable_x64", "matmul_precision": "jax.config.jax_default_matmul_precision"},
}
"""By framework, what a run is recorded with, and where the imported framework says it: a value, or a function."""


def framework_of(implementation: str) -> Framework:
    """The framework that an implementation label belongs to; ValueError names the prefixes there are."""
    prefix = implementation.split("-", 1)[0]
    for framework in FRAMEWORKS:
        if prefix in framework.packages:
            return framework
    known = ", ".join(prefix for framework in FRAMEWORKS for prefix in framework.packages)
    raise ValueError(f"implementation {implementation!r} belongs to no known framework: its label starts with {known}")


def packages_of(implementation: str) -> tuple[str, ...]:
    """The distributions that an implementation needs beside the harness's own."""
    return framework_of(implementation).packages[implementation.split("-", 1)[0]]
