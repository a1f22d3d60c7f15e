"""``python -m parity`` is the command ``parity``: like that it looks for nothing in the current folder by itself."""

import os
import sys

if not sys.flags.safe_path and sys.path[0] == os.getcwd():
    del sys.path[0]

from parity.cli.main import main

main()
