"""Jobs on an executor: errors of their own come back, workers that die are replaced, and nothing stays behind."""

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest

from rlgd.engines.jobs import RESTARTS, Ended, check_executor, run_jobs
from rlgd.errors import EnvironmentFault, RlgdError, StorageFault, UsageError
from tests.support.engine_jobs import die, fail, square


class Mortal(Executor):
    """Threads, of which the first ones die with each job: what a worker's death looks like to the caller."""

    def __init__(self, deaths: int) -> None:
        self._deaths = deaths
        self.submitted: list[Any] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        self.submitted.append(args[1])
        future: Future[Any] = Future()
        if self.submitted.count(args[1]) <= self._deaths:
            future.set_exception(OSError("the node is gone"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_jobs_end_with_what_their_function_returns() -> None:
    with ThreadPoolExecutor(2) as pool:
        ended = {one.job: one.result for one in run_jobs(pool, square, range(5), at_once=2)}
    assert ended == {n: n * n for n in range(5)}


@pytest.mark.parametrize("deaths", [1, RESTARTS])
def test_a_job_whose_worker_dies_runs_again(deaths: int) -> None:
    executor = Mortal(deaths)
    assert sorted(one.result for one in run_jobs(executor, square, [3, 4])) == [9, 16]
    assert sorted(executor.submitted) == [3] * (deaths + 1) + [4] * (deaths + 1)


def test_a_job_whose_workers_always_die_is_given_up() -> None:
    executor = Mortal(RESTARTS + 1)
    (ended,) = run_jobs(executor, square, [3])
    assert ended == Ended(3, None, "OSError: the node is gone")
    assert ended.lost == "its worker died 3 times, the last time with OSError: the node is gone"
    assert executor.submitted == [3] * (RESTARTS + 1)


@pytest.mark.parametrize(
    ("error", "kind"), [(StorageFault("full"), StorageFault), (ValueError("odd\nmore"), RlgdError)]
)
def test_errors_of_the_code_are_raised_and_not_tried_again(error: Exception, kind: type[RlgdError]) -> None:
    executor = Mortal(0)
    with pytest.raises(kind, match=r"^full\n|^a job failed: ValueError: odd\n") as caught:
        list(run_jobs(executor, fail, [error]))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert "in fail" in caught.value.__notes__[0]
    assert executor.submitted == [error]


def test_a_pool_that_breaks_takes_no_more_jobs() -> None:
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
        pytest.raises(EnvironmentFault, match="the executor takes no more jobs"),
    ):
        list(run_jobs(pool, die, [None]))


def test_what_has_not_ended_is_cancelled() -> None:
    """When the caller stops, and when ``between`` raises."""
    begin, end = threading.Event(), threading.Event()

    def wait(job: int) -> None:
        begin.set()
        end.wait(60)

    futures: list[Future[Any]] = []

    class Pool(ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
            futures.append(super().submit(fn, *args, **kwargs))
            return futures[-1]

    def stop() -> None:
        begin.wait(60)
        raise KeyboardInterrupt

    with Pool(1) as pool:
        ended: Iterator[Ended] = run_jobs(pool, wait, range(3), between=stop)
        with pytest.raises(KeyboardInterrupt):
            next(ended)
        assert [future.cancelled() for future in futures] == [False, True, True]
        end.set()


def test_an_executor_is_one() -> None:
    check_executor(None)
    with pytest.raises(UsageError, match=r"executor is 4; expected a concurrent\.futures\.Executor"):
        check_executor(4)
