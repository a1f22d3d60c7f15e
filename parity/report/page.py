"""Pages that need no other file: one HTML file with style and scripts inside, light and dark, every text escaped."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HOME = "parity.report"
MISSING = "a page needs {0}, which is not installed: python -m pip install 'cross-framework-parity[report]'"


class PageError(ValueError):
    """A page that cannot be made; the message says what to do."""


def check_page(path: Path, *packages: str) -> None:
    """Refuse a page that cannot be made, before anything long is run.

    Args:
        path: Where the page is to go. Its folder must be there.
        packages: What the page needs beside jinja2.

    Raises:
        PageError: A package is not installed, or the folder is missing.
    """
    for package in ("jinja2", *packages):
        if find_spec(package) is None:
            raise PageError(MISSING.format(package))
    if not path.absolute().parent.is_dir():
        raise PageError(f"cannot write {path}: no such folder")


def render(template: str, package: str = HOME, **content: Any) -> str:
    """The page that a template makes of ``content``.

    Args:
        template: The template's file name. It extends ``base.html``, which lies beside this module.
        package: The package that the template lies in.
        content: What the template shows, by name. A name that it asks for and does not get is an error.

    Returns:
        The page as HTML, every text in it escaped.
    """
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    environment = Environment(
        loader=FunctionLoader(lambda name: resource(name, HOME if name == "base.html" else package)),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # "tojson" escapes what could end a script element; a number that JSON lacks must not pass for one.
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    page: str = environment.get_template(template).render(**content)
    return page


def resource(name: str, package: str = HOME) -> str:
    """The text of a file that lies in a package."""
    return (files(package) / name).read_text(encoding="utf-8")


def policy(*scripts: str) -> str:
    """The Content-Security-Policy of a page that runs these scripts alone and asks for nothing from elsewhere.

    A script is named by the hash of its text: one that got into the page by other means does not run.
    """
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{found}'" for found in hashes) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def plotly() -> str:
    """The source of plotly.js, read from the package plotly without importing it.

    plotly.js reads ``<b>``, ``<a href>`` and the like in the texts that it draws. A text that is not our own must go
    to it with ``&``, ``<`` and ``>`` as entities.
    """
    from importlib.metadata import distribution

    return Path(str(distribution("plotly").locate_file("plotly/package_data/plotly.min.js"))).read_text(
        encoding="utf-8"
    )
