"""Environments in worker processes: Gymnasium's own, but a worker that dies or hangs is named, and none is left.

Worker processes import this module: it imports no JAX.
"""

import atexit
import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import traceback
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from multiprocessing import connection, reduction, resource_tracker
from typing import Any

from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from gymnasium.vector.async_vector_env import _async_worker
from gymnasium.vector.utils import CloudpickleWrapper

from rlgd.envs.host.checked import Broken
from rlgd.envs.host.maker import Env

START_TIMEOUT = 300.0  # seconds to import what an environment needs, and to make it
GRACE = 2.0  # seconds to end in peace

# A terminal's Ctrl-C and a cluster's preemption reach all processes: the main one answers, and ends the workers.
FOR_MAIN = (signal.SIGINT, signal.SIGTERM)


class WorkerVector(AsyncVectorEnv[Any, Any]):
    """``AsyncVectorEnv`` with spawned workers that waits neither for a dead worker nor longer than ``timeout``.

    What goes wrong in a worker is raised as ``Broken``; the other workers are ended before.

    Args:
        makers: one for each environment; the first also makes one here, which tells the spaces.
        mode: the autoreset mode.
        timeout: seconds that a reset or step may take.

    Raises:
        ValueError: if the makers cannot be sent to another process.
    """

    parent_pipes: Any  # of ``_Worker``, which is a pipe to those who use it
    error_queue: Any

    def __init__(self, makers: Sequence[Callable[[], Env]], mode: AutoresetMode, timeout: float) -> None:
        self._check_portable(makers[0])
        self._timeout = timeout
        self._start = contextlib.ExitStack()
        try:
            with self._start:
                self._start.enter_context(apart_from_main())
                super().__init__(makers, copy=False, context="spawn", worker=serve, autoreset_mode=mode)
        except BaseException:
            self._end_workers(grace=0)
            raise
        _running.add(self)

    @staticmethod
    def _check_portable(maker: Callable[[], Env]) -> None:
        try:
            reduction.ForkingPickler.dumps(CloudpickleWrapper(maker))
        except Exception as error:
            raise ValueError(
                f"it cannot be sent to worker processes ({error}); give a class or a function that holds no open "
                "files, locks or the like, or use vectorization 'sync'."
            ) from error

    def _check_spaces(self) -> None:
        """The constructor calls this when all workers are started: from here on their pipes are watched."""
        self._start.close()
        crew: list[_Worker] = []
        for number, (process, pipe) in enumerate(zip(self.processes, self.parent_pipes, strict=True)):
            crew.append(_Worker(number, process, pipe, crew))
        self.parent_pipes = crew
        super()._check_spaces()
        for worker in crew:
            worker.timeout = self._timeout

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        with self._ended_when_broken():
            return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
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
        """End all workers: they are asked, and killed where they do not answer."""
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
        self.error_queue = None  # whose semaphores are freed with it


class InWorker(Exception):
    """The traceback of what was raised in a worker process, as the cause of what is raised here."""

    def __init__(self, trace: str) -> None:
        super().__init__(f"in the worker process:\n{trace}")


class _Worker:
    """A worker process behind its pipe, as ``AsyncVectorEnv`` uses the pipe.

    Args:
        number: of its environment.
        crew: all workers; that one of them died ends the waiting for any other.
    """

    def __init__(
        self, number: int, process: Any, pipe: "connection.Connection[Any, Any]", crew: "list[_Worker]"
    ) -> None:
        self.number, self.process, self._pipe, self._crew = number, process, pipe, crew
        self.timeout, self._deadline = START_TIMEOUT, 0.0

    def send(self, message: Any) -> None:
        self._deadline = time.monotonic() + self.timeout
        try:
            self._pipe.send(message)
        except OSError:
            raise self._died() from None

    def recv(self) -> Any:
        if not self._pipe.poll():
            self._wait()
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None

    def _wait(self) -> None:
        running = {worker.process.sentinel: worker for worker in self._crew}
        while True:
            ready = connection.wait([self._pipe, *running], max(0.0, self._deadline - time.monotonic()))
            if self._pipe in ready:
                return
            if not ready:
                raise self._broken(f"gave no answer within {self.timeout:g} s")
            for sentinel in ready:
                ended = running.pop(sentinel)
                ended.process.join()
                if ended.process.exitcode != 0:  # one that raised ends in peace, and its answer tells more
                    raise ended._died()

    def _died(self) -> Broken:
        self.process.join(GRACE)
        code = self.process.exitcode
        if code is None:
            return self._broken("closed its pipe")
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        return self._broken(f"died: {how}")

    def _broken(self, what: str) -> Broken:
        return Broken(self.number, f"(worker process {self.process.pid}) {what}")

    def dismiss(self) -> None:
        """Ask the worker to end behind what it does."""
        with contextlib.suppress(OSError):
            self._pipe.send(("close", None))

    def close(self) -> None:
        self._pipe.close()


@contextlib.contextmanager
def apart_from_main() -> Iterator[None]:
    """Processes started here do not run the caller's script once more, and get no signal before they are ready for it.

    What the script defines reaches them with the maker.
    """
    resource_tracker.ensure_running()  # or the first start would, and let the signals through
    main, blocked = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def serve(
    index: int,
    maker: Callable[[], Env],
    pipe: Any,
    parent_pipe: Any,
    shared_memory: Any,
    error_queue: Any,
    *mode_and_semaphore: Any,
) -> None:
    """What a worker process does: Gymnasium's own loop, until the main process ends it or ends itself."""
    for number in FOR_MAIN:
        # Not SIG_IGN: processes that the environment starts would inherit that.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_MAIN)
    threading.Thread(target=_end_with_main, daemon=True).start()
    try:
        env = maker()
    except Exception as error:
        broken = error if isinstance(error, Broken) else Broken(index, f"raised {error!r}")
        pipe.recv()
        error_queue.put((index, Broken, broken, traceback.format_exc()))
        pipe.send((None, False))
        return
    with contextlib.suppress(EOFError, OSError):  # the main process is gone
        _async_worker(index, lambda: env, pipe, parent_pipe, shared_memory, error_queue, *mode_and_semaphore)


def _end_with_main() -> None:
    """An environment that hangs does not outlive the main process, which is noticed between steps only."""
    main = multiprocessing.parent_process()
    assert main is not None
    main.join()
    time.sleep(GRACE)
    os._exit(1)


_running: "weakref.WeakSet[WorkerVector]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # multiprocessing would wait at the exit for workers that wait for their next step.
    for vector in list(_running):
        vector.close()
