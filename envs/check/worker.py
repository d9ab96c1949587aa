"""A first check in a spawned process, where an environment that hangs or dies does no harm.

Worker processes import this module: it imports no JAX.
"""

import math
import multiprocessing
import os
import pickle
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium

from rlgd.envs.check.play import Answer, play
from rlgd.envs.check.report import Log, describe_error
from rlgd.envs.host.parcel import Parcel, Registrations
from rlgd.envs.host.spawning import METHOD, signals_wait
from rlgd.envs.host.worker_pipe import START_TIMEOUT, Patience

STEPS = 50
REMEDY = "--vectorization sync needs no worker processes"


class WorkerResult(NamedTuple):
    """The result of a worker process.

    Attributes:
        answers: of a single environment; empty for a vector environment.
        raised: the exception, in words; "" if there was none.
        seconds: the mean time of a step.
    """

    answers: list[Answer]
    raised: str = ""
    seconds: float = 0.0


def check_in_worker(log: Log, make: Callable[[], Any], seed: int, timeout: float) -> WorkerResult | None:
    """Make an environment in a spawned process and play there; None if it cannot be sent to one.

    Raises:
        GroupEnded: if the process dies, or does not finish a stage within ``timeout`` seconds.
    """
    try:
        payload = pickle.dumps(Parcel(make, Registrations.here()))
    except Exception as error:
        what = f"it cannot be sent to another process: {describe_error(error)}"
        log.add("warning", "worker process", "start", what, f"{REMEDY}; or hold no open files, locks or the like")
        return None
    context: Any = multiprocessing.get_context(METHOD)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(sender, payload, seed, timeout), daemon=True)
    with signals_wait():
        process.start()
    sender.close()
    place, patience, until = "start", Patience(), START_TIMEOUT
    try:
        while patience.wait([receiver], until):
            answer = receiver.recv()
            if isinstance(answer, WorkerResult):
                return answer
            place, until = answer, patience.waited + timeout
        what = f"did not finish within {timeout:g} s"
    except EOFError:
        process.join(timeout)
        code = process.exitcode or 0
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"exit code {code}"
        what = f"the process died: {how}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    raise log.fatal("worker process", place, what, f"nothing else was tried with it; fix this first, or {REMEDY}")


def serve(sender: Any, payload: bytes, seed: int, timeout: float) -> None:
    """The main function of the worker process: it sends each stage that it reaches, and at last its result."""
    signal.alarm(math.ceil(3 * timeout) + 1)  # ends this process if it hangs after the main one was killed
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        sender.send("making the environment")
        env = pickle.loads(payload)()
        sender.send("reset and steps of random actions")
        start = time.monotonic()
        answers = play([env], seed, STEPS)[0] if isinstance(env, gymnasium.Env) else []
        seconds = (time.monotonic() - start) / STEPS
        sender.send("close")
        env.close()
        sender.send(WorkerResult(answers, seconds=seconds))
    except BaseException as error:
        sender.send(WorkerResult([], describe_error(error)))
