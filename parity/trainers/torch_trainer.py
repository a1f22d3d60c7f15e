"""Training in PyTorch: modules, and models written by hand on plain tensors.

A module needs nothing but itself (``module_trainer``). A hand-written model gives ``forward(params, x)`` and may
bring its own loss, its own gradients and its own update; torch's stand in for those it leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from parity.frameworks import TF32
from parity.layout import Layout, to_canonical, to_framework
from parity.nn.updates import rate
from parity.spec import Adam, AdamW, Case, Optimizer, Sgd
from parity.trainer import State, Trained
from parity.trainers.batches import all_rows, placing
from parity.trainers.groups import decays
from parity.typing import Array, Batches, Params

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
# That switch also fills every new tensor with NaN, which takes a fifth of a small model's time. Nothing here reads an
# unwritten tensor.
torch.utils.deterministic.fill_uninitialized_memory = False


def find_cuda() -> str:
    """The name of the CUDA device; ValueError if torch sees none."""
    if not torch.cuda.is_available():
        why = "" if torch.backends.cuda.is_built() else ": it was built without CUDA"
        raise ValueError(f"torch sees no CUDA device{why}")
    return torch.cuda.get_device_name(0)


def device_of(name: str) -> torch.device:
    """Find a run's device, and from now on compute float32 products in TF32 if its name says so, else in full."""
    if name != "cpu":
        find_cuda()
    _set_precision(name)
    return torch.device("cpu" if name == "cpu" else "cuda")


def settle(device: str) -> None:
    """Give torch what every run on a device begins with. The device is not looked for yet."""
    torch.manual_seed(0)
    _set_precision(device)


def _set_precision(device: str) -> None:
    # These are torch's older settings. If only the newer ones, of 2.9, are set, reading the older ones is an error.
    torch.set_float32_matmul_precision("high" if device == TF32 else "highest")
    torch.backends.cudnn.allow_tf32 = device == TF32  # recurrences and convolutions use TF32 by default


def process_state() -> dict[str, Any]:
    """What torch keeps for a process, beside the random numbers, which every run begins anew."""
    tiny = torch.tensor(5e-324, dtype=torch.float64, device="cpu")
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's precision of float32 products": torch.get_float32_matmul_precision(),
        "torch's TF32 in cuDNN": torch.backends.cudnn.allow_tf32,
        "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch's determinism": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.utils.deterministic.fill_uninitialized_memory,
        ),
        "torch's autograd": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_anomaly_enabled(),
        ),
        "torch's autocast": (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
        "torch's oneDNN": torch.backends.mkldnn.enabled,
        "torch's subnormal numbers": (tiny * 1).item() > 0,
    }


Tensors = dict[str, Tensor]
"""The framework's name of a parameter, as in the layout, to its tensor."""

Forward = Callable[[Tensors, Tensor], Tensor]
"""``(params, x)`` to the prediction."""
Cost = Callable[[Tensor, Tensor], Tensor]
"""``(prediction, y)`` to the batch's loss, one element."""
Backward = Callable[[Tensors, Tensor, Tensor], tuple[Tensor, Tensors]]
"""``(params, x, y)`` to the batch's loss and the gradient of every parameter that has one."""
Update = Callable[[Any, Tensors, Tensors], None]
"""``(rule, params, gradients)``: one step of a rule, ``Sgd``, ``Adam`` or ``AdamW``, in place. It has the learning rate
of this step, and one decay for all parameters whose gradients are given."""

Loader = Callable[[Tensor, Tensor, Batches], Iterable[Sequence[Tensor]]]
"""``(x, y, batches)``: all rows of the data, and which of them each batch has, to ``(x, y)`` of each batch."""


def total(prediction: Tensor, y: Tensor, reduction: str) -> Tensor:
    """The sum or the mean of the predictions. The targets are ignored."""
    return prediction.sum() if reduction == "sum" else prediction.mean()


def crossentropy(logits: Tensor, y: Tensor, reduction: str) -> Tensor:
    """torch's loss of logits ``(..., classes)`` and integer classes ``(...)``; torch itself has the classes second."""
    return F.cross_entropy(logits.flatten(0, -2), y.flatten(), reduction=reduction)


