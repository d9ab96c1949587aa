"""Files that outlive whatever ends the process: written whole or not at all, synced, with one writer at a time."""

import collections
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

from rlgd.errors import StorageFault, UsageError


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


MAX_JSON = 2**24  # bytes of a file that is read at once


def write_json(path: Path, value: dict[str, Any]) -> None:
    replace(path, json.dumps(value, indent=2) + "\n")


def read_versioned(path: Path, what: str, *format_versions: int) -> dict[str, Any]:
    """A JSON object with one of these ``format_versions``, which makes its directory a run, or ``what`` else.

    Raises:
        UsageError: if there is none, or it is of another format.
        StorageFault: if it is damaged.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = json.loads(file.read(MAX_JSON))
    except OSError as error:
        raise UsageError(f"{path.parent} holds no {what}: {path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise StorageFault(f"{path} is damaged: it is not JSON.") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if found not in format_versions:
        known = " or ".join(map(str, sorted(format_versions)))
        raise UsageError(f"{path} has format_version {found!r}; this rlgd reads {known}.")
    return content
