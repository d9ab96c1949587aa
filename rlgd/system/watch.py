"""What ends this process soon after another one of the same program has died: JAX alone notices late, and aborts.

Process 0 has a connection to each of the others, over which nothing is sent until a process ends. The system closes the
connections of a process that dies. One that ends by itself says so before, and the others then have some time to end.
"""

import atexit
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from rlgd.errors import EnvironmentFault
from rlgd.system.log import log
from rlgd.system.processes import bytes_of_first, is_first

CONNECT_SECONDS = 10  # for a process to reach process 0
GRACE_SECONDS = 120  # for the others to end after one that said so: process 0 may still write
TOKEN_BYTES, NUMBER_BYTES, MESSAGE_BYTES = 16, 4, 256  # by the token process 0 knows the others from strangers
ENDED, OTHER = b"ended", b"other"  # this process has ended by itself; another one has died, which process 0 has printed
_connections: list[socket.socket] = []


def watch(host: str | None) -> None:
    """Connect the processes, so that none outlives another one for long. Every process must call it.

    One that dies then ends the others with exit code 3 and one message.

    Args:
        host: where the others reach process 0; None: at the name of its host.
    """
    _catch_abort()
    if is_first():
        listener = socket.create_server(("", 0), backlog=1024)
        token = secrets.token_bytes(TOKEN_BYTES)
        place = f"{listener.getsockname()[1]} {host or socket.gethostname()}".encode()
        bytes_of_first((token + place).ljust(MESSAGE_BYTES)[:MESSAGE_BYTES], MESSAGE_BYTES)
        _in_background(_accept, listener, token)
        return
    given = bytes_of_first(b"", MESSAGE_BYTES)
    token, (port, _, name) = given[:TOKEN_BYTES], given[TOKEN_BYTES:].decode().strip().partition(" ")
    try:
        connection = socket.create_connection((name, int(port)), CONNECT_SECONDS)
        connection.sendall(token + jax.process_index().to_bytes(NUMBER_BYTES))
    except OSError as error:
        log.error("process 0 cannot be reached at %s:%s (%s); if it dies, that is noticed late", name, port, error)
        return
    _keep(connection, 0)


def _catch_abort() -> None:
    """JAX aborts where it loses process 0, at about the time when the connection ends; that, too, is exit code 3."""
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


def _aborted(_: int) -> None:
    _speak("another process has died, so this one ends too")
    os._exit(EnvironmentFault.exit_code)


# Not a handler of Python's: those run later, in the main thread, and an abort waits for nothing.
_on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)


def _accept(listener: socket.socket, token: bytes) -> None:
    """Take the connections of the other processes; those of strangers are closed."""
    while True:
        connection, _ = listener.accept()
        connection.settimeout(CONNECT_SECONDS)
        try:
            said = connection.recv(TOKEN_BYTES + NUMBER_BYTES, socket.MSG_WAITALL)
        except OSError:
            said = b""
        if secrets.compare_digest(said[:TOKEN_BYTES], token):
            _keep(connection, int.from_bytes(said[TOKEN_BYTES:]))
        else:
            connection.close()


def _keep(connection: socket.socket, number: int) -> None:
    """Watch the connection to a process, and say over it when this one ends by itself."""
    connection.settimeout(None)
    _connections.append(connection)
    atexit.register(_say, connection, ENDED)
    _in_background(_wait_for_end, connection, number)


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # the other one has ended before
        connection.sendall(what)


def _wait_for_end(connection: socket.socket, number: int) -> None:
    try:
        said = connection.recv(len(ENDED), socket.MSG_WAITALL)
    except OSError:
        said = b""
    if said == ENDED:
        time.sleep(GRACE_SECONDS)  # this process ends too, unless it waits for the other one
    if said != OTHER:
        _speak(f"process {number} has {'ended' if said == ENDED else 'died'}, so this one ends too")
    for other in _connections:
        _say(other, OTHER)
    os._exit(EnvironmentFault.exit_code)


_spoken = threading.Lock()  # taken for good: the connection and the abort say the same


def _speak(message: str) -> None:
    if not _spoken.acquire(blocking=False):
        return
    sys.stderr.write(f"rlgd: error: {message}; `rlgd resume` continues the run from its newest checkpoint.\n")
    sys.stderr.flush()


def _in_background(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