def nll(log_probabilities: Tensor, y: Tensor, reduction: str) -> Tensor:
    """torch's loss of log-probabilities ``(..., classes)`` and integer classes ``(...)``."""
    return F.nll_loss(log_probabilities.flatten(0, -2), y.flatten(), reduction=reduction)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "binary_crossentropy": F.binary_cross_entropy,
    "crossentropy": crossentropy,
    "nll": nll,
    "squared_error": F.mse_loss,
    "total": total,
}


def module_trainer(case: Case, dtype: str, device: str, layout: Layout, module: torch.nn.Module) -> TorchTrainer:
    """Make a trainer of a module.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the module's parameters and buffers, by the names of
            ``named_parameters`` and ``named_buffers``.
        module: The model, from inputs (batch, ...) to predictions. It is cast and moved in place.

    Returns:
        The trainer, with torch's loss and optimizer of the case.

    Raises:
        ValueError: If torch sees no such device.
    """
    module.to(device_of(device), getattr(torch, dtype))
    parameters: Tensors = dict(module.named_parameters())
    own = {slot.framework for slot in layout if slot.canonical in case.buffers}
    buffers = {name: buffer for name, buffer in module.named_buffers() if name in own}
    trainer = TorchTrainer(
        case, dtype, device, layout, lambda params, x: module(x), parameters=parameters, buffers=buffers
    )
    trainer.module = module
    return trainer


