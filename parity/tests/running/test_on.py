"""Where jobs are done: what may be asked for, and what is said where it cannot be had."""

from __future__ import annotations

import sys

import pytest

from parity.running.on import OnError, check, cores, executor
from parity.running.workers.pool import Pool


@pytest.mark.parametrize("on", ["", "Local", "dask", "ray:", "ray://", "rays://host", "ray/host", "local://host"])
def test_another_place_is_refused(on: str) -> None:
    with pytest.raises(OnError, match=f"--on takes local, ray or ray://HOST:PORT, not '{on}'"):
        check(on)


@pytest.mark.parametrize("on", ["ray", "ray://host:6379"])
def test_without_ray_the_extra_is_named_that_brings_it(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OnError, match=r"needs Ray: python -m pip install 'cross-framework-parity\[ray\]'"):
        executor(on)


def test_this_machine_does_as_many_jobs_as_it_has_cores_unless_told_otherwise() -> None:
    for jobs, slots in ((None, cores()), (3, 3)):
        with executor(jobs=jobs) as pool:
            assert isinstance(pool, Pool)
            assert len(pool._threads) == slots + 1  # and one that watches
