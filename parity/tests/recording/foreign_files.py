"""Checkpoints and logs that each library itself writes, made where that library is, and what they hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Said = dict[str, Any]
"""By file name: tensors by name as nested lists."""


def of_torch(folder: str) -> Said:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state, root = model.state_dict(), Path(folder)
    views = {"turned": torch.arange(12.0).reshape(3, 4).t(), "row": torch.arange(12.0).reshape(3, 4)[1:, 2]}
    kinds = {
        str(kind)[6:]: torch.arange(3).to(kind) for kind in (torch.float16, torch.float64, torch.int32, torch.bool)
    }
    narrow = {name: value.bfloat16() for name, value in state.items() if value.is_floating_point()}
    torch.save(state, root / "state.pt")
    whole = {"model": state, "optimizer": optimizer.state_dict(), "epoch": 3, "scheduler": None, "betas": (0.9, 0.999)}
    torch.save(whole, root / "whole.pth")
    torch.save(narrow, root / "narrow.bin")
    torch.save(views, root / "views.pt")
    torch.save(kinds, root / "kinds.pt")
    torch.save({"tied": state["0.weight"], "head": torch.nn.Parameter(state["0.weight"])}, root / "tied.pt")
    torch.save(model, root / "module.pt")
    torch.save(state, root / "old.pt", _use_new_zipfile_serialization=False)
    save_file(narrow, root / "narrow.safetensors")
    said = {name: _listed(state) for name in ("state.pt", "whole.pth")}
    said |= {name: _listed(narrow) for name in ("narrow.bin", "narrow.safetensors")}
    said |= {"views.pt": _listed(views), "kinds.pt": _listed(kinds)}
    said["tied.pt"] = _listed({"tied": state["0.weight"], "head": state["0.weight"]})
    said["state of whole.pth"] = _listed({"optimizer/state/0/exp_avg": optimizer.state_dict()["state"][0]["exp_avg"]})
    return said


def _listed(tensors: Any) -> dict[str, Any]:
    return {name: value.tolist() for name, value in tensors.items()}


def of_torch_distributed(folder: str) -> Said:
    """What two processes save together: tensors in two parts, by rows and by columns, and one that each has whole."""
    import os
    import subprocess
    import sys

    code = f"from {__name__} import as_rank\nas_rank({folder!r}, {{}})"
    started = [
        subprocess.Popen([sys.executable, "-c", code.format(rank)], env={**os.environ, "OMP_NUM_THREADS": "1"})
        for rank in range(2)
    ]
    assert [one.wait(120) for one in started] == [0, 0]
    return _listed(_distributed())


def _distributed() -> Any:
    import torch

    return {
        "rows": torch.arange(15.0).reshape(5, 3) / 7,
        "columns": torch.arange(24.0).reshape(2, 4, 3).bfloat16(),
        "both.bias": torch.arange(4, dtype=torch.float64) / 3,
    }


def as_rank(folder: str, rank: int) -> None:
    """One of the two processes."""
    import torch
    import torch.distributed as dist
    import torch.distributed.checkpoint as dcp
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    how = {"rows": Shard(0), "columns": Shard(1), "both.bias": Replicate()}
    tensors = {name: distribute_tensor(value, mesh, [how[name]]) for name, value in _distributed().items()}
    dcp.save(
        {"model": tensors, "optim": {"step": torch.tensor(3)}, "note": "text"}, checkpoint_id=f"{folder}/checkpoint"
    )
    dist.destroy_process_group()


def of_keras(folder: str) -> Said:
    import keras
    import numpy as np

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(2, name="head")]
    model = keras.Sequential([keras.Input((3,)), *layers])
    model.compile("adam", "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    model.save_weights(Path(folder) / "m.weights.h5")
    model.save(Path(folder) / "m.keras")
    narrow = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, dtype="bfloat16")])
    narrow.save_weights(Path(folder) / "narrow.weights.h5")

    def named(of: Any) -> dict[str, Any]:
        return {
            f"{layer.name}/vars/{number}": np.asarray(weight, np.float32).tolist()
            for layer in of.layers
            for number, weight in enumerate(layer.get_weights())
        }

    return {"m.weights.h5": named(model), "m.keras": named(model), "narrow.weights.h5": named(narrow)}


def of_orbax(folder: str) -> Said:
    import jax.numpy as jnp
    import numpy as np
    import orbax.checkpoint as ocp

    kernel, bias = jnp.arange(12.0).reshape(3, 4) / 7, jnp.full(4, 0.3, jnp.bfloat16)
    tree = {"params": {"Dense_0": {"kernel": kernel, "bias": bias}}, "opt_state": [{"mu": jnp.zeros(3)}], "step": 7}
    root = Path(folder).absolute()
    checkpointer = ocp.StandardCheckpointer()
    checkpointer.save(root / "ocdbt", tree)
    checkpointer.wait_until_finished()
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(root / "zarr", tree)
    with ocp.CheckpointManager(root / "managed") as manager:
        manager.save(3, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
    held = {"Dense_0/bias": np.float32(bias).tolist(), "Dense_0/kernel": np.asarray(kernel).tolist()}
    return dict.fromkeys(("ocdbt", "zarr", "managed/3"), held)


def of_orbax_sharded(folder: str) -> Said:
    """Arrays that lie on four devices, in a process of its own: how many there are is said before JAX is imported."""
    import os
    import subprocess
    import sys

    code = f"from {__name__} import shard_orbax\nshard_orbax({folder!r})"
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, **devices}, timeout=240)
    kernel = [[float(column + 12 * row) for column in range(12)] for row in range(8)]
    return {"rows": kernel, "both": kernel, "whole": kernel[0]}


def shard_orbax(folder: str) -> None:
    """The process: an array split by its rows over four devices, one by rows and columns, and one that each has."""
    import jax
    import jax.numpy as jnp
    import orbax.checkpoint as ocp
    from jax.sharding import NamedSharding, PartitionSpec

    assert jax.device_count() == 4
    mesh = jax.make_mesh((2, 2), ("dp", "tp"))
    kernel = jnp.arange(96.0).reshape(8, 12)
    split = {"rows": PartitionSpec(("dp", "tp")), "both": PartitionSpec("dp", "tp"), "whole": PartitionSpec()}
    tree = {name: kernel[0] if name == "whole" else kernel for name in split}
    tree = {name: jax.device_put(value, NamedSharding(mesh, split[name])) for name, value in tree.items()}
    assert len(tree["both"].addressable_shards) == 4
    for name, use_ocdbt in (("ocdbt", True), ("zarr", False)):
        ocp.PyTreeCheckpointer(use_ocdbt=use_ocdbt).save(Path(folder).absolute() / name, tree)


def of_tensorflow(folder: str) -> Said:
    """Event files as TensorFlow 2 and 1 write them."""
    import tensorflow as tf

    values = [1 / (1 + step) for step in range(5)]
    writer = tf.summary.create_file_writer(f"{folder}/two")
    with writer.as_default():
        for step, value in enumerate(values):
            tf.summary.write("epoch_loss", tf.constant(value), step=step)
            tf.summary.write("a picture", tf.zeros((2, 2)), step=step)
    writer.close()
    with tf.Graph().as_default():
        old = tf.compat.v1.summary.FileWriter(f"{folder}/one")
        for step, value in enumerate(values):
            scalar = tf.compat.v1.Summary.Value(tag="train/loss", simple_value=value)
            old.add_summary(tf.compat.v1.Summary(value=[scalar]), step)
        old.close()
    return {"two": {"epoch_loss": values}, "one": {"train/loss": values}}
