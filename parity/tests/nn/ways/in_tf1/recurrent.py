"""TF1's recurrent kernels, float32 alone; the cells that called them have gone with Keras 3."""

from __future__ import annotations

from typing import Any

import tensorflow.compat.v1 as tf

from parity.tests.nn.conformance import Asked, Way
from parity.tests.nn.families.recurrent import STEPS


def lstm(
    x: Any,
    kernel: Any,
    recurrent_kernel: Any,
    initial_hidden: Any,
    initial_cell: Any,
    bias: Any,
    *,
    reverse: bool,
    forget_bias: float,
) -> dict[str, Any]:
    def cell_second(weight: Any) -> Any:
        """The kernel's order of gates, input, cell, forget, output, from input, forget, cell, output."""
        i, f, g, o = tf.split(weight, 4, axis=-1)
        return tf.concat([i, g, f, o], axis=-1)

    none = tf.zeros_like(initial_cell[0])  # for peepholes, which are not used
    _, cells, *_, hidden = tf.raw_ops.BlockLSTM(
        seq_len_max=tf.constant(STEPS, tf.int64),
        x=tf.transpose(x, [1, 0, 2]),
        cs_prev=initial_cell,
        h_prev=initial_hidden,
        w=cell_second(tf.concat([kernel, recurrent_kernel], axis=0)),
        wci=none,
        wcf=none,
        wco=none,
        b=cell_second(bias),
        forget_bias=forget_bias,
        cell_clip=-1.0,
    )
    return {"output": tf.transpose(hidden, [1, 0, 2]), "hidden": hidden[-1], "cell": cells[-1]}


def gru(
    x: Any, initial_hidden: Any, *, reset_after: bool, reverse: bool, kernel: Any, recurrent_kernel: Any, bias: Any
) -> dict[str, Any]:
    both = tf.concat([kernel, recurrent_kernel], axis=0)
    r, z, n = tf.split(both, 3, axis=-1)
    b_r, b_z, b_n = tf.split(bias, 3)
    hidden, outputs = initial_hidden, []
    for step in range(STEPS):
        _, _, _, hidden = tf.raw_ops.GRUBlockCell(
            x=x[:, step],
            h_prev=hidden,
            w_ru=tf.concat([r, z], axis=-1),
            w_c=n,
            b_ru=tf.concat([b_r, b_z], axis=0),
            b_c=b_n,
        )
        outputs.append(hidden)
    return {"output": tf.stack(outputs, axis=1), "hidden": hidden}


def other_biases(asked: Asked) -> bool:
    return "bias" not in asked.arrays or "recurrent_bias" in asked.arrays


CANNOT = {
    "other than one bias": other_biases,
    "rows of several lengths": lambda asked: "lengths" in asked.arrays,
    "one direction, backwards": lambda asked: asked.configuration["reverse"],
}
BASE = "tensorflow.raw_ops."
WAYS = (
    Way("lstm", (BASE + "BlockLSTM",), lstm, CANNOT, dtype="float32"),
    Way(
        "gru",
        (BASE + "GRUBlockCell",),
        gru,
        {**CANNOT, "a reset after the kernel": lambda asked: asked.configuration["reset_after"]},
        without=("gradients",),
        dtype="float32",
    ),
)
