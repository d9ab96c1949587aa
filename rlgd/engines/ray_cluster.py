"""Ray: jobs run in the workers of a cluster, or of one that is started on this machine."""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import ray

from rlgd.errors import UsageError
from rlgd.system.machine import num_cores

CONNECT_SECONDS = 10


@contextlib.contextmanager
def opened(address: str | None, workers: int | None) -> Iterator[Executor]:
    """An executor of a Ray cluster.

    Args:
        address: of a cluster, such as "host:6379", or "auto"; None starts one on this machine.
        workers: jobs that a cluster on this machine runs at once; None: one for each core.

    Raises:
        UsageError: if no cluster answers at the address.
    """
    if address is not None:
        _check_answers(address)
    here: dict[str, Any] = {"num_cpus": workers or num_cores(), "include_dashboard": False}
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **(here if address is None else {}))
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"no Ray cluster can be used at {address!r}: {str(error).partition(chr(10))[0]}.") from error
    try:
        yield RayExecutor()
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Look whether anything listens there: Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return  # "auto"
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except OSError as error:
        raise UsageError(
            f"no Ray cluster answers at {address!r} within {CONNECT_SECONDS} seconds: {error.strerror or error}."
        ) from error


class RayExecutor(Executor):
    """Ray's tasks as futures. A cancelled future ends its task."""

    def __init__(self) -> None:
        self._call: Any = ray.remote(max_retries=0)(_call)  # the caller counts deaths, so Ray does not try again

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Start a task."""
        task = self._call.remote(fn, args, kwargs)
        inner, future = task.future(), Future[Any]()
        inner.add_done_callback(lambda inner: _hand_on(inner, future))
        future.add_done_callback(lambda future: ray.cancel(task, force=True) if future.cancelled() else None)
        return future


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)


def _hand_on(inner: "Future[Any]", future: "Future[Any]") -> None:
    """Give what became of Ray's future to ours, unless that was cancelled."""
    if not future.set_running_or_notify_cancel():
        return
    if (error := inner.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(inner.result())
