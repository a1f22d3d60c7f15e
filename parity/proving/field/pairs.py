"""All pairs of the field."""

from __future__ import annotations

from parity.proving.field.layers import LAYER_PAIRS
from parity.proving.field.losses import GRADIENT_PAIRS, LOSS_PAIRS
from parity.proving.field.unseen import UNSEEN_PAIRS
from parity.proving.field.updates import UPDATE_PAIRS

PAIRS = (*UPDATE_PAIRS, *LOSS_PAIRS, *GRADIENT_PAIRS, *LAYER_PAIRS, *UNSEEN_PAIRS)
"""Every pair, those of one family one after the other."""
