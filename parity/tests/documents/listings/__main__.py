"""Run every listing of a framework in both dtypes: ``python -m parity.tests.documents.listings torch FOLDER``."""

import importlib
import sys
from pathlib import Path

framework, folder = sys.argv[1:]
for name, listing in importlib.import_module(f"parity.tests.documents.listings.in_{framework}").LISTINGS.items():
    for dtype in ("float32", "float64"):
        listing(dtype).save(Path(folder) / f"{name}-{dtype}.safetensors")
