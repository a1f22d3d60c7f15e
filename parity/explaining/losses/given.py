"""What a recorded update says of its loss: the loss's gradient for the prediction."""

from __future__ import annotations

import numpy as np

from parity.recording.steps import Step
from parity.typing import Array

PREDICTION = "prediction"
DENOMINATOR = "another-loss-denominator"
"""The mistake that every loss of several rows may have: their sum is divided by another number."""
NEEDED = (
    "the loss's gradient for the prediction is not recorded, from which targets and weights could be read: watch the "
    "model, or hand it to Recorder.step as activation_gradients={'prediction': ...}"
)
"""What would have to be recorded."""


def gradient_of(step: Step) -> Array | None:
    """Find the loss's gradient for the prediction: that of a layer that gave it, or the one that a loop handed over.

    Args:
        step: A recorded step.

    Returns:
        float64, of the prediction's shape; None if it is not recorded, or not finite.
    """
    given = (
        np.asarray(gradient, np.float64)
        for layer, gradient in step.activation_gradients.items()
        if gradient.shape == step.prediction.shape
        and (layer == PREDICTION or np.array_equal(step.activations.get(layer, ()), step.prediction))
    )
    return next((gradient for gradient in given if np.isfinite(gradient).all()), None)
