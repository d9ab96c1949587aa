"""How worker processes are started. It imports no JAX."""

import contextlib
import io
import os
import signal
from collections.abc import Iterator
from multiprocessing import context, popen_spawn_posix, reduction, resource_tracker, spawn, util
from multiprocessing.process import BaseProcess
from typing import Any

METHOD = "spawn_apart"  # for ``multiprocessing.get_context``

# A terminal's Ctrl-C and a cluster's preemption reach all processes: only the main one reacts, and ends the workers.
FOR_MAIN = (signal.SIGINT, signal.SIGTERM)


class _Launch(popen_spawn_posix.Popen):
    """Python's way to spawn, but the new process does not run the caller's script again.

    What the script defines is pickled with the maker and needs no second run. Python decides by ``__main__``, which
    other threads use too: so it stays as it is, and the order to run it is left out of what the process receives.
    """

    _fds: list[int]

    def _launch(self, process_obj: BaseProcess) -> None:
        tracker: Any = resource_tracker.getfd()
        content = self._content(process_obj)
        with contextlib.ExitStack() as of_child:
            child_reads, writes = os.pipe()
            of_child.callback(os.close, child_reads)
            self.finalizer = util.Finalize(self, os.close, (writes,))
            self.sentinel, child_holds = os.pipe()
            of_child.callback(os.close, child_holds)
            util.Finalize(self, os.close, (self.sentinel,))
            command = spawn.get_command_line(tracker_fd=tracker, pipe_handle=child_reads)
            for fd in (tracker, child_reads, child_holds):
                self.duplicate_for_child(fd)
            self.pid = util.spawnv_passfds(os.fsencode(spawn.get_executable()), command, self._fds)
        try:
            with open(writes, "wb", closefd=False) as pipe:
                pipe.write(content)
        except BrokenPipeError as error:  # which a command takes for a reader of its output that has gone
            raise RuntimeError("a worker process ended while it started") from error

    def _content(self, process: BaseProcess) -> memoryview:
        """What the new process reads first: how to prepare itself, and its main function with the arguments."""
        preparation = spawn.get_preparation_data(process.name)
        for order in ("init_main_from_name", "init_main_from_path"):
            preparation.pop(order, None)
        content = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(preparation, content)
            reduction.dump(process, content)
        finally:
            context.set_spawning_popen(None)
        return content.getbuffer()


class _Process(context.SpawnProcess):
    _Popen: Any = _Launch


class _Context(context.SpawnContext):
    _name = METHOD
    Process = _Process


_contexts: Any = vars(context)["_concrete_contexts"]
_contexts[METHOD] = _Context()  # Gymnasium takes a context by its name only


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Processes that are started here get no signal of ``FOR_MAIN`` before they can handle it."""
    resource_tracker.ensure_running()  # otherwise the first start of a process would start it, and unblock the signals
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FOR_MAIN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
