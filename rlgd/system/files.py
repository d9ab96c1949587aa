"""Files that survive the end of the process, however it ends: written whole or not at all, and synced."""

import collections
import errno
import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlgd.errors import UsageError


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file with these flags, or make one if they include ``O_CREAT``; returns its descriptor.

    Raises:
        OSError: if it cannot be opened, or is a link, a named pipe or anything else that is not a regular file.
    """
    check_regular(path)
    # What lies there may have changed since; opening a named pipe would wait for its other end.
    careful = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | careful, 0o666)
    if not stat.S_ISREG(mode := os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, f"there is {_kind(mode)}", str(path))
    return descriptor


def sync(path: Path) -> None:
    """Make the system write a file, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_regular(path: Path) -> None:
    """Check that a path has a regular file, or nothing: no link, no folder, no FIFO.

    Raises:
        OSError: saying what lies there.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, f"there is {_kind(mode)}", str(path))


def _kind(mode: int) -> str:
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFREG: "a file"}
    return kinds.get(stat.S_IFMT(mode), "of another kind")


def check_own(directory: Path, marker: str, names: Iterable[str], what: str, folders: Iterable[str] = ()) -> None:
    """Check that what rlgd is about to write in a directory is its own.

    The marker file says that a directory is a study, say: then these names in it are the study's, and must be what a
    study writes. Without the marker none of them may exist.

    Args:
        directory: to write in.
        marker: the file that rlgd writes first.
        names: of the other files.
        what: "study", for messages.
        folders: names of folders.

    Raises:
        UsageError: naming what is in the way.
    """
    paths = [path for name in (marker, *names, *folders) if os.path.lexists(path := directory / name)]
    is_ours = (directory / marker).is_file()  # after the look at the others: another process may begin just now
    for path in paths:
        mode = path.lstat().st_mode
        expected = stat.S_ISDIR if path.name in folders else stat.S_ISREG
        if not expected(mode):
            raise UsageError(f"{path} is {_kind(mode)}; a {what} writes in its own directory only. Remove it.")
        if not is_ours:
            raise UsageError(f"{path} is in the way, and belongs to no {what}; remove it, or name another directory.")


def make_folder(directory: Path, *names: str) -> Path:
    """Make ``directory/name/name/...``, step by step, so that no link leads out of the directory.

    Raises:
        OSError: if it cannot be made, or something else than a folder is there.
    """
    for name in names:
        directory = directory / name
        try:
            directory.mkdir()
        except FileExistsError:
            if not stat.S_ISDIR(mode := directory.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, f"there is {_kind(mode)}", str(directory)) from None
    return directory


def unfinished(path: Path) -> Path:
    """Where ``replace`` builds the new content: a name that nobody else takes.

    A kill leaves this file, and the next ``replace`` takes it.
    """
    return path.with_name(path.name + ".rlgd.tmp")


def replace(path: Path, content: str | bytes) -> None:
    """Give a file new content; at any instant the file has either the old content or the new one, whole.

    Raises:
        OSError: if it cannot be written, or a link or a folder is in its place; the file keeps its old content.
    """
    beside = unfinished(path)
    data = content.encode() if isinstance(content, str) else content
    check_regular(path)
    descriptor = open_regular(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def why(error: Exception, path: Path) -> str:
    """The error in one line, and how many bytes are free on the disk of ``path``."""
    text = error.strerror if isinstance(error, OSError) else None
    reason = text or f"{type(error).__name__}: {error}".splitlines()[0][:200]
    try:
        return f"{reason}; {shutil.disk_usage(path).free:,} bytes are free"
    except OSError:
        return reason


class Appender:
    """Appends records to a file immediately, so that they survive the process.

    A write error loses nothing: records that were not written stay in memory, in order, and are written with the next
    one. An interrupt at any moment neither loses a record nor writes one twice. Nobody else may write to the file.

    Attributes:
        fault: the current write error, in words; None if there is none.

    Raises:
        OSError: if the file cannot be opened, or is a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault: str | None = None
        # Where each waiting record begins in the file. What is written of it follows from the file's size: a count in
        # memory would be wrong after an interrupt between the write and the count.
        self._waiting: collections.deque[tuple[int, bytes]] = collections.deque()
        self._file = open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def append(self, record: bytes = b"") -> None:
        """Add a record to the end."""
        start, last = self._waiting[-1] if self._waiting else (self._size(), b"")
        self._waiting.append((start + len(last), record))
        try:
            if not os.fstat(self._file).st_nlink:
                raise FileNotFoundError(errno.ENOENT, "it was removed")
            while self._waiting:
                start, record = self._waiting[0]
                while (written := self._size() - start) < len(record):
                    os.write(self._file, record[written:])
                self._waiting.popleft()
            self.fault = None
        except OSError as error:
            self.fault = f"{self.path} cannot be written: {why(error, self.path.parent)}"

    def _size(self) -> int:
        return os.fstat(self._file).st_size

    def sync(self) -> None:
        """Make the system write the file to the disk."""
        os.fsync(self._file)

    def close(self) -> None:
        """Try the waiting records again, and close the file. The file ends with a whole record."""
        self.append()
        if self._waiting:
            os.ftruncate(self._file, self._waiting[0][0])
        self.sync()
        os.close(self._file)


def append(path: Path, text: str) -> None:
    """Append text to a file, which is made if there is none.

    Raises:
        OSError: if it cannot be written, or is a link or anything else that is not a regular file.
    """
    with os.fdopen(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "wb") as file:
        file.write(text.encode())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write ``value`` to a file, which has either its old or its new content, whatever happens."""
    replace(path, json.dumps(value, indent=2) + "\n")
