"""Train the runs of a suite, in this process or in several."""

import concurrent.futures
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from ctypes import c_int
from multiprocessing.process import BaseProcess
from typing import Any

from rlgd.envs.host.spawning import METHOD, signals_wait
from rlgd.errors import Interrupted
from rlgd.reproduction.jobs import INTERRUPTED_MESSAGE, POLL_SECONDS, Job, OnJob, train_job
from rlgd.run.config import RunConfig
from rlgd.system.signals import SIGNALS, PollSignal


def train_jobs(
    jobs: Sequence[Job],
    workers: int,
    set_up: Callable[[RunConfig], None],
    poll_signal: PollSignal,
    on_job: OnJob,
    sinks: Sequence[Any] = (),
) -> None:
    """Train runs, one after another or in several processes. If one fails, the others still run.

    Args:
        jobs: the runs.
        workers: the number of processes, at least 1; 1: this process.
        set_up: called in each worker process before its first run.
        poll_signal: see ``rlgd.run.api.execute``.
        on_job: called for each run that has ended.
        sinks: see the runs that this process trains.

    Raises:
        Interrupted: if a signal has arrived; the runs are saved.
    """
    try:
        if min(workers, len(jobs)) <= 1:
            for job in jobs:
                on_job(job, train_job(job, poll_signal, sinks))
        else:
            _train_in_processes(jobs, min(workers, len(jobs)), set_up, poll_signal, on_job)
    except Interrupted as interrupted:
        raise Interrupted(INTERRUPTED_MESSAGE, interrupted.exit_code - 128) from interrupted


def _train_in_processes(
    jobs: Sequence[Job],
    workers: int,
    set_up: Callable[[RunConfig], None],
    poll_signal: PollSignal,
    on_job: OnJob,
) -> None:
    spawn = multiprocessing.get_context(METHOD)
    stop = spawn.RawValue("i", 0)
    with concurrent.futures.ProcessPoolExecutor(workers, spawn, _start_worker, (stop, set_up, jobs[0])) as pool:
        try:
            with signals_wait():
                waiting = {pool.submit(_run_job, job): job for job in jobs}
            while waiting:
                ended, _ = concurrent.futures.wait(waiting, POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
                if (number := poll_signal()) is not None:
                    raise Interrupted(INTERRUPTED_MESSAGE, number)
                for future in ended:
                    on_job(waiting.pop(future), _result(future))
        except BaseException:
            stop.value = signal.SIGTERM  # workers save the runs that they train
            pool.shutdown(cancel_futures=True)
            raise


def _result(future: "concurrent.futures.Future[str | None]") -> str | None:
    try:
        return future.result()
    except BrokenProcessPool:
        return "a worker process died"


# State of a worker process:
_poll_signal: PollSignal
_training = threading.Lock()


def _start_worker(stop: c_int, set_up: Callable[[RunConfig], None], first: Job) -> None:
    """Prepare a worker process. Signals are for the main process, which passes them on through ``stop``."""
    global _poll_signal
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    main = multiprocessing.parent_process()
    assert main is not None
    _poll_signal = functools.partial(_signal_from_main, stop, main)
    threading.Thread(target=_exit_after, args=(main,), daemon=True).start()
    set_up(first.config())


def _signal_from_main(stop: c_int, main: BaseProcess) -> int | None:
    """SIGTERM if the main process wants workers to stop, or has died; the run is saved then."""
    return signal.SIGTERM if stop.value or not main.is_alive() else None


def _exit_after(main: BaseProcess) -> None:
    """End this process after the main process has died: no more jobs will come."""
    main.join()
    with _training:  # wait until the run in progress is saved
        os._exit(1)


def _run_job(job: Job) -> str | None:
    try:
        with _training:
            return train_job(job, _poll_signal)
    except Interrupted:
        return None  # the main process caused it and raises its own
