"""``python -m parity`` is the command ``parity``."""

from parity.cli.app import main

main()
