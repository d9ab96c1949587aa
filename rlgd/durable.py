"""Files that outlive whatever ends the process: written whole or not at all, synced, with one writer at a time."""

import collections
import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

from rlgd.errors import UsageError

LOCK = "run.lock"
SIGNED_WITHIN = 1.0  # seconds


def sync(path: Path) -> None:
    """Have the system write a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Give a file new content; at any instant it holds either the old or the new one, whole.

    Raises:
        OSError: if it cannot be written; it is as it was.
    """
    beside = path.with_name(path.name + ".tmp")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def why(error: Exception, path: Path) -> str:
    """What is wrong, in one line, and how much room is left on the disk of ``path``."""
    text = error.strerror if isinstance(error, OSError) else None
    reason = text or f"{type(error).__name__}: {error}".splitlines()[0][:200]
    try:
        return f"{reason}; {shutil.disk_usage(path).free:,} bytes are free"
    except OSError:
        return reason


class Appender:
    """Appends records to a file at once, so that they outlive the process. Trouble loses nothing: what the disk did not
    take stays in memory, in order, and is tried again with what is appended next.

    Attributes:
        fault: what is wrong at present, or None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        self._waiting: collections.deque[bytes] = collections.deque()
        self._torn = 0  # bytes of the first one that are in the file
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)

    def append(self, record: bytes = b"") -> None:
        """Add a record to the end."""
        self._waiting.append(record)
        try:
            if not os.fstat(self._file).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "it was removed")
            while self._waiting:
                while self._torn < len(self._waiting[0]):
                    self._torn += os.write(self._file, self._waiting[0][self._torn :])
                self._waiting.popleft()
                self._torn = 0
            self.fault = None
        except OSError as error:
            self.fault = f"{self.path} cannot be written: {why(error, self.path.parent)}"

    def sync(self) -> None:
        """Have the system write what it took to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Try what is left once more, and close the file; at its end is a whole record."""
        self.append()
        if self._torn:
            os.ftruncate(self._file, os.fstat(self._file).st_size - self._torn)
        self.sync()
        os.close(self._file)


class Lock:
    """The right to write in a run directory. It dies with its process, so it is never in the way of a later one.

    Who has it and is going to write signs it.

    Raises:
        UsageError: if another process has it, naming it.
    """

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._signed = False
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _owner(self._file)
            self.release()
            raise UsageError(f"{directory} is being written by another process{owner}.") from None

    def sign(self) -> None:
        """Say in the file who has it."""
        signature = {"pid": os.getpid(), "host": socket.gethostname(), "start": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._signed = True
        os.truncate(self._file, 0)
        os.pwrite(self._file, json.dumps(signature).encode() + b"\n", 0)

    def release(self) -> None:
        """Let others write."""
        try:
            if self._signed:
                with contextlib.suppress(OSError):
                    os.truncate(self._file, 0)
        finally:
            os.close(self._file)


def _owner(file: int) -> str:
    """Who signed a lock, as far as it can be read; who just took it is about to sign."""
    end = time.monotonic() + SIGNED_WITHIN
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            owner: Any = json.loads(os.pread(file, 1000, 0))
            if owner["host"] != socket.gethostname() or _is_alive(int(owner["pid"])):
                return f" (pid {int(owner['pid'])} on {owner['host']}, since {owner['start']})"
        time.sleep(0.01)
    return ""


def _is_alive(pid: int) -> bool:
    """Whether there is such a process; one that was killed could not take its signature back."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
