"""What the tests of the reports do with a folder of runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from parity.judging.outcome import Outcome
from parity.recording.format import MANIFEST

HIT = "window.hit=1"
IMAGE = f"<img src=x onerror={HIT}>"
ATTRIBUTE = f'numpy-"\'onmouseover="{HIT}"<a href=javascript:{HIT}>b'
SCRIPT = f"</script></template><script>{HIT}</script><!--"


def change(run: Path, **meta: Any) -> None:
    """Let a trajectory say other things of itself."""
    found = json.loads((run / MANIFEST).read_text())
    (run / MANIFEST).write_text(json.dumps(found | meta))


def only(outcomes: list[Outcome], implementation: str, dtype: str = "float64") -> Outcome:
    (found,) = (o for o in outcomes if (o.implementation, o.dtype) == (implementation, dtype))
    return found
