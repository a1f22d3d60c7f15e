"""Jobs on a Ray cluster: the pool's slots and queues here, and each worker beside an actor on some node."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from parity.running.deadlines import Deadlines
from parity.running.executor import Environment, Job, Queued, Resources, UnrunError, WorkerError, out_of_room
from parity.running.packages import Reach
from parity.running.ray.actor import End, Place
from parity.running.ray.carried import Piece, named, pieces, put, settle, staged
from parity.running.ray.cluster import Cluster, uninstalled
from parity.running.workers.messages import Told, is_last, read, write
from parity.running.workers.pool import OnChanged, OnEvent, Pool

ATTEMPTS = 3
"""So many times a job is begun whose machine fails: it goes away, or its disk is full."""
LOOK = 1.0
"""Seconds between two looks at whether an actor has begun."""
ROOM = 3.0
"""After so many seconds an actor that has not begun waits for room: idle ones make it."""
CLOSE = 5.0
"""Seconds in which an actor must have taken away what it has put on its node's disk."""
NEVER = 60.0
"""After so many seconds a job is given up that asks for more than any node has."""
AHEAD = 8
"""So many answers and pieces of files may wait to be taken."""
T = TypeVar("T")


class _Lost(Exception):  # noqa: N818 - no error of a job
    """A machine has failed a job, which another may do."""


