"""Runs the documentation's code, one page's after another's, in one process of one framework.

    python -m parity.tests.snippets

It reads jobs from standard input, one JSON object a line, and answers each with a status, and what was printed. A job
has the page's ``folder``, and ``code`` to run there, or a ``script``, or the arguments of ``parity``. What a page's
code has defined, its later code finds.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any


def run(job: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Run one job; its status is that of a process."""
    out, error, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            if "parity" in job:
                from parity.cli.main import main

                sys.argv = ["parity", *job["parity"]]
                main()
            elif "script" in job:
                sys.argv = [job["script"]]
                runpy.run_path(job["script"], run_name="__main__")
            else:
                exec(compile(job["code"], job["where"], "exec"), names)
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except Exception:  # the page's code may raise anything, and the answer says what
            traceback.print_exc()
            status = 1
    return {"status": status, "out": out.getvalue(), "error": error.getvalue()}


def enter(folder: str, before: str, path: list[str]) -> None:
    """Go to a page's folder, and forget the modules of the one before: this page may call its own alike."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if before and file and Path(file).is_relative_to(before):
            del sys.modules[name]
    os.chdir(folder)
    sys.path[:] = [folder, *path]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints by itself is no answer
    path, here, names = list(sys.path), "", dict[str, Any]()
    for line in sys.stdin:
        job = json.loads(line)
        if job["folder"] != here:
            enter(job["folder"], here, path)
            here, names = job["folder"], {"__name__": "__main__"}
        print(json.dumps(run(job, names)), file=answers, flush=True)


if __name__ == "__main__":
    main()
