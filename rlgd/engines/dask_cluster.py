"""Dask: jobs run on the workers of a scheduler, or of a cluster that is started on this machine."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import Executor

import dask
from distributed import Client, LocalCluster

from rlgd.errors import UsageError
from rlgd.system.machine import num_cores

CONNECT_SECONDS = 10
KEEP_SECONDS = 1.0  # between two looks at the workers


@contextlib.contextmanager
def opened(address: str | None, workers: int | None) -> Iterator[Executor]:
    """An executor of a Dask cluster.

    Args:
        address: of a scheduler, such as "tcp://host:8786"; None starts a cluster of processes on this machine.
        workers: processes of that cluster; None: one for each core.

    Raises:
        UsageError: if no scheduler answers at the address.
    """
    with contextlib.ExitStack() as stack:
        if address is None:
            address = stack.enter_context(_local_cluster(workers or num_cores())).scheduler_address
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise UsageError(
                f"no Dask scheduler answers at {address!r} within {CONNECT_SECONDS} seconds: {error}."
            ) from error
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _local_cluster(workers: int) -> Iterator[LocalCluster]:
    """A cluster of processes, one job each at a time; the caller counts their deaths, so Dask does not."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None,
            silence_logs=logging.CRITICAL, memory_limit=0,
        ) as cluster,
    ):  # fmt: skip
        over = threading.Event()
        threading.Thread(target=_keep, args=(cluster, workers, over), daemon=True).start()
        try:
            yield cluster
        finally:
            over.set()


def _keep(cluster: LocalCluster, workers: int, over: threading.Event) -> None:
    """Start again the workers that Dask has given up, until it is ``over``.

    Dask restarts a worker that dies, but not one that dies while it starts, as with a job that kills it at once. Jobs
    would then wait for ever.
    """
    while not over.wait(KEEP_SECONDS):
        assert cluster.loop is not None
        cluster.loop.add_callback(cluster.scale, workers)