class RayExecutor:
    """An executor of worker processes on the nodes of a Ray cluster, used as ``parity.running.workers.pool.Pool`` is.

    ``address`` is the cluster's, HOST or HOST:PORT; "" is the one that Ray finds here, or else one that is begun on
    this machine and ended with this executor. Each slot of at most ``jobs``, or of as many as the cluster has cores,
    keeps an actor: with the cores, GPUs and memory that its jobs ask for, and one worker. A job is begun again
    whose machine fails, ``ATTEMPTS`` times in all. ``root`` is the folder below which jobs read and write: to and
    from a node that does not share it their files are carried.
    """

    def __init__(
        self,
        address: str = "",
        jobs: int | None = None,
        pythons: Mapping[str, str] | None = None,
        reach: Reach | None = None,
        deadlines: Deadlines | None = None,
        on_changed: OnChanged = lambda job, changes: None,
        root: Path | None = None,
    ) -> None:
        self._stack = contextlib.ExitStack()
        self._cluster = self._stack.enter_context(Cluster(address, pythons or {}, reach or Reach(), root))
        slots = jobs or self._cluster.cores()
        self._pool = self._stack.enter_context(
            Pool(slots, pythons, reach, deadlines, on_changed, self._start, start_another=0)
        )

    def _start(self, environment: Environment) -> _Worker:
        return _Worker(self._cluster, environment, self._pool.crowded)

    def submit(self, job: Job[T], on_event: OnEvent = lambda progress: None) -> Future[T]:
        """Queue a job; the future holds its result or raises WorkerError. RuntimeError where this is closed."""
        return self._pool.submit(job, on_event)

    def close(self) -> None:
        """End what runs and cancel what waits."""
        self._stack.close()

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """The process of a slot: an actor, replaced where its machine fails, and the worker beside it."""

    def __init__(
        self,
        cluster: Cluster,
        environment: Environment,
        crowded: Callable[[], contextlib.AbstractContextManager[None]],
    ) -> None:
        self.name = f"the {environment.framework} worker"
        self._cluster, self._environment, self._crowded = cluster, environment, crowded
        self._actor: Any = None
        self._place: Place | None = None
        self._has = Resources()
        self._killed = False
        self._end = End(f"{self.name} was ended before it began", "", False)

    @property
    def alive(self) -> bool:
        return self._actor is not None

    def answers(self, task: str, resources: Resources) -> Iterator[str]:
        """What the job answers; another machine begins it anew where one fails. UnrunError if that goes on."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                yield from self._attempt(task, resources)
                return
            except _Lost as lost:
                self._give_up()
                if self._killed:
                    return
                if attempt == ATTEMPTS:
                    raise UnrunError(f"{self.name} was lost {ATTEMPTS} times, the last time: {lost}") from lost

    def _attempt(self, task: str, resources: Resources) -> Iterator[str]:
        import ray

        with _failures(self._cluster.python(self._environment)):
            place = yield from self._begin(task, resources)
            if place.shares:
                yield from self._ask(task, place)
                return
            root = Path(self._cluster.root)
            for piece in pieces(root, named(task, str(root))):
                ray.get(self._actor.take.remote(piece))
            with staged(root) as stage:
                yield from self._ask(task, place, stage)

    def _begin(self, task: str, resources: Resources) -> Generator[str, None, Place]:
        """Have an actor with such resources; until it is there, say that the job is queued. Gives its place."""
        import ray

        if self._place is not None and _covers(self._has, resources):
            return self._place
        self._give_up()
        self._actor, self._has = self._cluster.actor(self._environment, resources), resources
        actor = self._actor
        if self._killed:  # just now, when there was none
            ray.kill(actor)
        waiting, since = actor.begin.remote(), time.monotonic()
        with contextlib.ExitStack() as stack:
            crowding = False
            while not ray.wait([waiting], timeout=LOOK)[0]:
                waited = time.monotonic() - since
                if waited > NEVER and not self._cluster.could(resources):
                    raise UnrunError(
                        f"no node of the cluster has {resources.cpus:g} cores, {resources.gpus:g} GPUs and "
                        f"{resources.memory} bytes of memory"
                    )
                if waited > ROOM and not crowding:
                    stack.enter_context(self._crowded())
                    crowding = True
                yield write(Told(json.loads(task)["id"], Queued()))
            found: Place = ray.get(waiting)
        self._cluster.check(actor, found.node, self._environment)
        self._place = found
        return found

    def _ask(self, task: str, place: Place, stage: Path | None = None) -> Iterator[str]:
        import ray

        options = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
        for answer in self._actor.answers.options(**options).remote(task):
            item = ray.get(answer)
            if isinstance(item, Piece):
                assert stage is not None
                put(stage, item)
                continue
            if is_last(item):
                if _full(item):
                    self._cluster.avoid(place.node)
                    raise _Lost("its disk had no room left")
                if stage is not None:
                    settle(stage, Path(self._cluster.root), named(task, self._cluster.root))
            yield item
            if is_last(item):
                return
        self._end = ray.get(self._actor.end.remote())
        if self._end.lost:
            raise _Lost(self._end.obituary)
        self._give_up()

    def _give_up(self) -> None:
        import ray

        actor, self._actor, self._place = self._actor, None, None
        if actor is not None:
            ray.kill(actor)

    def kill(self) -> None:
        """End the worker; whoever waits for its answers sees their end, and may ask for its last words."""
        import ray

        self._killed = True
        if (actor := self._actor) is None:
            return
        if self._place is not None:
            actor.interrupt.remote()
        else:
            ray.kill(actor)

    def stop(self) -> None:
        """End the actor, too."""
        import ray

        if (actor := self._actor) is not None and self._place is not None:
            with contextlib.suppress(ray.exceptions.RayError):
                ray.get(actor.close.remote(), timeout=CLOSE)
        self._give_up()

    def obituary(self) -> str:
        return self._end.obituary

    def excess(self) -> str:
        """The actor looks at that itself."""
        return ""

    def last_words(self) -> str:
        return self._end.last_words


@contextlib.contextmanager
def _failures(python: str) -> Iterator[None]:
    """Tell a machine that fails, by _Lost, from a job or an actor that does, by WorkerError."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if out_of_room(error.cause):
            raise _Lost("its disk had no room left") from error
        raise WorkerError(" ".join(str(error.cause).split()), str(error)) from error
    except ray.exceptions.RuntimeEnvSetupError as error:
        raise UnrunError(uninstalled(python, error), str(error)) from error
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        why = next((line for line in lines if "because" in line), lines[0] if lines else "")
        raise _Lost(why or type(error).__name__) from error


def _full(line: str) -> bool:
    try:
        return getattr(read(line), "full", False) is True
    except ValueError:
        return False  # whoever reads it next says so


def _covers(has: Resources, wanted: Resources) -> bool:
    return has.cpus >= wanted.cpus and has.gpus >= wanted.gpus and has.memory >= wanted.memory
