"""A probe in a spawned process: what hangs or dies there does no harm here. Workers use this module: no JAX."""

import math
import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, NamedTuple

import gymnasium
from gymnasium.vector.utils import CloudpickleWrapper

from rlgd.envs.check.play import Row, play
from rlgd.envs.check.report import Log, describe_error
from rlgd.envs.host.workers import apart_from_main

STEPS = 50
START_TIMEOUT = 300.0  # seconds to import what is needed
REMEDY = "--vectorization sync needs no worker processes"


class Played(NamedTuple):
    """What a worker process did: the rows that it got, none of a vector environment; or what it raised.

    ``seconds`` is how long a step took.
    """

    rows: list[Row]
    raised: str = ""
    seconds: float = 0.0


def probe_worker(log: Log, make: Callable[[], Any], seed: int, timeout: float) -> Played | None:
    """Make an environment in a spawned process and play there; None where it cannot be sent to one.

    Raises:
        Stop: if the process dies, or does not go on for ``timeout`` seconds.
    """
    try:
        payload = bytes(reduction.ForkingPickler.dumps(CloudpickleWrapper(make)))
    except Exception as error:
        what = f"it cannot be sent to another process: {describe_error(error)}"
        log.add("warning", "worker process", "start", what, f"{REMEDY}; or hold no open files, locks or the like")
        return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(sender, payload, seed, timeout), daemon=True)
    with apart_from_main():
        process.start()
    sender.close()
    place, deadline = "start", time.monotonic() + START_TIMEOUT
    try:
        while receiver.poll(max(0.0, deadline - time.monotonic())):
            answer = receiver.recv()
            if isinstance(answer, Played):
                return answer
            place, deadline = answer, time.monotonic() + timeout
        what = f"did not come to an end within {timeout:g} s"
    except EOFError:
        process.join(timeout)
        code = process.exitcode or 0
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        what = f"the process died: {how}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    raise log.stop("worker process", place, what, f"nothing else was tried with it; mend it first, or {REMEDY}")


def serve(sender: Any, payload: bytes, seed: int, timeout: float) -> None:
    """What the worker process does: it says where it is, and in the end what it got."""
    signal.alarm(math.ceil(3 * timeout) + 1)  # its end, if the main process is killed while this one hangs
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        sender.send("making the environment")
        env = reduction.ForkingPickler.loads(payload)()
        sender.send("reset and steps of random actions")
        begun = time.monotonic()
        rows = play([env], seed, STEPS)[0] if isinstance(env, gymnasium.Env) else []
        seconds = (time.monotonic() - begun) / STEPS
        sender.send("close")
        env.close()
        sender.send(Played(rows, seconds=seconds))
    except BaseException as error:
        sender.send(Played([], describe_error(error)))
