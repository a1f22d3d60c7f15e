"""Mistakes that people make with a GRU on text. The first are planted on the parameters, in every framework; the
others are another forward and backward pass in NumPy, in the notation of ``char_gru_numpy``.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from impls.char_gru import char_gru_numpy
from parity.mistakes import (
    CannotBePlanted,
    Mistake,
    Phase,
    Plant,
    either,
    is_torch,
    on_pieces,
    on_rows,
    on_step,
    replaced,
    torch_functions,
)
from parity.spec import Array, Batches, Case, Params
from parity.trainer import Build, State, Trained, Trainer, verbs
from parity.trainers.numpy_trainer import NumpyTrainer

START = "gru/initial_state"
CARRIED = f"carried_state/{START}"


def gates(params: Params, change: Callable[[list[Array]], list[Array]]) -> Params:
    """Change the blocks r, z, n of each GRU tensor."""
    return {
        name: np.concatenate(change(np.split(p, 3, -1)), -1) if name.startswith("gru/") and name != START else p
        for name, p in params.items()
    }


def reset_and_update_exchanged(params: Params) -> Params:
    return gates(params, lambda blocks: [blocks[1], blocks[0], blocks[2]])


def update_gate_reversed(params: Params) -> Params:
    """σ(-a) = 1 - σ(a): with its block negated, z is what 1 - z was. The same negation takes gradients back."""
    return gates(params, lambda blocks: [blocks[0], -blocks[1], blocks[2]])


def one_bias(params: Params) -> Params:
    return params | {"gru/recurrent_bias": np.zeros_like(params["gru/recurrent_bias"])}


def forward(
    params: Params,
    x: Array,
    *,
    start: Array | None = None,
    learned: bool = False,
    reset_first: bool = False,
    hard: bool = False,
) -> tuple[Array, tuple[Array, ...]]:
    """Begin in the state ``start`` (H,), else in zeros, or in the parameter if it is ``learned``.

    ``reset_first``: (r · h) W instead of r · (h W). ``hard``: clip(x / 5 + 1 / 2, 0, 1) instead of the sigmoid.
    """
    embedded = params["embedding/table"][x]
    inputs = embedded @ params["gru/input_kernel"] + params["gru/input_bias"]
    kernel, bias = params["gru/recurrent_kernel"], params["gru/recurrent_bias"]
    length, size = embedded.shape
    states = np.empty((length + 1, size), embedded.dtype)
    states[0] = params[START][0] if learned else 0 if start is None else start
    r, z, n, hidden_n = np.empty((4, length, size), embedded.dtype)
    for t, h in enumerate(states[:-1]):
        gated = inputs[t, : 2 * size] + h @ kernel[:, : 2 * size] + bias[: 2 * size]
        gated = np.clip(gated / 5 + 0.5, 0, 1) if hard else char_gru_numpy.sigmoid(gated)
        r[t], z[t] = gated[:size], gated[size:]
        if reset_first:
            n[t] = np.tanh(inputs[t, 2 * size :] + (r[t] * h) @ kernel[:, 2 * size :] + bias[2 * size :])
        else:
            hidden_n[t] = h @ kernel[:, 2 * size :] + bias[2 * size :]
            n[t] = np.tanh(inputs[t, 2 * size :] + r[t] * hidden_n[t])
        states[t + 1] = (1 - z[t]) * n[t] + z[t] * h
    logits = states[1:] @ params["dense/kernel"] + params["dense/bias"]
    return logits, (x, embedded, states, r, z, n, hidden_n)


def backward(
    params: Params,
    cache: tuple[Array, ...],
    d_logits: Array,
    *,
    learned: bool = False,
    reset_first: bool = False,
    hard: bool = False,
) -> Params:
    """The backward pass of ``forward`` with the same options. A learned initial state has a gradient, too."""
    x, embedded, states, r, z, n, hidden_n = cache
    h, size = states[:-1], states.shape[1]
    kernel = params["gru/recurrent_kernel"]
    by_r, by_z = (((g > 0) & (g < 1)) / g.dtype.type(5) if hard else g * (1 - g) for g in (r, z))
    d_output = d_logits @ params["dense/kernel"].T
    d_inputs, d_hidden = np.empty((2, len(x), 3 * size), d_output.dtype)
    d_h = np.zeros_like(d_output[0])
    for t in reversed(range(len(x))):
        d_new = d_output[t] + d_h
        d_n = d_new * (1 - z[t]) * (1 - n[t] * n[t])
        d_z = d_new * (h[t] - n[t]) * by_z[t]
        if reset_first:
            d_gated = d_n @ kernel[:, 2 * size :].T
            d_r, through = d_gated * h[t] * by_r[t], d_gated * r[t]
            d_hidden[t] = np.concatenate([d_r, d_z, d_n])
        else:
            d_r = d_n * hidden_n[t] * by_r[t]
            d_hidden[t] = np.concatenate([d_r, d_z, d_n * r[t]])
            through = d_hidden[t, 2 * size :] @ kernel[:, 2 * size :].T
        d_inputs[t] = np.concatenate([d_r, d_z, d_n])
        d_h = z[t] * d_new + d_hidden[t, : 2 * size] @ kernel[:, : 2 * size].T + through
    d_table = np.zeros_like(params["embedding/table"])
    np.add.at(d_table, x, d_inputs @ params["gru/input_kernel"].T)
    before_n = r * h if reset_first else h
    d_kernel = np.concatenate([h.T @ d_hidden[:, : 2 * size], before_n.T @ d_hidden[:, 2 * size :]], 1)
    gradients = {
        "embedding/table": d_table,
        "gru/input_kernel": embedded.T @ d_inputs,
        "gru/recurrent_kernel": d_kernel,
        "gru/input_bias": d_inputs.sum(0),
        "gru/recurrent_bias": d_hidden.sum(0),
        "dense/kernel": states[1:].T @ d_logits,
        "dense/bias": d_logits.sum(0),
    }
    return gradients | {START: d_h[None]} if learned else gradients


def with_passes(*, learned: bool = False, reset_first: bool = False, hard: bool = False) -> Plant:
    def change(trainer: NumpyTrainer) -> None:
        trainer.forward = partial(forward, learned=learned, reset_first=reset_first, hard=hard)
        trainer.backward = partial(backward, learned=learned, reset_first=reset_first, hard=hard)

    in_torch = partial(torch_gru, learned=learned, reset_first=reset_first, hard=hard)
    return either(on_pieces(change), torch_functions(in_torch, lambda torch: torch.nn.GRU))


def torch_gru(
    torch: Any, trainer: Any, case: Case, *, learned: bool, reset_first: bool, hard: bool
) -> dict[str, Callable[..., Any]]:
    """The forward pass of ``torch.nn.GRU`` with the options of ``forward``; autograd makes the backward pass."""

    def gru(self: Any, x: Any, start: Any = None) -> tuple[Any, Any]:
        size, kernel, bias = self.hidden_size, self.weight_hh_l0.T, self.bias_hh_l0
        h = trainer.params["init_hidden"][0] if learned else x.new_zeros(size)
        states = []
        for inputs in x @ self.weight_ih_l0.T + self.bias_ih_l0:  # (T, H) -> (T, 3 H)
            gated = inputs[: 2 * size] + h @ kernel[:, : 2 * size] + bias[: 2 * size]
            gated = torch.clamp(gated / 5 + 0.5, 0, 1) if hard else torch.sigmoid(gated)
            r, z = gated[:size], gated[size:]
            before = r * h if reset_first else h
            hidden_n = before @ kernel[:, 2 * size :] + bias[2 * size :]
            n = torch.tanh(inputs[2 * size :] + (hidden_n if reset_first else r * hidden_n))
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states), h[None]

    return {"forward": gru}


def carried(build: Build, case: Case, dtype: str, device: str) -> Trainer | CannotBePlanted:
    trainer = build(case, dtype, device)
    if isinstance(trainer, NumpyTrainer):
        return carried_in_numpy(trainer)
    if is_torch(trainer):
        return carried_in_torch(trainer, sys.modules["torch"])
    return CannotBePlanted("it is made in the pieces of a NumPy or a PyTorch model")


def carried_in_numpy(trainer: NumpyTrainer) -> Trainer:
    """Begin each portion of training in the state in which the portion before ended."""
    honest = trainer.forward, trainer.backward
    state = np.zeros_like(trainer.state.params[START][0])

    def carrying(params: Params, x: Array) -> tuple[Array, tuple[Array, ...]]:
        nonlocal state
        logits, cache = forward(params, x, start=state)
        state = cache[2][-1].copy()
        return logits, cache

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        trainer.forward, trainer.backward = carrying, backward
        trained = trainer.train(segments, inputs)
        trainer.forward, trainer.backward = honest
        return trained

    def export() -> State:
        whole = trainer.export()
        return replace(whole, slots={**whole.slots, CARRIED: state[None].copy()})

    def load(loaded: State) -> None:
        """Carry the initial state on, if the loaded state carries none."""
        nonlocal state
        trainer.load(loaded)
        initial = np.zeros_like(trainer.state.params[START])
        state = np.array(loaded.slots.get(CARRIED, initial)[0], trainer.dtype)

    return replace(verbs(trainer), train=train, export=export, load=load)


def carried_in_torch(trainer: Any, torch: Any) -> Trainer:
    """Do the same to a torch model whose layer is ``torch.nn.GRU``."""
    honest = torch.nn.GRU.forward
    state = torch.zeros_like(trainer.values["init_hidden"])

    def carrying(layer: Any, x: Any, start: Any = None) -> tuple[Any, Any]:
        nonlocal state
        outputs, last = honest(layer, x, state)
        state = last.detach()
        return outputs, last

    def train(segments: Sequence[Batches], inputs: Sequence[Array] = ()) -> Trained:
        with replaced(torch.nn.GRU, {"forward": carrying}):
            trained: Trained = trainer.train(segments, inputs)
        return trained

    def export() -> State:
        whole: State = trainer.export()
        return replace(whole, slots={**whole.slots, CARRIED: state.cpu().numpy().copy()})

    def load(loaded: State) -> None:
        nonlocal state
        trainer.load(loaded)
        slot = loaded.slots.get(CARRIED, np.zeros(tuple(state.shape)))
        state = torch.tensor(slot, dtype=state.dtype, device=state.device)

    return replace(verbs(trainer), train=train, export=export, load=load)


MISTAKES = (
    Mistake(
        name="gru-gates-in-another-order",
        phase=Phase.PREDICTION,
        sentence="The blocks of the GRU's tensors are taken in the order z, r, n instead of r, z, n.",
        reference="keras-team/keras#8720",
        how=on_step(reset_and_update_exchanged, reset_and_update_exchanged),
    ),
    Mistake(
        name="gru-update-gate-reversed",
        phase=Phase.PREDICTION,
        sentence="z and 1 - z change places in h' = (1 - z) n + z h.",
        reference="pytorch/pytorch#20129; microsoft/CNTK#3292; keras-team/keras#785",
        how=on_step(update_gate_reversed, update_gate_reversed),
    ),
    Mistake(
        name="gru-one-bias-dropped",
        phase=Phase.PREDICTION,
        sentence="The GRU has its input bias alone, and the recurrent one is dropped.",
        reference="keras-team/keras#9112; nntrainer/nntrainer#1787",
        how=on_step(one_bias, one_bias),
    ),
    Mistake(
        name="gru-reset-before-the-product",
        phase=Phase.PREDICTION,
        sentence="The reset gate multiplies the state before the matrix product instead of the product.",
        reference="keras-team/keras#9112; onnx/keras-onnx#33: reset_after",
        how=with_passes(reset_first=True),
        pieces_of=("torch",),
    ),
    Mistake(
        name="gru-hard-sigmoid",
        phase=Phase.PREDICTION,
        sentence="The gates have Keras's old default, a hard sigmoid, instead of the sigmoid.",
        reference="tensorflow/tensorflow#45705; intel/ipex-llm#1901",
        how=with_passes(hard=True),
        pieces_of=("torch",),
    ),
    Mistake(
        name="gru-initial-state-learned",
        phase=Phase.GRADIENT,
        sentence="The initial state is trained instead of staying zero.",
        reference="FluxML/Flux.jl#807; google/uis-rnn#87",
        how=with_passes(learned=True),
        pieces_of=("torch",),
    ),
    Mistake(
        name="gru-state-carried-over",
        phase=Phase.STATE,
        sentence="A portion begins in the state in which the one before ended instead of in zeros.",
        reference="karpathy/char-rnn#78; mquad/hgru4rec#11",
        how=carried,
        pieces_of=("torch",),
    ),
    Mistake(
        name="targets-not-shifted",
        phase=Phase.BATCH,
        sentence="A character's target is the character itself instead of the next.",
        reference="huggingface/transformers#3711",
        how=on_rows(lambda data, case: replace(data, y=data.x)),
    ),
    Mistake(
        name="targets-shifted-twice",
        phase=Phase.BATCH,
        sentence="A character's target is the one after the next.",
        reference="InternLM/InternLM#318; huggingface/transformers#44642",
        how=on_rows(lambda data, case: replace(data, y=np.append(data.y[1:], data.y[-1]))),
    ),
)
