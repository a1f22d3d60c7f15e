"""Take the pictures of README and documentation: ``python .ci/screenshots.py REPORT [BENCHMARKS [SWEEP [SEEDS]]]``.

REPORT is the page that ``parity run`` wrote of the whole matrix, BENCHMARKS the one of ``parity bench``, SWEEP the one
of ``parity sweep``, and SEEDS the one of ``parity diff --seeds`` that ``docs/how-to/without-a-shared-seed.md`` makes.
The pictures go to ``docs/pictures``.
"""

import sys
import time
from pathlib import Path

from parity.tests.browser import Browser

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
# Name, fragment of the page's address, selector of an element that is there once it is drawn, size, colour scheme.
REPORT = (
    ("matrix", "", "#matrix", (1240, 800), "light"),
    ("cell", "#char-gru/keras/float32/cpu", ".plot .legend", (1120, 1180), "light"),
    ("sources", "#mnist-softmax?numpy,torch,jax", ".columns section", (1660, 860), "dark"),
)
BENCHMARKS = (("benchmarks", "", "h1", (1120, 900), "light"),)
SWEEP = (("sweep", "", "figure", (1240, 1100), "light"),)
SEEDS = (("seeds", "", "figure", (1120, 780), "light"),)
SETTLED = 0.5
"""The seconds to wait for the last drawing, which has no event of its own."""


def main(pages: list[Path]) -> int:
    if not 1 <= len(pages) <= 4:
        print(__doc__)
        return 2
    for page in pages:
        if not page.is_file():
            print(f"{page} is no file: 'parity run', 'bench', 'sweep' and 'diff --seeds' write one, in that order")
            return 2
    PICTURES.mkdir(exist_ok=True)
    with Browser() as browser:
        for page, shots in zip(pages, (REPORT, BENCHMARKS, SWEEP, SEEDS), strict=False):
            for name, fragment, selector, size, scheme in shots:
                browser.size(*size)
                browser.scheme(scheme)
                browser.open(page, fragment)
                browser.wait(f"document.querySelector('{selector}')")
                time.sleep(SETTLED)
                path = PICTURES / f"{name}.png"
                browser.screenshot(path)
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        print("\n".join(browser.errors))
        return 1 if browser.errors else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
