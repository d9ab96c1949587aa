"""What runs in a worker process, and how one is started. It imports no JAX."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

from gymnasium.vector.async_vector_env import _async_worker

from rlgd.envs.aliases import GymEnv
from rlgd.envs.host.checked import Broken

GRACE = 2.0  # seconds to end by itself before it is killed

# A terminal's Ctrl-C and a cluster's preemption reach all processes: only the main one reacts, and ends the workers.
FOR_MAIN = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def apart_from_main() -> Iterator[None]:
    """Start processes that do not run the caller's script again, and that get no signal before they can handle it.

    What the script defines is pickled with the maker and needs no second run.
    """
    resource_tracker.ensure_running()  # otherwise the first start of a process would start it, and unblock the signals
    main, blocked = sys.modules["__main__"], signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def serve(
    index: int,
    maker: Callable[[], GymEnv],
    pipe: Any,
    parent_pipe: Any,
    shared_memory: Any,
    error_queue: Any,
    *mode_and_semaphore: Any,
) -> None:
    """The main function of a worker process: Gymnasium's own loop, until the main process ends it or is gone."""
    for number in FOR_MAIN:
        # Not SIG_IGN: processes that the environment starts would inherit that.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FOR_MAIN)
    threading.Thread(target=_end_with_main, daemon=True).start()
    try:
        env = maker()
    except Exception as error:
        broken = error if isinstance(error, Broken) else Broken(index, f"raised {error!r}")
        pipe.recv()
        error_queue.put((index, Broken, broken, traceback.format_exc()))
        pipe.send((None, False))
        return
    with contextlib.suppress(EOFError, OSError):  # the main process is gone
        _async_worker(index, lambda: env, pipe, parent_pipe, shared_memory, error_queue, *mode_and_semaphore)


def _end_with_main() -> None:
    """End this process after the main one, even if the environment hangs: its loop looks only between steps."""
    main = multiprocessing.parent_process()
    assert main is not None
    main.join()
    time.sleep(GRACE)
    os._exit(1)
