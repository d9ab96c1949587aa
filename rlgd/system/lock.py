"""One writer at a time in a directory."""

import contextlib
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlgd.errors import UsageError
from rlgd.system.files import open_regular

LOCK = "run.lock"
SIGNED_WITHIN = 1.0  # seconds between taking a lock and signing it


class Lock:
    """The right to write in a run directory. The system releases it when the process ends, even by a kill.

    Its owner signs it before writing, so that others can name the owner.

    Raises:
        UsageError: if another process has it; the message names the process.
        OSError: if the lock file cannot be opened, or is a symbolic link.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._signed = False
        self._file = open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(self._file)
            self.release()
            raise UsageError(f"{directory} is being written by another process{owner}.") from None

    def sign(self) -> None:
        """Write into the file which process has the lock."""
        signature = {"pid": os.getpid(), "host": socket.gethostname(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._signed = True
        os.truncate(self._file, 0)
        os.pwrite(self._file, json.dumps(signature).encode() + b"\n", 0)

    def release(self) -> None:
        """Give the lock back."""
        try:
            if self._signed:
                with contextlib.suppress(OSError):
                    os.truncate(self._file, 0)
        finally:
            os.close(self._file)


def is_held(directory: Path) -> bool:
    """Whether a process writes in the directory now.

    A lock that nobody signed is not tried: for an instant that would keep others from taking it.

    Raises:
        OSError: if the lock file exists and cannot be opened.
    """
    try:
        file = open_regular(directory / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    if not os.fstat(file).st_size:
        os.close(file)
        return False
    return _is_locked(file)


def _is_locked(file: int) -> bool:
    """Whether another process has the lock of an open file, which is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the signed lock of a directory.

    Raises:
        UsageError: if another process has it, or the directory cannot be written.
    """
    try:
        lock = Lock(directory)
    except OSError as error:
        raise UsageError(f"{directory} cannot be written: {error.strerror}.") from error
    try:
        try:
            lock.sign()
        except OSError as error:
            raise UsageError(f"{directory} cannot be written: {error.strerror}.") from error
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process is inside the same block; ``path`` is a file for this lock alone.

    Raises:
        OSError: if the file cannot be opened, or is a symbolic link.
    """
    file = open_regular(path, os.O_RDWR | os.O_CREAT)
    try:
        wait(file)
        yield
    finally:
        os.close(file)


def wait(file: int) -> None:
    """Wait for the lock on an open file; closing the file gives it back."""
    fcntl.flock(file, fcntl.LOCK_EX)


class Claim:
    """A locked file that says that this process is at work. The lock dies with the process, the file may stay.

    Raises:
        OSError: if the file cannot be opened, is a symbolic link, or is claimed already.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, open_regular(path, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise

    def release(self) -> None:
        """The work is over: remove the file."""
        with contextlib.suppress(OSError):  # a file that stays claims nothing
            self._path.unlink()
        os.close(self._file)


def is_claimed(path: Path) -> bool:
    """Whether a process that lives has a ``Claim`` to this file.

    Raises:
        OSError: if the file exists and cannot be opened.
    """
    try:
        file = open_regular(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    return _is_locked(file)


def _owner(file: int) -> str:
    """Who signed a lock, in words; "" if it stays unsigned. A process that has just taken it gets time to sign."""
    end = time.monotonic() + SIGNED_WITHIN
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            owner: Any = json.loads(os.pread(file, 1000, 0))
            if owner["host"] != socket.gethostname() or _is_alive(int(owner["pid"])):
                return f" (pid {int(owner['pid'])} on {owner['host']}, since {owner['start']})"
        time.sleep(0.01)
    return ""


def _is_alive(pid: int) -> bool:
    """Whether the process exists: one that was killed has left its signature in the file."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
