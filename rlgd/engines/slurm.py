"""Slurm by submitit: each job is a job of the queue."""

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault, UsageError
from rlgd.system.files import make_folder, why

# Otherwise it would set up logging, which closes the handlers of the program that uses rlgd, and with them its streams.
os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
import submitit

POLL_SECONDS = 0.5  # between two looks at the jobs; submitit asks Slurm less often
TIMEOUT_MINUTES = 24 * 60  # of a job, unless ``timeout_min`` says otherwise; submitit's own is 5 minutes


@contextlib.contextmanager
def opened(logs: Path, arguments: Mapping[str, Any]) -> Iterator[Executor]:
    """An executor whose jobs are in Slurm's queue; those that have not ended are cancelled at the end.

    Args:
        logs: the folder for what jobs read, print and return, on a file system that all nodes see.
        arguments: see ``EngineChoice``.

    Raises:
        UsageError: if there is no Slurm, or it does not take the arguments.
    """
    options = {"timeout_min": TIMEOUT_MINUTES, "name": "rlgd", **arguments}
    cluster = options.pop("cluster", "slurm")

    def make(folder: str) -> Any:
        executor = submitit.AutoExecutor(folder, cluster=cluster)
        executor.update_parameters(**options)
        return executor

    try:
        with tempfile.TemporaryDirectory() as folder:  # only to see whether it can be made
            make(folder)
    except (OSError, RuntimeError, ValueError, TypeError, NameError) as error:
        hint = "; --engine-arg cluster=local runs the jobs on this machine" if cluster == "slurm" else ""
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UsageError(f"submitit cannot use the cluster {cluster!r}: {reason}{hint}.") from error
    jobs = SubmititExecutor(make, logs)
    try:
        yield jobs
    finally:
        jobs.shutdown(wait=False, cancel_futures=True)


class SubmititExecutor(Executor):
    """submitit's executor as one of Python's: its jobs are no futures, so a thread looks at them.

    A future stays pending until its job ends: so ``cancel`` works all the time, and cancels the job.

    Args:
        make: makes submitit's executor, whose files are in a given folder.
        logs: the folder of these folders, each for one call of rlgd; it is made with the first job.
    """

    def __init__(self, make: Callable[[str], Any], logs: Path) -> None:
        self._make, self._logs = make, logs.absolute()
        self._executor: Any = None
        self._lock = threading.Lock()
        self._jobs: dict[Future[Any], Any] = {}
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="rlgd-slurm", daemon=True)
        self._watcher.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Put a call into the queue."""
        if self._closed.is_set():
            raise RuntimeError("cannot schedule new futures after shutdown")
        if self._executor is None:
            self._executor = self._make(self._new_folder())
        job = self._executor.submit(fn, *args, **kwargs)
        future: Future[Any] = Future()
        with self._lock:
            self._jobs[future] = job
        future.add_done_callback(lambda future: _cancel(job) if future.cancelled() else None)
        return future

    def _new_folder(self) -> str:
        """A folder of its own: the number of a job, such as a process's, may have been another one's before."""
        try:
            make_folder(self._logs.parent, self._logs.name)
            return tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=self._logs)
        except OSError as error:
            raise StorageFault(f"{self._logs} cannot be written: {why(error, self._logs)}.") from error

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Cancel the jobs that have not ended, or wait for them."""
        with self._lock:
            jobs = list(self._jobs)
        if cancel_futures:
            for future in jobs:
                future.cancel()
        if wait:
            while self._jobs:
                time.sleep(POLL_SECONDS)
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(POLL_SECONDS):
            with self._lock:
                jobs = list(self._jobs.items())
            for future, job in jobs:
                if future.cancelled() or job.done():
                    with self._lock:
                        del self._jobs[future]
                    if future.set_running_or_notify_cancel():
                        # For the result of a job that has died submitit waits a quarter of a minute.
                        threading.Thread(target=_end, args=(future, job), daemon=True).start()


def _end(future: "Future[Any]", job: Any) -> None:
    """Give a job's result, or the reason why there is none, to its future."""
    try:
        future.set_result(job.result())
    except Exception as error:  # submitit's: the job left no result
        future.set_exception(error)


def _cancel(job: Any) -> None:
    with contextlib.suppress(Exception):  # it may have ended meanwhile, and the caller can do nothing else
        job.cancel(check=False)
