"""The layers of a torch trainer's module, for one batch."""

from __future__ import annotations

import torch

from parity.trainers.torch_trainer import TorchTrainer
from parity.typing import Array
from parity.watching.inside import Inside
from parity.watching.torch.layers import Layers, tensors


def look(trainer: TorchTrainer, x: Array, y: Array) -> Inside | None:
    """See a batch go through the trainer's module, forward and backward; None if it has none. Changes nothing."""
    module = trainer.module
    if module is None:
        return None
    seen = Layers(module)
    begin = module.register_forward_pre_hook(
        lambda module, arguments, named: seen.given(list(tensors((arguments, named)))), with_kwargs=True
    )
    kept = {name: buffer.clone() for name, buffer in module.named_buffers()}
    devices = [trainer.device] if trainer.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            loss = trainer.loss_of(x, y)
            torch.autograd.grad(loss, tuple(trainer.params.values()), allow_unused=True)
        seen.settle(kept=True)
        return Inside(dict(seen.activations), dict(seen.gradients), list(seen.found))
    finally:
        begin.remove()
        seen.close()
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                buffer.copy_(kept[name])
