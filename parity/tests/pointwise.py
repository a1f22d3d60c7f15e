"""What one implementation of ``activations`` says at given points: asked in the process of its framework."""

from base64 import b64encode
from dataclasses import replace
from functools import partial

import numpy as np
from safetensors.numpy import save

from fixtures import synthetic
from impls.activations import spec
from parity.spec import Dataset
from parity.suite import load_suite
from parity.typing import Array, Params

POINTS = {
    "float32": {
        "grid": synthetic.activation_points().x[:, 0],
        "special": synthetic.special_points().x[:, 0],
        # The last lies where sigmoid itself is denormal.
        "denormal": np.array([1e-40, -1e-40, -95.0]),
    },
    "float64": {
        "grid": synthetic.activation_points().x[:, 0],
        "special": synthetic.special_points().x[:, 0],
        "denormal": np.array([1e-310, -1e-310, -720.0]),
    },
}


def evaluated_at_all(label: str) -> str:
    """Predictions and gradients of an implementation at all points, in both dtypes: safetensors in base 64.

    They are named ``<dtype>/<points>/<function>/<what>``, (points,) each: ``prediction``, and the gradients ``scale``,
    the value once more, and ``shift``, the derivative.
    """
    entry = load_suite("impls").entry("activations")
    found: Params = {}
    for dtype, sets in POINTS.items():
        for name, x in sets.items():
            case = replace(entry.case, data=partial(_row, x), initial=partial(spec.initial, len(x)))
            trainer = entry.implementations[label].build(case, dtype, "cpu")
            data = case.data()
            prediction = trainer.predict(data.x)[0]  # (points, 3)
            gradients = trainer.gradients(data.x, data.y)[1]
            for column, function in enumerate(spec.FUNCTIONS):
                place = f"{dtype}/{name}/{function}"
                found[f"{place}/prediction"] = prediction[:, column].copy()
                found |= {f"{place}/{role}": gradients[f"{function}/{role}"] for role in ("scale", "shift")}
    return b64encode(save(found)).decode()


def _row(x: Array) -> Dataset:
    return Dataset(x[None], np.zeros((1, 1)))
