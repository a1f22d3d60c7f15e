"""What a search for partners may take: recordings of many tensors that are alike must not cost hours."""

from __future__ import annotations

import time

from parity.recording.limits import MORE, allowed

SECONDS = 60.0
"""A search takes no longer. Two models of a thousand tensors and 10⁸ values are matched in a few seconds."""
PAIRS = 1 << 19
"""So many pairs of tensors that may belong together are kept in memory."""


class EndedError(Exception):
    """A search has taken what it may. What it had found until then holds."""


class Search:
    """The time and the pairs of tensors that are left for one search.

    Examples:
        >>> search = Search()
        >>> search.go_on(pairs=1)
        >>> search.sentence
        'the search for partners was ended after 60 seconds or 524,288 pairs of tensors'
    """

    def __init__(self) -> None:
        times = allowed()
        self.seconds, self.pairs = SECONDS * times, int(PAIRS * times)
        self._left, self._end = self.pairs, time.monotonic() + self.seconds

    def go_on(self, pairs: int = 0) -> None:
        """Take from what is left. EndedError if that is not enough, or time is up."""
        self._left -= pairs
        if self._left < 0 or time.monotonic() > self._end:
            raise EndedError(self.sentence)

    @property
    def sentence(self) -> str:
        """Say what it may take, where it has ended."""
        return f"the search for partners was ended after {self.seconds:,.0f} seconds or {self.pairs:,} pairs of tensors"

    @property
    def remedy(self) -> str:
        """Say what to do about a search that has ended."""
        return f"the tensors that are left were not matched: {MORE}, or say with --map which are the same"
