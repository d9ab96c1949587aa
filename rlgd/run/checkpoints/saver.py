"""Writes checkpoints in a thread, while training continues."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from rlgd.errors import StorageFault

log = logging.getLogger("rlgd")


class Saver:
    """Does jobs in the background, one after another.

    Attributes:
        fault: why the last job failed, or None. Only the first failure in a row is a warning in the log.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self._thread = ThreadPoolExecutor(1, "rlgd-save")
        self._last: Future[None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        return self._last is not None and not self._last.done()

    def submit(self, job: Callable[[], None]) -> None:
        """Do a job after those before it."""
        self.wait()
        self._last = self._thread.submit(self._do, job)

    def wait(self) -> None:
        """Wait until every job is done, or has failed."""
        if self._last is not None:
            self._last.result()

    def close(self) -> None:
        """Wait, and end the thread."""
        self.wait()
        self._thread.shutdown()

    def _do(self, job: Callable[[], None]) -> None:
        before, self.fault = self.fault, None
        try:
            job()
        except (StorageFault, OSError) as fault:
            self.fault = str(fault)
            if before is None:
                log.warning("%s. Training continues, and tries again.", fault)
