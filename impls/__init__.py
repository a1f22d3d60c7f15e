"""The documents' models, and a GPT beyond them: one package a model, one flat file a framework.

A model's ``spec.py`` holds its ``CASES``. Every other file ``<model>_<label>.py`` is an implementation.
"""

from pathlib import Path

REFERENCE = "numpy"
FLOORS = Path(__file__).parent.parent / "fixtures" / "floors"
