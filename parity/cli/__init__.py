"""The command line, a file for each group of commands. ``app`` is the whole of it, for whoever calls it from Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parity.cli.main import app as app


def __getattr__(name: str) -> Any:
    # Lazily: a module of the command line may be imported for itself.
    if name == "app":
        from parity.cli.main import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
