"""``python -m parity.tests.huggingface [MODEL …]``: hold torch's models of ``transformers`` against flax's.

The torch model's weights are carried over and proven by one forward pass. Both are trained, watched: they must agree,
with every tensor matched. Then the torch model is set otherwise: the right layer must be named. Status 1 if not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
import torch
import transformers
from rich.console import Console
from rich.table import Table

from parity import read, transfer, watch
from parity.judging.tensors.matching import match
from parity.tests.huggingface.models import PAIRS, Pair, in_pieces

UPDATES = 6
RATE, DECAY = 1e-3, 1e-2


def trained_in_torch(pair: Pair, weights: Any, folder: Path, least: int = 1, **other: Any) -> Path:
    """Train the torch model, watched."""
    model = pair.build_torch(**other)
    model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    with watch(folder, model, optimizer) as run:
        for step in range(UPDATES):
            inputs, labels = pair.batch(step, least)
            given = {name: torch.tensor(value) for name, value in inputs.items()}

            def loss(given: Any = given, labels: Any = labels) -> Any:
                pieces = in_pieces(model(**given).logits, torch.tensor(labels), pair.loss_of_tokens)
                return torch.nn.functional.cross_entropy(*pieces)

            run.step(loss)
    return folder


def trained_in_flax(pair: Pair, module: Any, variables: dict[str, Any], folder: Path, least: int = 1) -> Path:
    """Train the flax module, watched."""
    variables = jax.tree.map(jnp.asarray, variables)
    params, rest = variables.pop("params"), variables
    transformation = optax.adamw(RATE, weight_decay=DECAY)
    state = transformation.init(params)

    @jax.jit
    def update(params: Any, rest: Any, state: Any, inputs: Any, labels: Any) -> Any:
        def loss(params: Any) -> Any:
            given = pair.arguments(inputs)
            if rest:
                output, now = module.apply(
                    {"params": params, **rest}, **given, deterministic=False, mutable=["batch_stats"]
                )
            else:
                output, now = module.apply({"params": params}, **given), {}
            logits, wanted = in_pieces(output.logits, labels, pair.loss_of_tokens)
            return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean(), now

        (value, now), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = transformation.update(gradients, state, params)
        return optax.apply_updates(params, updates), now, state, value

    with watch(folder, params, rest, state) as run:
        for step in range(UPDATES):
            params, rest, state, _ = run.step(update, params, rest, state, *pair.batch(step, least))
    return folder


def parity(*words: Any) -> str:
    """What a command prints."""
    done = subprocess.run([sys.executable, "-m", "parity", *map(str, words)], capture_output=True, text=True)
    return done.stdout + done.stderr


def held(name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Hold one model's two implementations against each other: a row of the table, and what went wrong."""
    pair, begun, wrong = PAIRS[name](), time.perf_counter(), list[str]()
    model = pair.build_torch()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    module, variables = pair.build_flax()

    def forward(variables: Any, **inputs: Any) -> Any:
        return module.apply(variables, **pair.arguments(inputs)).logits

    carried = transfer(model, into=(forward, variables), inputs=dict(pair.batch(0)[0]))
    runs = [
        trained_in_torch(pair, weights, folder / "torch"),
        trained_in_flax(pair, module, variables, folder / "flax"),
    ]
    matched = match(*map(read, runs))
    if matched.missed:
        wrong.append(f"not matched: {matched.missed}")
    if not (said := parity("diff", *runs)).splitlines()[0].startswith("PASS") and "\nPASS" not in said:
        wrong.append(said)
    other = dict(pair.wrong)
    least = other.pop("least", 1)
    runs = [trained_in_torch(pair, weights, folder / "wrong", least, **other), runs[1]]
    if least != 1:
        runs[1] = trained_in_flax(pair, module, variables, folder / "zeros", least)
    said = parity("explain", *runs)
    named = any(all(words in line for words in pair.layer) for line in said.splitlines())
    if not named:
        wrong.append(said)
    mistake = ", ".join(f"{key} {value}" for key, value in pair.wrong.items())
    row = [
        name,
        carried.sentence.partition(";")[0],
        matched.sentence.partition(";")[0],
        "no" if wrong else "yes",
        mistake,
        "yes" if named else "no",
    ]
    return [*row, f"{time.perf_counter() - begun:.0f}"], wrong


def main(names: list[str]) -> int:
    transformers.logging.set_verbosity_error()
    table = Table("model", "carried over", "by value", "as it should be", "set otherwise", "layer named", "seconds")
    failed = False
    console = Console(width=140)
    for name in names or list(PAIRS):
        with tempfile.TemporaryDirectory() as folder:
            row, wrong = held(name, Path(folder))
        table.add_row(*row)
        for said in wrong:
            console.print(f"{name}:\n{said}", markup=False)
        failed |= bool(wrong)
    console.print(table)
    return int(failed)


sys.exit(main(sys.argv[1:]))
