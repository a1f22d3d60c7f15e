"""What a watcher sees of a run: the words that every framework's adapter and the recording share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from parity.recording.layers import Layer
from parity.typing import Params

Tensors = Mapping[str, Any]
"""Names to tensors of a framework."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """The state of a run between two updates, as its framework has it."""

    params: Tensors
    """Every parameter and every buffer of floats, by the framework's name."""
    slots: Mapping[str, Tensors]
    """The optimizer's tensors, by the slot's name and the parameter's."""


@dataclass(kw_only=True)
class Update:
    """One update. What is not its loss is seen in updates that are recorded deeply alone."""

    loss: Any = None
    learning_rate: float | None = None
    before: Condition | None = None
    inputs: list[Any] = field(default_factory=list)
    """The tensors that the model was given, in order."""
    prediction: Any = None
    gradients: dict[str, Any] = field(default_factory=dict)
    """The gradient of each trained parameter, as the optimizer gets it."""
    unclipped: dict[str, Any] = field(default_factory=dict)
    """The gradients as the backward pass left them, if something changed them before the update."""
    activations: dict[str, Any] = field(default_factory=dict)
    """What each layer gave, by the layer's name, in the order in which the layers ended."""
    activation_gradients: dict[str, Any] = field(default_factory=dict)


Told = Callable[[Update], None]


class Adapter(Protocol):
    """One framework's way to look into a run that goes on.

    ``attach`` is given where each update is to be told, and who says whether the update that begins is to be seen
    deeply.
    """

    framework: str
    """The first word of an implementation's label."""
    dtype: str
    usage: str
    """What to write where no update was seen."""

    def attach(self, told: Told, deep: Callable[[], bool]) -> None:
        """Begin to watch."""
        ...

    def detach(self) -> None:
        """Leave the user's objects as they were before ``attach``."""
        ...

    def condition(self) -> Condition:
        """Copy the state between two updates."""
        ...

    def buffers(self) -> list[str]:
        """Name the parts of ``condition().params`` that no optimizer trains."""
        ...

    def layers(self) -> list[Layer]:
        """List the layers of the last update that was seen deeply, in the order in which they ended."""
        ...

    def describe(self) -> dict[str, Any]:
        """Say what the recording is to keep of the optimizer and its settings."""
        ...

    def update(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
        """Make one update with the user's function of these arguments; returns what the function returned."""
        ...

    def saved(self) -> Any:
        """Copy all that an update changes, but for random numbers."""
        ...

    def go_to(self, saved: Any) -> None:
        """Bring the run to a saved state, which stays as it is."""
        ...

    def random(self) -> Any:
        """Say where random numbers come from next."""
        ...

    def drawing(self) -> bytes | None:
        """Give the state from which the framework's own layers draw next; None where it keeps none."""
        ...

    def draw_from(self, state: Any) -> None:
        """Draw random numbers from there on."""
        ...

    def aside(self, told: Told, seed: int | None = None) -> AbstractContextManager[None]:
        """Make updates that leave no trace: at the end the run is where it was, its random numbers too.

        They are told to ``told``. With a ``seed`` every rounding in them is stirred.
        """
        ...

    def stir(self) -> None:
        """Move every trained number of the run, and every slot, by one unit in its last place, within ``aside``."""
        ...


@runtime_checkable
class Skips(Adapter, Protocol):
    """An adapter of a framework in which a gradient scaler skips an update whose gradients overflow."""

    skipped: bool
    """Whether the last ``update`` was skipped."""


@runtime_checkable
class Follows(Adapter, Protocol):
    """An adapter that can bring its run to a state that another run recorded."""

    def load(self, params: Params, slots: Mapping[str, Params]) -> None:
        """Set these parameters and buffers, and these slots; all by the names that ``condition`` gives.

        The values may be of another dtype than the run's. What is not named stays as it is. A pure function begins its
        next update from them, whatever state it is called with.
        """
        ...
