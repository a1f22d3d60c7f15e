"""The plugin comes with the installed package; a bare checkout loads it from here."""

from importlib.metadata import entry_points

installed = any(point.value == "parity.pytest_plugin" for point in entry_points(group="pytest11"))
pytest_plugins = () if installed else ("parity.pytest_plugin",)
