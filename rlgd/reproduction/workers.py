"""Trains the runs of a suite, in this process or in several."""

import concurrent.futures
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from rlgd.envs.host.worker_process import apart_from_main
from rlgd.errors import Interrupted, UsageError
from rlgd.reproduction.jobs import GO_ON, Job, OnProgress, trained_job
from rlgd.run.config import RunConfig
from rlgd.system.signals import SIGNALS, PollSignal

LOOK = 0.2  # seconds between two looks at signals, while others work


def check_workers(workers: int) -> None:
    """Check a number of processes.

    Raises:
        UsageError: if it is none.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}; allowed: a whole number from 1.")


def train(
    jobs: Sequence[Job],
    workers: int,
    set_up: Callable[[RunConfig], None],
    poll_signal: PollSignal,
    on_progress: OnProgress,
) -> None:
    """Train runs, one after the other or in several processes; one that fails is told of, and the others go on.

    Args:
        jobs: the runs.
        workers: processes; 1: this one.
        set_up: called in each of several processes before its first run.
        poll_signal: see ``rlgd.run.api.execute``.
        on_progress: called for each run that has ended.

    Raises:
        Interrupted: if a signal asked for it; the runs are saved.
    """
    try:
        if min(workers, len(jobs)) <= 1:
            for job in jobs:
                on_progress(job, trained_job(job, poll_signal))
        else:
            _train_in_processes(jobs, min(workers, len(jobs)), set_up, poll_signal, on_progress)
    except Interrupted as interrupted:
        raise Interrupted(GO_ON, interrupted.exit_code - 128) from interrupted


def _train_in_processes(
    jobs: Sequence[Job],
    workers: int,
    set_up: Callable[[RunConfig], None],
    poll_signal: PollSignal,
    on_progress: OnProgress,
) -> None:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.RawValue("i", 0)
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, _begin, (stop, set_up, jobs[0])) as pool:
        try:
            with apart_from_main():
                waiting = {pool.submit(_work, job): job for job in jobs}
            while waiting:
                ended, _ = concurrent.futures.wait(waiting, LOOK, concurrent.futures.FIRST_COMPLETED)
                if (number := poll_signal()) is not None:
                    raise Interrupted(GO_ON, number)
                for future in ended:
                    on_progress(waiting.pop(future), _result(future))
        except BaseException:
            stop.value = signal.SIGTERM  # those that train save what they have
            pool.shutdown(cancel_futures=True)
            raise


def _result(future: "concurrent.futures.Future[str | None]") -> str | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return "a worker process died"


# Of a worker process:
_poll_signal: PollSignal
_busy = threading.Lock()


def _begin(stop: Any, set_up: Callable[[RunConfig], None], first: Job) -> None:
    """Make a worker process ready: signals are for the main one, which tells of them by ``stop``."""
    global _poll_signal
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    main = multiprocessing.parent_process()
    assert main is not None
    _poll_signal = functools.partial(_told, stop, main)
    threading.Thread(target=_end_with, args=(main,), daemon=True).start()
    set_up(first.settings())


def _told(stop: Any, main: Any) -> int | None:
    """Whether the main process has everything end, or has died itself: the run is saved then."""
    return signal.SIGTERM if stop.value or not main.is_alive() else None


def _end_with(main: Any) -> None:
    """Wait no longer for jobs of a main process that has died."""
    main.join()
    with _busy:  # until what is trained is saved
        os._exit(1)


def _work(job: Job) -> str | None:
    try:
        with _busy:
            return trained_job(job, _poll_signal)
    except Interrupted:
        return None  # the main process knows
