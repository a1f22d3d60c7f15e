"""What the tests of watched ports share: a port that is held against torch's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from parity.running.executor import Environment
from parity.tests.command import Parity
from parity.tests.warm import Warm
from parity.tests.watching.ports import trained


@pytest.fixture
def against_torch(warm: Warm, tmp_path_factory: pytest.TempPathFactory, parity: Parity) -> Callable[..., None]:
    """Hold right runs of a port against torch's, which pass, and wrong ones on either side, which fail.

    ``question`` makes the port's runs where ``framework`` is, the right ones under the names ``right``.
    """

    def hold(question: Any, framework: str, *, rule: str, dtype: str, right: tuple[str, ...] = ("right",)) -> None:
        def asked(question: Any, framework: str, **arguments: Any) -> Path:
            where = Environment(framework, "cpu")
            answer = warm.ask(question, where, arguments, folder=lambda: tmp_path_factory.mktemp("port"))
            return Path(answer.result()["folder"])

        mine = asked(trained, "torch", label="torch", rule=rule, dtype=dtype)
        theirs = asked(question, framework, dtype=dtype)
        for name in right:
            found = parity("diff", mine / "right", theirs / name, "--json", "-")
            assert found.status == 0, found.out
        for pair in ((mine / "wrong", theirs / right[0]), (mine / "right", theirs / "wrong")):
            assert parity("diff", *pair).status == 1
            assert "prediction" in parity("explain", *pair).out

    return hold
