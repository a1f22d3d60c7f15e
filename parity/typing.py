"""What the numbers are kept in: the types that every room of the harness shares."""

from __future__ import annotations

import numpy as np

Array = np.ndarray
"""An array of any shape and dtype."""
Params = dict[str, Array]
"""Canonical name (``layer/role``) to array. Kernels are ``(in, out)``; the gates of a recurrent layer are equal
blocks of the last axis, in the order that ``Case.blocks`` says."""
Batches = tuple[Array, ...]
"""The batches of one epoch: for each, the row indices into the training data, ``(batch,)`` int64."""
