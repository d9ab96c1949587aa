"""The processes that train one program together: each has its devices, all run the same program."""

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from rlgd.errors import EnvironmentFault, RlgdError, UsageError

T = TypeVar("T")
COORDINATOR_SECONDS = 60  # to find all processes
HEARTBEAT_SECONDS = 20  # without a sign of life of a process, after which the others end


def join(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Find the other processes, before JAX starts; what is None is what the scheduler says (Slurm, MPI, Kubernetes).

    If not all come in time, this process ends with exit code 3 and one message: JAX would abort it.

    Raises:
        UsageError: if there is no scheduler that says which process this is.
    """
    where = "the processes of this job" if coordinator is None else f"all processes at {coordinator}"
    timer = threading.Timer(COORDINATOR_SECONDS, _give_up, [where])
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=2 * COORDINATOR_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except Exception as error:  # JAX raises what gRPC and its cluster detection raise
        if coordinator is None:
            raise UsageError(
                "no scheduler (Slurm, MPI, Kubernetes) says which process this is; without one give --coordinator, "
                "--num-processes and --process-id."
            ) from error
        raise UsageError(f"{where} cannot be joined: {_in_short(error)}") from error
    finally:
        timer.cancel()


def _in_short(error: Exception) -> str:
    return str(error).partition("\n")[0][:150] or type(error).__name__


def _give_up(where: str) -> None:
    sys.stderr.write(f"rlgd: error: {where} did not find one another within {COORDINATOR_SECONDS} seconds.\n")
    sys.stderr.flush()
    os._exit(EnvironmentFault.exit_code)


def are_several() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return jax.process_index() == 0


def of_first(*values: float) -> tuple[float, ...]:
    """The numbers that the first process has, so that all decide alike; every process must call it."""
    return tuple(np.frombuffer(bytes_of_first(np.array(values, np.float64).tobytes(), 8 * len(values))).tolist())


def bytes_of_first(data: bytes, size: int) -> bytes:
    """The ``size`` bytes that the first process has; every process must call it, with the same size."""
    if not are_several():
        return data
    given = np.frombuffer(data, np.uint8) if is_first() else np.zeros(size, np.uint8)
    return bytes(np.asarray(multihost_utils.broadcast_one_to_all(given)).astype(np.uint8))


def first_makes(make: Callable[[], T]) -> T | None:
    """What the first process makes; None in the others. Every process must call it.

    If it fails there, all fail: nothing else would end the others, which wait for the first one.

    Raises:
        RlgdError: in the others, if it failed in the first one, where the error itself is raised.
    """
    if not are_several():
        return make()
    made, failure = None, None
    if is_first():
        try:
            made = make()
        except BaseException as error:  # it is raised below, after the others know
            failure = error
    (failed,) = of_first(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise RlgdError("process 0 could not begin; it says why.")
    return made


def largest(value: int) -> int:
    """The largest number that a process has; every process must call it."""
    if not are_several():
        return value
    return int(multihost_utils.process_allgather(np.int32(value)).max())


def check_same(what: str, digest: bytes) -> None:
    """Compare ``digest [32]`` with those of the other processes; every process must call it.

    Raises:
        UsageError: if one has another digest.
    """
    found: Any = multihost_utils.process_allgather(np.frombuffer(digest, np.uint8))
    others = [number for number, row in enumerate(found) if not np.array_equal(row, found[0])]
    if others:
        raise UsageError(f"processes disagree about {what}: {', '.join(map(str, others))} differ from process 0.")


def end_together() -> None:
    """Wait until every process has come here: the first one must not leave while others compute.

    Raises:
        RlgdError: if one has ended before.
    """
    if are_several():
        try:
            multihost_utils.sync_global_devices("end")
        except Exception as error:
            raise RlgdError(f"a process ended before the others: {_in_short(error)}") from error
