"""Environments in worker processes: Gymnasium's ``AsyncVectorEnv``, with named faults and no process left over.

It imports no JAX.
"""

import atexit
import contextlib
import pickle
import queue
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from rlgd.envs.aliases import GymEnv, Info
from rlgd.envs.host.checked import Broken
from rlgd.envs.host.parcel import Parcel, Registrations
from rlgd.envs.host.spawning import METHOD, signals_wait
from rlgd.envs.host.worker_pipe import Patience, WorkerPipe
from rlgd.envs.host.worker_process import GRACE, serve


class WorkerVector(AsyncVectorEnv[Any, Any]):
    """``AsyncVectorEnv`` with spawned workers that waits neither for a dead worker nor longer than ``timeout``.

    A fault in a worker is raised as ``Broken``, after the other workers are ended.

    Args:
        makers: one for each environment; the first also makes one here, for its spaces.
        mode: the autoreset mode.
        timeout: seconds that a reset or step may take.

    Raises:
        ValueError: if the makers cannot be sent to another process.
        Broken: if an environment cannot be made, or a worker dies or hangs.
    """

    parent_pipes: Any  # of ``WorkerPipe``
    error_queue: Any

    def __init__(self, makers: Sequence[Callable[[], GymEnv]], mode: AutoresetMode, timeout: float) -> None:
        registrations = Registrations.here()
        parcels = [Parcel(maker, registrations) for maker in makers]
        self._check_portable(parcels[0])
        self._timeout = timeout
        self._start = contextlib.ExitStack()
        try:
            with self._start:
                self._start.enter_context(signals_wait())
                super().__init__(parcels, copy=False, context=METHOD, worker=serve, autoreset_mode=mode)
        except BaseException:
            self._end_workers(grace=0)
            raise
        _running.add(self)

    @staticmethod
    def _check_portable(parcel: Parcel) -> None:
        try:
            pickle.dumps(parcel)
        except Exception as error:
            raise ValueError(
                f"it cannot be sent to worker processes ({error}); give a class or a function that holds no open "
                "files, locks or the like, or use vectorization 'sync'."
            ) from error

    def _check_spaces(self) -> None:
        """The base class calls this when all workers are started: from here on their pipes are watched."""
        self._start.close()
        crew: list[WorkerPipe] = []
        patience = Patience()
        for number, (process, pipe) in enumerate(zip(self.processes, self.parent_pipes, strict=True)):
            crew.append(WorkerPipe(number, process, pipe, crew, patience))
        self.parent_pipes = crew
        super()._check_spaces()
        for worker in crew:
            worker.timeout = self._timeout

    def reset(self, *, seed: Any = None, options: Info | None = None) -> tuple[Any, Info]:
        with self._ended_when_broken():
            return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        with self._ended_when_broken():
            return super().step(actions)

    @contextlib.contextmanager
    def _ended_when_broken(self) -> Iterator[None]:
        try:
            yield
        except Broken:
            self.close()
            raise

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        answers = list(successes)
        if all(answers):
            return
        errors: list[tuple[int, Any, BaseException, str]] = []
        with contextlib.suppress(queue.Empty):
            while len(errors) < answers.count(False):
                errors.append(self.error_queue.get(timeout=GRACE))
        if not errors:
            raise Broken(answers.index(False), "raised an exception that cannot be sent here")
        number, _, error, trace = min(errors, key=lambda entry: entry[0])
        what = error.what if isinstance(error, Broken) else f"raised {error!r}"
        raise Broken(number, what) from InWorker(trace)

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """Ask all workers to end, and kill those that have not ended after ``GRACE`` seconds."""
        for worker in self.parent_pipes:
            worker.dismiss()
        self._end_workers(GRACE)

    def _end_workers(self, grace: float) -> None:
        deadline = time.monotonic() + grace
        for process in getattr(self, "processes", ()):
            if process.pid is not None:  # it was started
                process.join(max(0.0, deadline - time.monotonic()))
                process.kill()
                process.join()
        for pipe in getattr(self, "parent_pipes", ()):
            pipe.close()
        self.error_queue = None  # frees its semaphores


class InWorker(Exception):
    """The traceback of an exception in a worker process; the ``__cause__`` of what is raised here."""

    def __init__(self, trace: str) -> None:
        super().__init__(f"in the worker process:\n{trace}")


_running: "weakref.WeakSet[WorkerVector]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # At exit, multiprocessing would wait for the workers, and they wait for their next step.
    for vector in list(_running):
        vector.close()
