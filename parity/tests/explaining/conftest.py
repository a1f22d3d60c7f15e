"""A suite with a mistaken implementation."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.tests.command import Parity
from parity.tests.explaining.toys import MISTAKEN
from parity.tests.suites import write_suite


@pytest.fixture
def suite(parity: Parity, tmp_path: Path) -> str:
    return write_suite(tmp_path, numpy_nesterov=MISTAKEN.format(name="nesterov-momentum"))
