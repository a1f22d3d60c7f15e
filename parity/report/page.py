"""Pages that need nothing else: one HTML file, its style and scripts inside, light and dark, every text escaped."""

from __future__ import annotations

from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MISSING = "a page needs {0}, which is not installed: python -m pip install 'cross-framework-parity[report]'"


class PageError(ValueError):
    """A page that cannot be made; the message says what to do."""


def check_page(path: Path, *packages: str) -> None:
    """PageError where a page that needs ``packages`` beside jinja2 cannot be made: before anything long is run."""
    for package in ("jinja2", *packages):
        if find_spec(package) is None:
            raise PageError(MISSING.format(package))
    if not path.absolute().parent.is_dir():
        raise PageError(f"cannot write {path}: no such folder")


def render(template: str, package: str = "parity.report", **content: Any) -> str:
    """The page that a template of ``package`` makes of ``content``; every template extends ``base.html`` of here."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    def load(name: str) -> str:
        return (files("parity.report" if name == "base.html" else package) / name).read_text(encoding="utf-8")

    environment = Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page: str = environment.get_template(template).render(**content)
    return page


def plotly() -> str:
    """The source of plotly.js, from the distribution that carries it, without importing plotly's Python side."""
    from importlib.metadata import distribution

    return Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js"))).read_text(
        encoding="utf-8"
    )
