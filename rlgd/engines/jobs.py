"""Run jobs on any ``concurrent.futures.Executor``; a job whose worker dies is submitted again."""

import concurrent.futures
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, NamedTuple

from rlgd import errors
from rlgd.errors import EnvironmentFault, RlgdError, UsageError

RESTARTS = 2  # of a job whose worker died
POLL_SECONDS = 0.2  # between two calls of ``between``


class Ended(NamedTuple):
    """A job that has ended.

    Attributes:
        job: as it was given.
        result: what its function returned.
        why_lost: if its worker died each time, what the executor said last; else "".
    """

    job: Any
    result: Any = None
    why_lost: str = ""

    @property
    def lost(self) -> str:
        """That its workers died, in words; "" if they did not."""
        return f"its worker died {RESTARTS + 1} times, the last time with {self.why_lost}" if self.why_lost else ""


class _Failure(NamedTuple):
    """An error that the job's own code raised, as plain values.

    Attributes:
        kind: the name of its class in ``rlgd.errors``; "" for another one.
        message: of the error.
        trace: where it was raised.
    """

    kind: str
    message: str
    trace: str

    def error(self) -> RlgdError:
        """The same error, to be raised here."""
        error: RlgdError = getattr(errors, self.kind)(self.message) if self.kind else RlgdError(self.message)
        error.add_note(self.trace)
        return error


def check_executor(executor: Any) -> None:
    """Check that an executor of the caller's is one.

    Raises:
        UsageError: if it is not.
    """
    if executor is not None and not isinstance(executor, Executor):
        raise UsageError(f"executor is {executor!r}; expected a concurrent.futures.Executor.")


def run_jobs(
    executor: Executor,
    function: Callable[[Any], Any],
    jobs: Sequence[Any],
    at_once: int | None = None,
    between: Callable[[], None] = lambda: None,
) -> Generator[Ended, None, None]:
    """Run ``function(job)`` for each job; yields them as they end.

    What the function raises is raised here, and not tried again. So an exception of a future is the executor's own: its
    worker has died, and the job is submitted again, at most ``RESTARTS`` times. Jobs that have not ended are cancelled
    when the iterator is closed or anything is raised.

    Args:
        executor: where they run.
        function: of a module that workers can import.
        jobs: the arguments, which can be sent to other processes.
        at_once: jobs that are submitted at a time; None: all, and the executor decides.
        between: called every ``POLL_SECONDS``; it may raise, which ends all.

    Raises:
        EnvironmentFault: if the executor takes no more jobs.
    """
    waiting, deaths = list(enumerate(jobs)), Counter[int]()
    running: dict[Future[Any], tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and (at_once is None or len(running) < at_once):
                number, job = waiting.pop(0)
                running[_submitted(executor, function, job)] = number, job
            done, _ = concurrent.futures.wait(running, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
            between()
            for future in done:
                number, job = running.pop(future)
                if (died := _death(future)) is None:
                    yield Ended(job, _result(future))
                    continue
                deaths[number] += 1
                if deaths[number] > RESTARTS:
                    yield Ended(job, None, died)
                else:
                    waiting.insert(0, (number, job))
    finally:
        for future in running:
            future.cancel()


def _submitted(executor: Executor, function: Callable[[Any], Any], job: Any) -> "Future[Any]":
    try:
        return executor.submit(_call, function, job)
    except (concurrent.futures.BrokenExecutor, RuntimeError) as error:  # RuntimeError: it was shut down
        raise EnvironmentFault(f"the executor takes no more jobs: {error}") from error


def _call(function: Callable[[Any], Any], job: Any) -> Any:
    """What a worker does: its own errors come back as values, so that they are no deaths of workers."""
    try:
        return function(job)
    except Exception as error:
        kind = type(error).__name__
        known = isinstance(error, RlgdError) and hasattr(errors, kind)
        message = str(error) if known else f"a job failed: {kind}: {error}".partition("\n")[0]
        return _Failure(kind if known else "", message, traceback.format_exc())


def _death(future: "Future[Any]") -> str | None:
    """What the executor says of a worker that died; None if the job came to its end."""
    if future.cancelled():
        return "the job was cancelled"
    error = future.exception()
    if error is None:
        return None
    text = str(error).strip().partition("\n")[0][:120]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _result(future: "Future[Any]") -> Any:
    result = future.result()
    if isinstance(result, _Failure):
        raise result.error()
    return result
