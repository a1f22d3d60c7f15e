"""Prove that one model, written in several frameworks, trains the same way in each.

Importing this package imports neither NumPy nor any framework, so that the command line answers at once
and a worker process can set a framework's environment before the framework is loaded.
"""

__version__ = "0.1.0"
