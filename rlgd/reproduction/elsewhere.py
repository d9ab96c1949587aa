"""Train the runs of a suite on an engine: each run is a job, which writes its directory and resumes from it.

Workers may be on other machines, where no signal reaches them. So a file in the suite's directory is their permit: as
long as it says what it said when the job was sent, they train.
"""

import contextlib
import signal
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import NamedTuple

from rlgd.engines.jobs import run_jobs
from rlgd.errors import Interrupted, UsageError
from rlgd.reproduction.jobs import INTERRUPTED_MESSAGE, POLL_SECONDS, Job, OnJob, train_job
from rlgd.run.config import RunConfig
from rlgd.system.files import replace, why
from rlgd.system.lock import LOCK, is_claimed
from rlgd.system.signals import PollSignal

PERMIT = "engine.permit"
READ_SECONDS = 1.0  # between two looks at the permit
SAVE_SECONDS = 60.0  # that workers get to save their runs, after the permit is gone


class _Sent(NamedTuple):
    """A job as it travels: with the content of the permit, and what prepares JAX in a worker."""

    job: Job
    permit: Path
    token: str
    set_up: Callable[[RunConfig], None]


def train_jobs(
    jobs: Sequence[Job],
    root: Path,
    executor: Executor,
    at_once: int | None,
    set_up: Callable[[RunConfig], None],
    poll_signal: PollSignal,
    on_job: OnJob,
) -> None:
    """Train runs on an executor. If one fails, or its workers die again and again, the others still run.

    Args:
        jobs: the runs.
        root: the suite's directory, which all workers see under the same path.
        executor: trains the runs.
        at_once: runs that are handed to it at a time; None: all.
        set_up: called in each worker process before its first run.
        poll_signal: see ``rlgd.run.api.execute``.
        on_job: called for each run that has ended.

    Raises:
        Interrupted: if a signal has arrived; the runs are saved.
    """

    def raise_on_signal() -> None:
        if (number := poll_signal()) is not None:
            raise Interrupted(INTERRUPTED_MESSAGE, number)

    with _permit(root.absolute()) as (path, token):
        sent = [_Sent(job._replace(directory=job.directory.absolute()), path, token, set_up) for job in jobs]
        own = {each.job.directory: job for each, job in zip(sent, jobs, strict=True)}
        with contextlib.closing(run_jobs(executor, _train, sent, at_once, raise_on_signal)) as ended_jobs:
            try:
                for ended in ended_jobs:
                    on_job(own[ended.job.job.directory], ended.lost or ended.result)
            except BaseException:
                path.unlink()
                _wait_until_saved(list(own))
                raise


@contextlib.contextmanager
def _permit(root: Path) -> Iterator[tuple[Path, str]]:
    """The permit while workers may train: its path and its content."""
    path, token = root / PERMIT, uuid.uuid4().hex
    try:
        replace(path, token)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {why(error, root)}") from error
    try:
        yield path, token
    finally:
        path.unlink(missing_ok=True)


def _wait_until_saved(directories: Sequence[Path]) -> None:
    """Wait until no worker writes a run, but not for ever: one that died elsewhere may seem to."""
    end = time.monotonic() + SAVE_SECONDS
    while any(is_claimed(directory / LOCK) for directory in directories) and time.monotonic() < end:
        time.sleep(POLL_SECONDS)


class _Watch:
    """Polls the permit in place of a signal."""

    def __init__(self, permit: Path, token: str) -> None:
        self._permit, self._token = permit, token
        self._read, self._holds = -READ_SECONDS, True

    def __call__(self) -> int | None:
        """SIGTERM, once the permit is gone or is another one's."""
        now = time.monotonic()
        if self._holds and now - self._read >= READ_SECONDS:
            self._read = now
            try:
                self._holds = self._permit.read_text() == self._token
            except OSError:
                self._holds = False
        return None if self._holds else int(signal.SIGTERM)


_is_set_up = False


def _train(sent: _Sent) -> str | None:
    """Train a run, in a worker; the problem that ended it."""
    global _is_set_up
    if not _is_set_up:
        sent.set_up(sent.job.config())
        _is_set_up = True
    try:
        return train_job(sent.job, _Watch(sent.permit, sent.token))
    except Interrupted:
        return None  # the process that took the permit away raises its own
