"""Say what a pair of the field is: two right runs in two frameworks, and a third with one fault."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parity.frameworks import framework_of
from parity.recording.steps import Phase

WATCHED, BY_HAND = "watch", "Recorder"
"""How a pair's loops are recorded."""


@dataclass(frozen=True)
class Pair:
    """Two runs that are right, the second in another framework, and a third: the second with one fault.

    Attributes:
        name: The pair's name.
        differs: What is wrong in the third run, in a sentence.
        address: The public report that the fault was met in.
        phase: Where a walk along updates should first see it.
        sides: The frameworks of the first run and of the other two.
        setup: What all three runs are made of: the options of ``parity.proving.field.setup.Setup`` by name.
        fault: The options that the third run has otherwise.
        names: The mistakes of the catalogue that name it rightly.
        where: A regular expression that the place, its layer or the words beside it must match; empty where any tensor
            of the phase will do.
        words: A regular expression that the explanation matches if it says the cause without a catalogued name.
        by: ``watch`` or ``Recorder``.

    Examples:
        >>> pair = Pair("rate", "Twice the rate.", "https://example.org", Phase.UPDATE, fault={"rate": 0.1})
        >>> pair.options(wrong=True)["rate"], pair.environments[1]
        (0.1, 'jax')
    """

    name: str
    differs: str
    address: str
    phase: Phase
    sides: tuple[str, str] = ("torch", "flax")
    setup: Mapping[str, Any] = field(default_factory=dict)
    fault: Mapping[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    where: str = ""
    words: str = ""
    by: str = WATCHED

    @property
    def environments(self) -> tuple[str, str]:
        """The names of the two frameworks, as a worker's environment has them."""
        first, second = map(framework_of, self.sides)
        return first.name, second.name

    @property
    def model(self) -> str:
        """The name of the model that its runs train."""
        return str(self.setup.get("model", "perceptron"))

    def options(self, wrong: bool) -> dict[str, Any]:
        """What a run is made of.

        Args:
            wrong: Whether it is the third run, with the fault.

        Returns:
            Options by name, for ``Setup``.
        """
        return {**self.setup, **(self.fault if wrong else {})}

    def says_where(self, text: str) -> bool:
        """Whether a text names the place.

        Args:
            text: What an explanation says of places.
        """
        return re.search(self.where, text) is not None

    def says_why(self, text: str) -> bool:
        """Whether a text says the cause in words.

        Args:
            text: What an explanation says beside names.
        """
        return bool(self.words) and re.search(self.words, text) is not None
