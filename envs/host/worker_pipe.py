"""The main process's end of the pipe to a worker process. It imports no JAX."""

import contextlib
import signal
import time
from multiprocessing import connection
from typing import Any

from rlgd.envs.host.checked import Broken
from rlgd.envs.host.worker_process import GRACE

START_TIMEOUT = 300.0  # seconds to import what an environment needs, and to make it
LOOK = 0.5  # seconds between two looks at the clock


class Patience:
    """Measures how long this process has waited; time in which it was stopped (Ctrl-Z) is no time for its workers.

    Attributes:
        waited: seconds so far.
    """

    def __init__(self) -> None:
        self.waited = 0.0

    def wait(self, objects: list[Any], until: float) -> list[Any]:
        """``multiprocessing.connection.wait``, while ``waited`` is below ``until``."""
        while True:
            look = min(LOOK, max(0.0, until - self.waited))
            start = time.monotonic()
            ready = connection.wait(objects, look)
            # A wait that took longer than it may was interrupted: the rest of it counts as nothing.
            self.waited += min(look, time.monotonic() - start)
            if ready or self.waited >= until:
                return ready


class WorkerPipe:
    """A pipe to a worker process, with the methods that ``AsyncVectorEnv`` calls; it notices a dead or hanging worker.

    Args:
        number: of the worker's environment.
        process: the worker process.
        pipe: the pipe itself.
        crew: the pipes of all workers: the death of any of them ends the wait for this one.
        patience: measures the waits for all of them.

    Attributes:
        timeout: seconds that an answer may take.
    """

    def __init__(
        self,
        number: int,
        process: Any,
        pipe: "connection.Connection[Any, Any]",
        crew: "list[WorkerPipe]",
        patience: Patience,
    ) -> None:
        self.number, self.process, self._pipe, self._crew = number, process, pipe, crew
        self._patience = patience
        self.timeout, self._until = START_TIMEOUT, 0.0

    def send(self, message: Any) -> None:
        self._until = self._patience.waited + self.timeout
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
            ready = self._patience.wait([self._pipe, *running], self._until)
            if self._pipe in ready:
                return
            if not ready:
                raise self._broken(f"gave no answer within {self.timeout:g} s")
            for sentinel in ready:
                ended = running.pop(sentinel)
                ended.process.join()
                if ended.process.exitcode != 0:  # exit code 0: it raised an exception, which its answer describes
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
        """Ask the worker to end when it has finished its current step."""
        with contextlib.suppress(OSError):
            self._pipe.send(("close", None))

    def close(self) -> None:
        self._pipe.close()
