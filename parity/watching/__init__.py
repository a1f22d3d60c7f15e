"""Watch a loop of one's own: one line around it, and the run is recorded. See ``watch``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from parity.layout import Layout

if TYPE_CHECKING:
    from parity.watching.run import Watched
    from parity.watching.seen import Adapter

SHADOWS = 3


def watch(
    folder: str | os.PathLike[str],
    *watched: Any,
    deep: int | None = None,
    shadows: int = SHADOWS,
    every: int | None = None,
    keep: str = "values",
    layout: Layout | None = None,
    follow: str | os.PathLike[str] | None = None,
) -> Watched:
    """Record a training loop as it is, with every layer, and measure its noise floor beside it.

    The recording is what ``Recorder`` writes, and ``parity diff`` and ``parity explain`` read it. An update counts as
    an epoch of one batch.

    Args:
        folder: Where the run goes. It is made, or replaced if it holds an earlier recording.
        watched: What trains: a ``torch.nn.Module`` and its ``torch.optim.Optimizer``; a Keras model on TensorFlow, and
            its optimizer unless it is compiled with one, on which ``fit``, ``train_on_batch`` and an eager loop are
            recorded as they are; an ``nnx.Module`` of flax and its ``nnx.Optimizer``; of JAX,
            the trees of arrays that an update takes and returns, as ``params, opt_state`` or flax's TrainState; or, of
            a TensorFlow 1 graph, the session, the loss and the training operation.
        deep: Of how many first updates everything is recorded: batch, every layer, prediction, gradients and state. 20
            if it is not said, or as many as the run that is followed recorded so.
        shadows: How many runs with stirred roundings walk beside the run, if its updates are handed to ``step`` as
            closures. They measure its noise floor. Each costs as much time as the run.
        every: A snapshot of the parameters is taken after so many updates; and after 1, 2, 4, 8, …, and the last.
        keep: ``values`` keeps what each layer gave. ``sketch`` keeps a few numbers of it, which tell whether a layer
            parts, and not where in it. ``hash`` tells whether it is equal to the bit in another run of this framework.
        layout: Which of the framework's tensors is which canonical one. Without it, names and shapes of both runs
            must be alike.
        follow: The folder of another run, as of the same model in another framework. Each deeply recorded update then
            begins from that run's recorded parameters, buffers and slots, so that drift never adds up, and ``parity
            diff`` judges each update by itself. After them the run goes on from its own state.

    Returns:
        A context manager. What it gives has ``step(closure)``, which makes one update.

    Raises:
        ValueError: If nothing here can look into ``watched``, or if an argument is not one of those above.
        TrajectoryError: If ``folder`` holds something that is no recording.

    Examples:
        >>> import torch
        >>> from parity import read, watch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch("runs/torch", model, optimizer) as run:
        ...     for x in torch.ones(3, 4, 2):
        ...         loss = run.step(lambda: model(x).square().mean())
        >>> read("runs/torch").loss.shape
        (3, 1)
    """
    from parity.watching.run import Watched

    return Watched(
        folder, _adapter(watched), deep=deep, shadows=shadows, every=every, keep=keep, layout=layout, follow=follow
    )


def _adapter(watched: tuple[Any, ...]) -> Adapter:
    """Choose what looks into the user's objects, by what they are; their framework is imported already."""
    kinds = [{base.__module__.partition(".")[0] for base in type(each).__mro__} for each in watched]
    roots = set[str]().union(*kinds)
    if "keras" in roots:
        _refuse_backend(watched, kinds)
    within = [each for given in watched for each in (given if isinstance(given, list | tuple) else [given])]
    torchs = any(base.__module__.partition(".")[0] == "torch" for each in within for base in type(each).__mro__)
    if torchs and (len(watched) == 2 or (len(watched) > 2 and "keras" not in roots)):
        from parity.watching.torch.held import pair_of
        from parity.watching.torch.watch import TorchWatch

        return TorchWatch(*pair_of(watched))
    if "keras" in roots and len(watched) in (1, 2):
        from parity.watching.keras.watch import KerasWatch

        return KerasWatch(*watched)
    if "tensorflow" in roots:
        from parity.watching.tf1.watch import Tf1Watch

        return Tf1Watch(*watched)
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and len(watched) == 2 and isinstance(watched[1], nnx.Optimizer):
        from parity.watching.jax.nnx import NnxWatch

        return NnxWatch(*watched)
    if roots & {"jax", "jaxlib", "flax", "optax"} or any(map(_holds_jax, watched)):
        from parity.watching.jax.watch import JaxWatch

        return JaxWatch(*watched)
    names = ", ".join(type(each).__name__ for each in watched) or "nothing"
    raise ValueError(
        f"nothing here can watch {names}: hand over a torch module and its optimizer, a Keras model, a model of "
        "flax's nnx and its optimizer, the trees of a JAX state, or a session of TensorFlow 1 with its loss and its "
        "training operation"
    )


def _refuse_backend(watched: tuple[Any, ...], kinds: list[set[str]]) -> None:
    """Refuse a model or an optimizer of Keras on another backend than TensorFlow. On torch, a model is a module too."""
    backend = sys.modules["keras"].backend.backend()
    torchs = [index for index, roots in enumerate(kinds) if "torch" in roots and "keras" not in roots]
    if backend == "tensorflow" or (backend == "torch" and len(watched) == 2 and torchs):
        return
    instead = {
        "torch": "or train it by an optimizer of torch.optim, and watch the model and that optimizer",
        "jax": "or train it by a function of JAX, and watch the trees of arrays that it takes and returns",
    }.get(backend, "")
    raise ValueError(
        f"Keras runs on {backend}, and is watched on TensorFlow alone: set KERAS_BACKEND=tensorflow in the environment "
        f"before Keras is imported{', ' if instead else ''}{instead}"
    )


def _holds_jax(tree: Any) -> bool:
    """Say whether a tree of Python's own containers has an array of JAX in it."""
    if isinstance(tree, Mapping):
        return any(map(_holds_jax, tree.values()))
    if isinstance(tree, list | tuple):
        return any(map(_holds_jax, tree))
    return type(tree).__module__.partition(".")[0] in ("jax", "jaxlib")