class TorchTrainer:
    """The five verbs in torch, for a model that is a function of its parameters.

    Args:
        case: The case; its initial parameters are the trainer's first state.
        dtype: float64, float32, float16 or bfloat16.
        device: ``cpu``, ``cuda`` or ``cuda_tf32``.
        layout: Which canonical tensor is which of the parameters that ``forward`` takes, by their names there.
        forward: ``(params, x)`` to the prediction (batch, ...).
        parameters: The tensors that ``forward`` works on, if it does not work on those it is handed. Their values
            become the case's initial ones.
        buffers: The tensors that a case with buffers has beside them, which ``forward`` moves in place if the trainer's
            module is in training mode.
        cost: ``(prediction, y)`` to the batch's loss, in the place of torch's.
        backward: ``(params, x, y)`` to the batch's loss and gradients, in the place of cost and autograd. Its
            parameters ask for no gradient.
        update: ``(rule, params, gradients)``, one step in place, in the place of torch's optimizer. It keeps no slots.
        loader: Gives the batches of a segment, in the place of plain indexing.

    Raises:
        ValueError: If torch sees no such device.
    """

    def __init__(
        self,
        case: Case,
        dtype: str,
        device: str,
        layout: Layout,
        forward: Forward,
        *,
        parameters: Tensors | None = None,
        buffers: Tensors | None = None,
        cost: Cost | None = None,
        backward: Backward | None = None,
        update: Update | None = None,
        loader: Loader | None = None,
    ) -> None:
        self.case, self.layout, self.forward, self.loader = case, layout, forward, loader
        self.module: torch.nn.Module | None = (
            None  # what ``forward`` calls, if it is one: a deep recording looks inside
        )
        self.dtype, self.device = getattr(torch, dtype), device_of(device)
        self.cost: Cost = cost or partial(LOSSES[case.loss.kind], reduction=case.loss.reduction)
        self.backward = backward or self._differentiate
        self.update: Update = update or (self._adam if isinstance(case.optimizer, Adam) else self._sgd)
        self.decays = decays(case.optimizer, layout)
        data = case.data()
        self._input = placing(self._put, data.x, data.x_test)
        self.x, self.y = self._input(data.x), self._put(data.y)
        initial = to_framework(layout, case.initial())
        self.params = parameters or {name: self._put(value) for name, value in initial.items()}
        for p in self.params.values():
            p.requires_grad_(backward is None)
        # The same memory without autograd: writing here needs no ``torch.no_grad``.
        self.values = {name: p.detach() for name, p in self.params.items()}
        self.buffers = buffers or {}
        self.trained = [slot for slot in layout if slot.canonical not in case.buffers]
        names: tuple[str, ...] = ()
        if update is None:
            if isinstance(case.optimizer, Adam):
                names = ("first_moment", "second_moment")
            elif case.optimizer.momentum:
                names = ("momentum",)
        self.slots = {slot: {name: torch.zeros_like(p) for name, p in self.values.items()} for slot in names}
        self.step = 0
        self.steps = {name: torch.zeros(()) for name in self.values}  # Adam's own count of steps for each parameter
        self._copy(initial, self.values | self.buffers)

    def predict(self, x: Array) -> Array:
        return _numpy(self._ask(self._input(x))).copy()

    def gradients(self, x: Array, y: Array) -> tuple[float, Params]:
        kept = {name: buffer.clone() for name, buffer in self.buffers.items()}
        loss, gradients = self.backward(self.params, self._put(x), self._put(y))
        for name, value in kept.items():
            self.buffers[name].copy_(value)
        missing = {name: torch.zeros_like(p) for name, p in self.values.items() if name not in gradients}
        return loss.item(), self._canonical(gradients | missing, self.trained)

    def loss_of(self, x: Array, y: Array) -> Tensor:
        """Compute the loss of one batch, (batch, ...) each, with its graph. It moves the buffers."""
        self._train_mode(True)
        return self.cost(self.forward(self.params, self._put(x)), self._put(y))

    def train(self, segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        losses: list[Tensor] = []
        rows = self._rows(segments)
        asked = [(self._input(x), list[Tensor]()) for x in inputs]
        every = self.values | self.buffers
        snapshots = {name: p.new_empty((len(segments), *p.shape)) for name, p in every.items()}
        places = [(p, snapshots[name].unbind()) for name, p in every.items()]
        for s, segment in enumerate(segments):
            for _ in segment:
                x, y = next(rows)
                loss, gradients = self.backward(self.params, x, y)
                for rule, group in self._groups(_clipped(self.case.optimizer, gradients), self.step + len(losses)):
                    self.update(rule, self.values, group)
                losses.append(loss.detach())
            for p, place in places:
                place[s].copy_(p)
            for x, said in asked:
                said.append(self._ask(x))
        self.step += len(losses)
        stacked = torch.stack(losses).view(len(segments), -1)
        predictions = tuple(_numpy(torch.stack(said)) for _, said in asked)
        return Trained(_numpy(stacked), self._canonical(snapshots, self.layout, stacked=1), predictions)

    def export(self) -> State:
        slots = {
            f"{slot}/{name}": value
            for slot, tensors in self.slots.items()
            for name, value in self._canonical(tensors, self.trained).items()
        }
        return State(self._canonical(self.values | self.buffers, self.layout), slots, self.step)

    def load(self, state: State) -> None:
        self._copy(to_framework(self.layout, state.params), self.values | self.buffers)
        slots = state.slots_at(1.0)
        for slot, tensors in self.slots.items():
            named = {name: slots[f"{slot}/{name}"] for name in self.case.trained(state.params)}
            self._copy(to_framework(self.trained, named), tensors)
        self.step = state.step
        for count in self.steps.values():
            count.fill_(state.step)

    def _train_mode(self, training: bool) -> None:
        if self.buffers and self.module is not None:
            self.module.train(training)

    @torch.no_grad()
    def _ask(self, x: Tensor) -> Tensor:
        self._train_mode(False)
        return self.forward(self.params, x)

    def _put(self, values: Array) -> Tensor:
        return torch.tensor(values, dtype=self.dtype if values.dtype.kind == "f" else None, device=self.device)

    def _copy(self, arrays: Params, tensors: Tensors) -> None:
        for name, tensor in tensors.items():
            if arrays[name].shape != tensor.shape:  # copy_ would broadcast
                raise ValueError(f"{name}: the layout gives {arrays[name].shape}, the model has {tuple(tensor.shape)}")
            tensor.copy_(self._put(arrays[name]))

    def _canonical(self, tensors: Tensors, layout: Layout, stacked: int = 0) -> Params:
        return to_canonical(layout, {name: _numpy(tensor) for name, tensor in tensors.items()}, stacked)

    def _rows(self, segments: Sequence[Batches]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every batch, gathered when its turn comes. A batch of all rows in order is the data itself."""
        batches = [rows for segment in segments for rows in segment]
        if self.loader is not None:
            yield from ((x, y) for segment in segments for x, y in self.loader(self.x, self.y, segment))
        elif all_rows(segments, len(self.x)):
            yield from [(self.x, self.y)] * len(batches)
        else:
            indices = torch.tensor(np.concatenate(batches), device=self.device)
            for rows in torch.split(indices, [len(rows) for rows in batches]):
                yield self.x.index_select(0, rows), self.y.index_select(0, rows)

    def _differentiate(self, params: Tensors, x: Tensor, y: Tensor) -> tuple[Tensor, Tensors]:
        self._train_mode(True)
        loss = self.cost(self.forward(params, x), y)
        gradients = torch.autograd.grad(loss, tuple(params.values()), allow_unused=True)
        return loss, {name: g for name, g in zip(params, gradients, strict=True) if g is not None}

    def _groups(self, gradients: Tensors, step: int) -> list[tuple[Optimizer, Tensors]]:
        """The update after ``step`` others, as torch's groups: gradients of one decay, with its rule."""
        rule = self.case.optimizer
        if rule.rates is not None:
            rule = replace(rule, learning_rate=rate(rule, step), rates=None)
        if rule.decayed is None or (isinstance(rule, Adam) and not isinstance(rule, AdamW)):
            return [(rule, gradients)]
        groups: dict[float, Tensors] = {}
        for name, g in gradients.items():
            groups.setdefault(self.decays[name], {})[name] = g
        return [(replace(rule, weight_decay=decay, decayed=None), group) for decay, group in groups.items()]

    # torch.optim's own arithmetic, called without an Optimizer: its hooks cost more than the update of a small model,
    # and slots that the trainer holds are exported and loaded exactly.

    def _sgd(self, rule: Sgd, params: Tensors, gradients: Tensors) -> None:
        # A buffer of zeros makes the first step's buffer equal to its gradient, as torch's missing one does.
        buffers = self.slots.get("momentum", {})
        sgd(
            [params[name] for name in gradients],
            list(gradients.values()),
            [buffers.get(name) for name in gradients],
            foreach=self.device.type == "cuda",
            lr=rule.learning_rate,
            momentum=rule.momentum,
            weight_decay=rule.weight_decay,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    def _adam(self, rule: Adam, params: Tensors, gradients: Tensors) -> None:
        step, decay = (adamw, rule.weight_decay) if isinstance(rule, AdamW) else (adam, 0.0)
        step(
            [params[name] for name in gradients],
            list(gradients.values()),
            [self.slots["first_moment"][name] for name in gradients],
            [self.slots["second_moment"][name] for name in gradients],
            [],
            [self.steps[name] for name in gradients],
            foreach=self.device.type == "cuda",
            lr=rule.learning_rate,
            beta1=rule.beta1,
            beta2=rule.beta2,
            eps=rule.epsilon,
            weight_decay=decay,
            amsgrad=False,
            maximize=False,
        )


@torch.no_grad()
def _clipped(rule: Optimizer, gradients: Tensors) -> Tensors:
    """Clip the gradients. torch's ``clip_grad_norm_`` adds 1e-6 to the norm, which here the case alone may ask for."""
    asked = rule.clipping
    if asked is None:
        return gradients
    if asked.kind == "value":
        return {name: g.clamp(-asked.limit, asked.limit) for name, g in gradients.items()}
    norms = {name: torch.linalg.vector_norm(g) for name, g in gradients.items()}
    if asked.kind == "global_norm":
        norms = dict.fromkeys(norms, torch.linalg.vector_norm(torch.stack(list(norms.values()))))
    return {
        name: g * (asked.limit / torch.clamp(norms[name] + asked.epsilon, min=asked.limit))
        for name, g in gradients.items()
    }


def _numpy(tensor: Tensor) -> Array:
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()
