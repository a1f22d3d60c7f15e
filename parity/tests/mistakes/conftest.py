"""What every test of a mistake runs under."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A mistake may overflow or divide by zero: that is what it does."""
    with np.errstate(all="ignore"):
        yield
