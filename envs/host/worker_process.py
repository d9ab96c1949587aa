"""What runs in a worker process. It imports no JAX."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from gymnasium.vector.async_vector_env import _async_worker

from rlgd.envs.aliases import GymEnv
from rlgd.envs.host.checked import Broken
from rlgd.envs.host.spawning import FOR_MAIN

GRACE = 2.0  # seconds to end by itself before it is killed


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
    # The main process ends this one as a daemonic process; but the environment may start processes of its own.
    multiprocessing.current_process().daemon = False
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
