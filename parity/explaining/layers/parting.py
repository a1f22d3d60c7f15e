"""A place where two runs part, with the words for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from parity.explaining.layers.named import Named
from parity.recording.layers import Layer
from parity.tolerance import FACTOR


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one of the runs parts: in a layer, or in functions between layers."""

    layer: Layer | None
    after: tuple[str, ...]
    """The last tensors that agree before it."""
    before: str
    """The layer that takes what parts; empty if none does."""
    with_it: tuple[Layer, ...] = ()
    """More layers that are within the place, because one layer of the other run does what they do."""

    @property
    def words(self) -> str:
        """Name the place."""
        if self.layer is not None:
            return " with ".join(f"{layer.name} ({layer.kind})" for layer in (self.layer, *self.with_it))
        what = ", ".join((*(f"{layer.name} ({layer.kind})" for layer in self.with_it), "functions"))
        after = f"after {', '.join(self.after)}" if self.after else "at the beginning"
        return f"{what} {after}" + (f" and before {self.before}" if self.before else "")


@dataclass(frozen=True, kw_only=True)
class Parting:
    """A place whose inputs agree and whose output does not."""

    direction: str
    """``forward``, ``backward`` or ``state``."""
    ours: Place | None
    """None if the first run has no partner of what parts in the second."""
    theirs: Place | None
    inputs: float
    """The distance of the farthest input, in noise floors; NaN if inputs differ already."""
    output: float
    """The distance of the output, in noise floors."""
    differences: tuple[str, ...] = ()
    pattern: str = ""
    note: str = ""
    mistake: Named | None = None
    """The mistake whose replay gives what was seen; None if none does."""
    certain: bool = True
    """Whether both places are surely one another's: both take tensors that agree, and are of one kind. Not so if the
    output is hardly farther apart than the inputs: then it may be what came in, a little larger."""

    def __post_init__(self) -> None:
        if self.inputs > 0 and self.output <= FACTOR * max(1.0, self.inputs):
            object.__setattr__(self, "certain", False)

    @property
    def _doubt(self) -> str:
        """Say why it is not certain."""
        if None in (self.ours, self.theirs):
            return "the other run may do the same elsewhere"
        if self.inputs > 0 and self.output <= FACTOR * max(1.0, self.inputs):
            return "it may be what came in, grown"
        return "these may not be one another's"

    @property
    def sentence(self) -> str:
        """Say where it is and what is seen there."""
        partners = [place.words for place in (self.ours, self.theirs) if place is not None]
        said = " ↔ ".join(partners)
        if len(partners) < 2:
            said += f" of the {'first' if self.ours else 'second'} run, no partner found"
        words_of_inputs, words_of_output = SEEN[self.direction]
        seen = []
        if np.isfinite(self.inputs):
            seen.append(f"{words_of_inputs} to {self.inputs:.2g} of the noise floor")
        if np.isfinite(self.output):
            seen.append(f"{words_of_output} by {self.output:.2g}" + ("" if seen else " noise floors"))
        said += f": {', '.join(seen)}"
        doubt = "" if self.certain else f"not certain: {self._doubt}"
        pattern = f"pattern: {self.pattern}" if self.pattern else ""
        named = self.mistake.sentence if self.mistake is not None else ""
        return "; ".join(filter(None, (said, doubt, named, *self.differences, self.note, pattern)))


SEEN = {
    "forward": ("inputs agree", "output parts"),
    "backward": ("the gradients that come back agree", "those that go on part"),
    "state": ("inputs agree", "running statistics part"),
}
